//! Sets of fields from a time when the schema was another one: of what has become atomic since, whoever owned a part
//! owns the whole.
//!
//! Semantics of structured-merge-diff `typed/reconcile_schema.go`.

use super::fields::{FieldSet, PathElement};
use super::ownership::Entry;
use crate::schema::{KindId, ListKind, Schemas, Shape, Type};

/// Brings the entries of an object of a custom kind up to its schema: those of built-in kinds never change.
pub(super) fn reconcile<'e>(schemas: &Schemas, kind: KindId, entries: impl Iterator<Item = &'e mut Entry>) {
    if schemas.is_custom() {
        let root = schemas.root_type(kind);
        entries.for_each(|entry| bring_up(schemas, &root, &mut entry.fields));
    }
}

fn bring_up(schemas: &Schemas, ty: &Type, set: &mut FieldSet) {
    for (element, below) in set.children.iter_mut().filter(|(_, below)| !below.children.is_empty()) {
        let Some(ty) = below_of(schemas, ty, element) else { continue };
        if is_atomic(ty) {
            *below = FieldSet::leaf();
        } else {
            bring_up(schemas, ty, below);
        }
    }
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
