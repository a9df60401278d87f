//! Field sets and values of a schema: what a value sets, two values merged, a set taken out of a value.
//!
//! Semantics of structured-merge-diff `typed/tofieldset.go`, `typed/merge.go`, `typed/remove.go`.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value};

use super::compare::key_of;
use super::fields::{FieldSet, PathElement};
use super::typing;
use crate::schema::{ListKind, Schemas, Shape, Struct, Type};

/// How a value of a type is owned.
enum Structure<'s> {
    /// As a whole.
    Whole,
    /// Member by member: those of a struct, or all of one type.
    Members(Option<&'s Struct>, Option<&'s Type>),
    Elements(&'s Type, &'s ListKind),
}

fn structure<'s>(schemas: &'s Schemas, ty: &'s Type, value: &Value) -> Structure<'s> {
    if ty.atomic {
        return Structure::Whole;
    }
    match &ty.shape {
        // Objects of custom kinds need not be of the type their schema gives them.
        Shape::Struct(_) | Shape::Map(_) if !(value.is_object() || value.is_null()) => Structure::Whole,
        Shape::List(_) if !(value.is_array() || value.is_null()) => Structure::Whole,
        Shape::Struct(id) => Structure::Members(Some(schemas.structure(*id)), None),
        Shape::SchemaOr { schema, .. } if value.is_object() => {
            Structure::Members(Some(schemas.structure(*schema)), None)
        }
        Shape::Map(inner) => Structure::Members(None, Some(inner)),
        Shape::Any { .. } if value.is_object() => Structure::Members(None, None),
        Shape::List(item) if ty.list != ListKind::Atomic => Structure::Elements(item, &ty.list),
        _ => Structure::Whole,
    }
}

pub(super) fn element_key(list: &ListKind, item: &Value) -> PathElement {
    match list {
        ListKind::Map(keys) => key_of(keys, item),
        _ => PathElement::value(item),
    }
}

/// Everything `value` sets. Fails, naming paths, on fields that the schema does not have, values of other types and
/// elements given twice.
pub(crate) fn of_value(schemas: &Schemas, ty: &Type, value: &Value) -> Result<FieldSet, String> {
    let mut faults = Vec::new();
    let set = collect(schemas, ty, value, &mut Vec::new(), &mut faults);
    typing::summed_up(faults).map_or(Ok(set), Err)
}

/// The same of what is there already, whatever is wrong with it, with every declared field that leads to a member.
pub(crate) fn named_in(schemas: &Schemas, ty: &Type, value: &Value) -> FieldSet {
    let found = collect(schemas, ty, value, &mut Vec::new(), &mut Vec::new());
    with_named_parents(schemas, ty, &found)
}

fn collect(
    schemas: &Schemas,
    ty: &Type,
    value: &Value,
    at: &mut Vec<PathElement>,
    faults: &mut Vec<String>,
) -> FieldSet {
    let free = Type::free();
    let mut set = FieldSet::default();
    match structure(schemas, ty, value) {
        Structure::Whole => {
            typing::check(schemas, ty, value, at, faults);
            set.member = true;
        }
        Structure::Members(declared, inner) => {
            for (name, member) in value.as_object().into_iter().flatten() {
                let element = PathElement::field(name);
                let field = declared.and_then(|declared| declared.field(name));
                at.push(element.clone());
                if field.is_none() && declared.is_some_and(|declared| !declared.open) {
                    faults.push(typing::undeclared(at));
                    at.pop();
                    break;
                }
                let member_type = field.map(|field| &field.ty).or(inner).unwrap_or(&free);
                let mut below = collect(schemas, member_type, member, at, faults);
                at.pop();
                let empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
                below.member |= empty || field.is_none();
                set.push(|| element, below);
            }
        }
        Structure::Elements(item, list) => {
            let mut seen = FxHashSet::default();
            for (index, element) in value.as_array().into_iter().flatten().enumerate() {
                let Some(key) = typing::place(list, index, element, &mut seen, at, faults) else { break };
                at.push(key.clone());
                let mut below = collect(schemas, item, element, at, faults);
                at.pop();
                below.member = true;
                set.push(|| key, below);
            }
        }
    }
    set.sort();
    set
}

/// The set with every declared field that leads to a member made a member itself.
pub(crate) fn with_named_parents(schemas: &Schemas, ty: &Type, set: &FieldSet) -> FieldSet {
    let free = Type::free();
    let children = set.children.iter().map(|(element, below)| {
        let (declared, inner) = match (element, &ty.shape) {
            (PathElement::Field(name), Shape::Struct(id) | Shape::SchemaOr { schema: id, .. }) => {
                let field = schemas.structure(*id).field(name);
                (field.is_some(), field.map_or(&free, |field| &field.ty))
            }
            (PathElement::Field(_), Shape::Map(inner)) => (false, &**inner),
            (_, Shape::List(item)) => (false, &**item),
            _ => (false, &free),
        };
        let mut below = with_named_parents(schemas, inner, below);
        below.member |= declared;
        (element.clone(), below)
    });
    FieldSet { member: set.member, children: children.collect() }
}

