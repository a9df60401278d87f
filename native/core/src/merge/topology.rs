//! Sets of fields from a time when the schema was another one: of what has become atomic since, whoever owned a part
//! owns the whole.
//!
//! Semantics of structured-merge-diff `typed/reconcile_schema.go`.

use super::fields::{FieldSet, PathElement};
use super::ownership::{Entry, Held};
use crate::schema::{KindId, ListKind, Schemas, Shape, Type};

/// The entries of an object of a custom kind as its schema has it now: those of built-in kinds never change. None if
/// some are forged.
pub(super) fn reconciled<'a>(
    schemas: &Schemas,
    kind: KindId,
    entries: Vec<Held<'a>>,
) -> Option<Vec<Held<'a>>> {
    if !schemas.is_custom() {
        return Some(entries);
    }
    let root = schemas.root_type(kind);
    entries.into_iter().map(|held| held.with_fields(|fields| brought_up(schemas, &root, fields))).collect()
}

/// The same of entries that are read already.
pub(super) fn reconcile(schemas: &Schemas, kind: KindId, entries: &mut [Entry]) {
    if schemas.is_custom() {
        let root = schemas.root_type(kind);
        for entry in entries {
            brought_up(schemas, &root, &mut entry.fields);
        }
    }
}

/// Whether that has changed anything.
fn brought_up(schemas: &Schemas, ty: &Type, set: &mut FieldSet) -> bool {
    let mut changed = false;
    for (element, below) in set.children.iter_mut().filter(|(_, below)| !below.children.is_empty()) {
        let Some(ty) = below_of(schemas, ty, element) else { continue };
        if is_atomic(ty) {
            *below = FieldSet::leaf();
            changed = true;
        } else {
            changed |= brought_up(schemas, ty, below);
        }
    }
    changed
}

fn below_of<'s>(schemas: &'s Schemas, ty: &'s Type, element: &PathElement) -> Option<&'s Type> {
    match (&ty.shape, element) {
        (Shape::Struct(id), PathElement::Field(name)) => {
            schemas.structure(*id).field(name).map(|field| &field.ty)
        }
        (Shape::Map(inner), PathElement::Field(_)) => Some(inner),
        (Shape::List(item), _) => Some(item),
        _ => None,
    }
}

fn is_atomic(ty: &Type) -> bool {
    match &ty.shape {
        Shape::Struct(_) => ty.atomic,
        // What a map of anything holds upstream leaves alone.
        Shape::Map(inner) => ty.atomic && !matches!(inner.shape, Shape::Any { .. }),
        Shape::List(_) => ty.list == ListKind::Atomic,
        _ => false,
    }
}
