//! Objects that expressions make: `Name{field: value}`.
//!
//! Semantics and wording of cel-go `checker/checker.go`; the types are those of apiserver `pkg/cel/mutation`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::ast::{Field, Id};
use super::check::{Abilities, Checker, Meaning};
use super::declared::{Declared, Shape};
use super::types::Type;

/// Names of what patches are made of.
pub(crate) const JSON_PATCH: &str = "JSONPatch";
pub(crate) const OBJECT: &str = "Object";
static JSON_PATCH_TYPE: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let field = |(name, shape): (&str, Shape)| (name.into(), Arc::new(Declared::new(shape, 0, 0)));
    let fields =
        [("op", Shape::String), ("path", Shape::String), ("from", Shape::String), ("value", Shape::Dyn)];
    let fields: BTreeMap<_, _> = fields.into_iter().map(field).collect();
    Arc::new(Declared { name: JSON_PATCH.into(), ..Declared::new(Shape::Object(fields), 0, 0) })
});

impl Abilities {
    /// A type of objects that patches are made of.
    pub(super) fn message(self, name: &str) -> Option<Type> {
        if !self.patches {
            return None;
        }
        if name == JSON_PATCH {
            return Some(JSON_PATCH_TYPE.ty());
        }
        let shape = (name == OBJECT || name.starts_with("Object.")).then_some(Shape::Open)?;
        Some(Arc::new(Declared { name: name.into(), ..Declared::new(shape, 0, 0) }).ty())
    }
}

impl Checker {
    /// `Name{field: value}`.
    pub(super) fn structure(&mut self, id: Id, name: &str, fields: &mut [Field]) -> Type {
        let ty = match self.lookup(name) {
            None => {
                self.undeclared(id, name);
                return Type::Error;
            }
            Some((_, Some(Meaning::Type(ty @ Type::Object(_))))) => ty,
            Some(_) => {
                self.fault(id, format!("'{name}' is not a message type"));
                Type::Error
            }
        };
        for field in fields {
            self.expr(&mut field.value);
            let mut given = self.get(field.value.id);
            if field.optional {
                given = self.unwrapped(field.value.id, given);
            }
            let Type::Object(declared) = &ty else { continue };
            let Some(wanted) = declared.field(&field.name).map(Declared::ty) else {
                self.fault(field.id, format!("undefined field '{}'", field.name));
                continue;
            };
            if !self.bindings.assignable(&wanted, &given) {
                let (wanted, given) = (wanted.shown(), given.shown());
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{given}'",
                    field.name
                );
                self.fault(field.id, message);
            }
        }
        ty
    }
}