/// `value` without the members of `set` and all below them; None, and a member of `emptied`, when nothing is left of it.
pub(crate) fn remove(
    schemas: &Schemas,
    ty: &Type,
    value: Value,
    set: &FieldSet,
    emptied: &mut FieldSet,
) -> Option<Value> {
    if set.children.is_empty() {
        return Some(value);
    }
    let free = Type::free();
    let mut left = match structure(schemas, ty, &value) {
        Structure::Whole => return Some(value),
        Structure::Members(declared, inner) => {
            let Value::Object(members) = value else { return Some(value) };
            let mut kept = Map::new();
            for (name, member) in members {
                let element = PathElement::field(&name);
                let Some(below) = set.child(&element) else {
                    kept.insert(name, member);
                    continue;
                };
                if below.member {
                    continue;
                }
                let field = declared.and_then(|declared| declared.field(&name));
                let member_type = field.map(|field| &field.ty).or(inner).unwrap_or(&free);
                let mut inner_emptied = FieldSet::default();
                let rest = remove(schemas, member_type, member, below, &mut inner_emptied);
                emptied.push(|| element, inner_emptied);
                kept.extend(rest.map(|rest| (name, rest)));
            }
            Value::Object(kept)
        }
        Structure::Elements(item, list) => {
            let Value::Array(elements) = value else { return Some(value) };
            let mut kept = Vec::new();
            for element in elements {
                let key = element_key(list, &element);
                match set.child(&key) {
                    None => kept.push(element),
                    Some(below) if below.member => {}
                    Some(below) => {
                        let mut inner_emptied = FieldSet::default();
                        kept.extend(remove(schemas, item, element, below, &mut inner_emptied));
                        emptied.push(|| key, inner_emptied);
                    }
                }
            }
            Value::Array(kept)
        }
    };
    emptied.sort();
    let empty = left.as_object().is_some_and(Map::is_empty) || left.as_array().is_some_and(Vec::is_empty);
    emptied.member = empty;
    (!empty).then(|| left.take())
}

/// Both values in one; where they disagree, `right` counts.
pub(crate) fn merge(
    schemas: &Schemas,
    ty: &Type,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Option<Value> {
    let (Some(old), Some(new)) = (left, right) else { return right.or(left).cloned() };
    if new.is_null()
        && (old.as_object().is_some_and(Map::is_empty) || old.as_array().is_some_and(Vec::is_empty))
    {
        // Where nothing is, a null counts.
        return Some(Value::Null);
    }
    let free = Type::free();
    match structure(schemas, ty, new) {
        Structure::Members(declared, inner) if old.is_object() && (new.is_object() || new.is_null()) => {
            let mut merged = old.as_object().cloned().unwrap_or_default();
            for (name, member) in new.as_object().into_iter().flatten() {
                let field = declared.and_then(|declared| declared.field(name));
                let member_type = field.map(|field| &field.ty).or(inner).unwrap_or(&free);
                let was = merged.get(name);
                if let Some(both) = merge(schemas, member_type, was, Some(member)) {
                    merged.insert(name.clone(), both);
                }
            }
            Some(Value::Object(merged))
        }
        Structure::Elements(_, _) if old.is_array() && new.is_null() => Some(old.clone()),
        Structure::Elements(item, list) if old.is_array() && new.is_array() => {
            Some(Value::Array(merge_elements(schemas, item, list, old, new)))
        }
        _ => Some(new.clone()),
    }
}

/// The applied order counts; elements that only the old list has stay where they stood among their neighbours.
fn merge_elements(schemas: &Schemas, item: &Type, list: &ListKind, old: &Value, new: &Value) -> Vec<Value> {
    let elements = |side: &Value| -> Vec<(PathElement, Value)> {
        let all = side.as_array().into_iter().flatten();
        all.map(|element| (element_key(list, element), element.clone())).collect()
    };
    let (old, new) = (elements(old), elements(new));
    let mut by_key: FxHashMap<&PathElement, &Value> = FxHashMap::default();
    for (key, element) in &old {
        by_key.entry(key).or_insert(element);
    }
    let wanted: FxHashSet<&PathElement> = new.iter().map(|(key, _)| key).collect();
    let mut shared = new.iter().map(|(key, _)| key).filter(|key| by_key.contains_key(*key));
    let mut next_shared = shared.next();
    let mut done: FxHashSet<&PathElement> = FxHashSet::default();
    let mut out = Vec::with_capacity(old.len() + new.len());
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if let (Some((key, element)), Some((new_key, new_element))) = (old.get(left), new.get(right)) {
            if key == new_key {
                done.insert(key);
                out.extend(merge(schemas, item, Some(element), Some(new_element)));
                left += 1;
                right += 1;
                next_shared = shared.next();
                continue;
            }
            // Wanted, but not in this place.
            if wanted.contains(key) && next_shared.is_some_and(|next| next != key) {
                left += 1;
                continue;
            }
        }
        if let Some((key, element)) = old.get(left) {
            if !wanted.contains(key) {
                out.push(element.clone());
                left += 1;
                continue;
            }
            if done.contains(key) {
                left += 1;
            }
        }
        if let Some((key, element)) = new.get(right) {
            done.insert(key);
            out.extend(merge(schemas, item, by_key.get(key).copied(), Some(element)));
            right += 1;
            if next_shared == Some(key) {
                next_shared = shared.next();
            }
        }
    }
    out
}
