//! A configuration that mutating policies make, merged into an object without keeping books of who owns what.
//!
//! Semantics and wording of apiserver `pkg/admission/plugin/policy/mutating/patch/smd.go`.

use serde_json::Value;

use super::{parse_value, sets};
use crate::schema::{FieldValidation, KindId, ListKind, Schemas, Shape, Type};

impl Schemas {
    /// The object with what `config` sets, as canonical JSON. Fails for what is no object of the kind, and for a
    /// configuration that sets part of what can only be set as a whole.
    pub fn configure(&self, kind: KindId, live: &[u8], config: &[u8]) -> Result<Vec<u8>, String> {
        let read = |json: &[u8]| parse_value(json).map_err(|error| error.message);
        let (live, config) = (read(live)?, read(config)?);
        let root = self.root_type(kind);
        sets::of_value(self, &root, &config)
            .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
        let mut whole = Vec::new();
        find_whole(self, &root, &config, String::new(), &mut whole);
        if !whole.is_empty() {
            let whole = whole.join(", ");
            return Err(format!(
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {whole}"
            ));
        }
        let merged = sets::merge(self, &root, Some(&live), Some(&config)).unwrap_or_default();
        let text = merged.to_string();
        let decoded = self.decode_json(kind, text.as_bytes(), FieldValidation::Ignore);
        decoded
            .map(|decoded| decoded.body.into_owned())
            .map_err(|rejection| format!("failed to convert typed object to object: {}", rejection.message))
    }
}

/// Paths of what is given that is owned as a whole.
fn find_whole(schemas: &Schemas, ty: &Type, value: &Value, path: String, whole: &mut Vec<String>) {
    match (&ty.shape, value) {
        (Shape::Struct(_) | Shape::SchemaOr { .. } | Shape::Map(_), Value::Object(members)) => {
            if ty.atomic {
                whole.push(path.clone());
            }
            let (Shape::Struct(id) | Shape::SchemaOr { schema: id, .. }) = &ty.shape else { return };
            let declared = schemas.structure(*id);
            for (name, member) in members {
                if let Some(field) = declared.field(name) {
                    find_whole(schemas, &field.ty, member, format!("{path}.{name}"), whole);
                }
            }
        }
        (Shape::List(item), Value::Array(elements)) => {
            if ty.list == ListKind::Atomic {
                whole.push(path.clone());
            }
            for (at, element) in elements.iter().enumerate() {
                find_whole(schemas, item, element, format!("{path}[{at}]"), whole);
            }
        }
        _ => {}
    }
}
