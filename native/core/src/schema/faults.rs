//! What a decoder says of a body that is not as its schema has it.

use std::borrow::Cow;

use super::decode::{Decoder, MAX_STRICT_ERRORS, Step};
use super::error::{Kind, SchemaError};
use super::model::Shape;
use crate::go::named_type;
use crate::protobuf::through_embedded;

impl<'s, 'a> Decoder<'s, 'a> {
    pub fn fault(&mut self, what: &str, last: Step<'s, 'a>) {
        if self.strict.len() >= MAX_STRICT_ERRORS {
            return;
        }
        self.path.push(last);
        let message = format!("{what} field \"{}\"", self.strict_path());
        self.path.pop();
        if !self.strict.contains(&message) {
            self.strict.push(message);
        }
    }

    /// `spec.containers[0].image`, as strict errors name it.
    pub fn strict_path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            let name = match step {
                Step::Index(index) => {
                    path.push_str(&format!("[{index}]"));
                    continue;
                }
                Step::Field(name) => Cow::Borrowed(*name),
                Step::Key(key) => key.to_str(),
            };
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&name);
        }
        path
    }

    /// `spec.containers.image`.
    pub(super) fn field_path(&self) -> String {
        self.fields().collect::<Vec<_>>().join(".")
    }

    /// `spec.volumes.VolumeSource.secret`, as Go's type errors name it.
    fn go_path(&self) -> String {
        through_embedded(&self.expected.api_version, &self.expected.kind, self.fields()).join(".")
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        self.path.iter().filter_map(|step| match step {
            Step::Field(name) => Some(*name),
            _ => None,
        })
    }

    pub(super) fn found(&self) -> Result<&'static str, SchemaError> {
        Ok(match self.cursor.peek() {
            Some(b'"') => "string",
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b't' | b'f') => "bool",
            Some(b'-' | b'0'..=b'9') => "number",
            _ => return Err(self.cursor.unexpected("looking for beginning of value")),
        })
    }

    pub fn wrong_type(&self, shape: &Shape) -> SchemaError {
        match self.found() {
            Ok(found) => self.mismatch(found, shape),
            Err(syntax) => syntax,
        }
    }

    /// The name that Go has for the type of the value, where it has one of its own.
    fn named(&self) -> Option<&'static str> {
        let owner = self.schemas.structure(self.owner?);
        let of_field = self.path.iter().rposition(|step| matches!(step, Step::Field(_)))?;
        let Step::Field(field) = &self.path[of_field] else { return None };
        let mut named = named_type(&owner.definition, field)?;
        for step in &self.path[of_field + 1..] {
            let of_container = if matches!(step, Step::Index(_)) { "[]" } else { "map[string]" };
            named = named.strip_prefix(of_container)?;
        }
        Some(named)
    }

    /// Of a value that Go's type reads by itself, as `read_as`.
    pub(super) fn own_mismatch(&self, found: &str, read_as: &Shape) -> SchemaError {
        SchemaError { kind: Kind::OwnType, ..self.mismatch(found, read_as) }
    }

    pub(super) fn mismatch(&self, found: &str, shape: &Shape) -> SchemaError {
        let target = self.named().map_or_else(|| self.schemas.go_shape(shape), str::to_owned);
        let message = match self.owner {
            Some(owner) => format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {target}",
                self.schemas.structure(owner).go_name(),
                self.go_path()
            ),
            None => format!("json: cannot unmarshal {found} into Go value of type {target}"),
        };
        SchemaError::typed(self.field_path(), message)
    }
}
