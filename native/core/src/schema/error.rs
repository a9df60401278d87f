//! What a body can be refused for, in Kubernetes' words.

/// How an error is to be treated: a strict one is only a warning unless `fieldValidation=Strict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Syntax,
    Type,
    /// Of a value that Go reads by a method of its type's own.
    OwnType,
    Strict,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Syntax => "syntax",
            Kind::Type | Kind::OwnType => "type",
            Kind::Strict => "strict",
        }
    }
}

/// One fault of a body. `field` is its path, empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    pub kind: Kind,
    pub field: String,
    pub message: String,
}

impl SchemaError {
    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self { kind: Kind::Syntax, field: String::new(), message: message.into() }
    }

    pub(crate) fn typed(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: Kind::Type, field: field.into(), message: message.into() }
    }
}

/// The refusal of a request body: what the Status will say, and the faults it was made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub errors: Vec<SchemaError>,
}

impl Rejection {
    pub(crate) fn bad_request(message: String, errors: Vec<SchemaError>) -> Self {
        Self { code: 400, reason: "BadRequest", message, errors }
    }

    pub(crate) fn unsupported_media_type() -> Self {
        const MESSAGE: &str = "the body of the request was in an unknown format - accepted media types include: \
            application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Self { code: 415, reason: "UnsupportedMediaType", message: MESSAGE.into(), errors: Vec::new() }
    }
}
