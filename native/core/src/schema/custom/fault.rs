//! What is wrong with an object or a definition, as the causes of a Status tell it.
//!
//! Wording of apimachinery `util/validation/field/errors.go`.

use std::fmt::Write as _;

use serde_json::Value;

use crate::go;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Required,
    Invalid,
    TypeInvalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
}

impl Reason {
    /// The cause's reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
        }
    }

    /// Rules could not make sense of such an object.
    pub fn blocks_rules(self) -> bool {
        matches!(
            self,
            Self::NotSupported | Self::Required | Self::TooLong | Self::TooMany | Self::TypeInvalid
        )
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One fault: the cause of a Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: Reason,
    /// `spec.containers[0].image`; `<nil>` for the object itself, as upstream prints it.
    pub field: String,
    pub message: String,
}

/// The field of a fault of the object itself.
pub(crate) const NO_FIELD: &str = "<nil>";

impl Fault {
    fn new(reason: Reason, field: &str, shown: Option<String>, detail: &str) -> Self {
        let mut message = reason.words().to_owned();
        if let Some(shown) = shown {
            let _ = write!(message, ": {shown}");
        }
        if !detail.is_empty() {
            let _ = write!(message, ": {detail}");
        }
        let field = if field.is_empty() { NO_FIELD } else { field };
        Self { reason, field: field.to_owned(), message }
    }

    pub fn required(field: &str, detail: &str) -> Self {
        Self::new(Reason::Required, field, None, detail)
    }

    pub fn forbidden(field: &str, detail: &str) -> Self {
        Self::new(Reason::Forbidden, field, None, detail)
    }

    pub fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(Reason::Invalid, field, Some(go::shown(value)), detail)
    }

    pub fn invalid_text(field: &str, value: &str, detail: &str) -> Self {
        Self::new(Reason::Invalid, field, Some(go::quote(value)), detail)
    }

    /// The value is too long to be told, or is none.
    pub fn invalid_unshown(field: &str, detail: &str) -> Self {
        Self::new(Reason::Invalid, field, None, detail)
    }

    pub fn wrong_type(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(Reason::TypeInvalid, field, Some(go::shown(value)), detail)
    }

    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(Reason::Duplicate, field, Some(go::shown(value)), "")
    }

    pub fn duplicate_unshown(field: &str) -> Self {
        Self::new(Reason::Duplicate, field, None, "")
    }

    pub fn not_supported(field: &str, value: &Value, supported: &[String]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|text| go::quote(text)).collect();
        let detail = match quoted.as_slice() {
            [] => String::new(),
            quoted => format!("supported values: {}", quoted.join(", ")),
        };
        Self::new(Reason::NotSupported, field, Some(go::shown(value)), &detail)
    }

    pub fn too_long(field: &str, most: i64) -> Self {
        let bytes = if most == 1 { "byte" } else { "bytes" };
        let detail = match most {
            0.. => format!("may not be more than {most} {bytes}"),
            _ => "value is too long".to_owned(),
        };
        Self::new(Reason::TooLong, field, None, &detail)
    }

    pub fn too_many(field: &str, actual: usize, most: i64) -> Self {
        let items = if most == 1 { "item" } else { "items" };
        let detail = match most {
            0.. => format!("must have at most {most} {items}"),
            _ => "has too many items".to_owned(),
        };
        Self::new(Reason::TooMany, field, Some(actual.to_string()), &detail)
    }

    pub fn internal(field: &str, detail: &str) -> Self {
        Self::new(Reason::Internal, field, None, detail)
    }
}
