//! Strategic merge patch: like JSON merge patch, but lists merge by key as the schema says, and directives steer it.
//!
//! Semantics of k8s.io/apimachinery `pkg/util/strategicpatch`: `$patch` replaces, deletes or merges a map or list
//! element, `$retainKeys` names the keys of a map that stay, `$setElementOrder/<list>` orders a merged list,
//! `$deleteFromPrimitiveList/<list>` removes scalars from one.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::lists::{KeyedList, ordered, remove_all, union};
use super::{PatchFailure, refusing};
use crate::schema::{Schemas, Shape, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

pub(crate) fn apply(
    schemas: &Schemas,
    ty: &Type,
    target: &mut Value,
    patch: Value,
) -> Result<(), PatchFailure> {
    let changes = match patch {
        Value::Object(changes) => changes,
        other => return Err(PatchFailure::bad_request(refusing::no_members(&other))),
    };
    let Value::Object(members) = target else {
        return Err(PatchFailure::bad_request("Invalid JSON document"));
    };
    Merger { schemas }.object(ty, members, changes)
}

fn unknown_directive(directive: Value, mut patch: Object) -> PatchFailure {
    let named = match &directive {
        Value::String(name) => name.clone(),
        Value::Number(number) if number.is_i64() => format!("%!s(int64={number})"),
        other => refusing::go_text(other),
    };
    patch.insert(PATCH.to_owned(), directive);
    let shown = refusing::go_text(&Value::Object(patch));
    refusing::plain(format!("unknown patch type: {named} in map: {shown}"))
}

struct Merger<'s> {
    schemas: &'s Schemas,
}

impl Merger<'_> {
    fn object(&self, ty: &Type, target: &mut Object, mut patch: Object) -> Result<(), PatchFailure> {
        if let Some(directive) = patch.shift_remove(PATCH) {
            match directive.as_str() {
                Some("replace") => {
                    target.clear();
                    // What stands beside the directive is taken as it is.
                    target.extend(patch);
                    return Ok(());
                }
                Some("delete") => {
                    target.clear();
                    return Ok(());
                }
                Some("merge") => {}
                _ => return Err(unknown_directive(directive, patch)),
            }
        }
        if let Some(retained) = patch.shift_remove(RETAIN_KEYS) {
            retain_keys(target, &patch, &retained)?;
        }
        let done = self.list_directives(ty, target, &mut patch)?;
        let mut gone = HashSet::new();
        for (name, change) in patch {
            if done.contains(&name) {
                continue;
            }
            if change.is_null() {
                gone.insert(name);
            } else {
                self.member(ty, target, name, change)?;
            }
        }
        if !gone.is_empty() {
            target.retain(|name, _| !gone.contains(name));
        }
        Ok(())
    }

    fn member(
        &self,
        ty: &Type,
        target: &mut Object,
        name: String,
        change: Value,
    ) -> Result<(), PatchFailure> {
        let inner = self.member_type(ty, &name);
        match change {
            Value::Object(changes) => {
                let mut before = match target.get_mut(&name).map(Value::take) {
                    Some(Value::Object(before)) if !inner.patch_replace => before,
                    _ => Object::new(),
                };
                let deleted = changes.get(PATCH).and_then(Value::as_str) == Some("delete");
                self.object(&inner, &mut before, changes)?;
                if deleted && !target.contains_key(&name) {
                    return Ok(());
                }
                target.insert(name, Value::Object(before));
            }
            Value::Array(changes) => {
                let before = match target.get_mut(&name).map(Value::take) {
                    Some(Value::Array(before)) if inner.patch_merge => {
                        refusing::check_alike(&before, &changes)?;
                        before
                    }
                    _ => Vec::new(),
                };
                let merged = self.list(&inner, before, changes)?;
                target.insert(name, Value::Array(merged));
            }
            scalar => {
                target.insert(name, scalar);
            }
        }
        Ok(())
    }

    /// Directives about lists stand beside the list; they may come without it. Returns the lists that are done.
    fn list_directives(
        &self,
        ty: &Type,
        target: &mut Object,
        patch: &mut Object,
    ) -> Result<HashSet<String>, PatchFailure> {
        let mut done = HashSet::new();
        let is_one = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ELEMENT_ORDER);
        if !patch.keys().any(|name| is_one(name)) {
            return Ok(done);
        }
        // All at once: to take one member out moves those behind it.
        let (directives, rest): (Vec<_>, Vec<_>) =
            std::mem::take(patch).into_iter().partition(|(name, _)| is_one(name));
        patch.extend(rest);
        for (name, unwanted) in &directives {
            if let Some(list) = name.strip_prefix(DELETE_FROM_LIST) {
                // Where either is no list, upstream does nothing.
                if let (Value::Array(unwanted), Some(Value::Array(elements))) =
                    (unwanted, target.get_mut(list))
                {
                    refusing::check_alike(elements, unwanted)?;
                    remove_all(elements, unwanted);
                }
            }
        }
        for (name, order) in directives {
            let Some(list) = name.strip_prefix(SET_ELEMENT_ORDER) else { continue };
            let order = match order {
                Value::Array(order) => order,
                other => return Err(refusing::no_list(&other)),
            };
            let inner = self.member_type(ty, list);
            let key = inner.patch_merge_key.as_deref();
            let changes = patch.get_mut(list).map(Value::take);
            match &changes {
                Some(Value::Array(changes)) => check_order(changes, &order, key)?,
                Some(other) => return Err(refusing::no_list(other)),
                None => {}
            }
            let before = target.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(changes) = changes {
                done.insert(list.to_owned());
                self.member(ty, target, list.to_owned(), changes)?;
            }
            if let Some(Value::Array(elements)) = target.get_mut(list) {
                let merged = std::mem::take(elements);
                *elements = ordered(merged, &before, &order, key);
            }
        }
        Ok(done)
    }

    fn list(&self, ty: &Type, before: Vec<Value>, changes: Vec<Value>) -> Result<Vec<Value>, PatchFailure> {
        let free = Type::free();
        let item = match &ty.shape {
            Shape::List(item) => &**item,
            _ => &free,
        };
        if !ty.patch_merge {
            return changes.into_iter().map(|change| self.fresh(item, change)).collect();
        }
        let key = ty.patch_merge_key.as_deref();
        let order: Vec<Value> =
            changes.iter().filter(|change| change.get(PATCH).is_none()).cloned().collect();
        let merged = match key {
            Some(key) => self.keyed_list(item, key, before.clone(), changes)?,
            None => union(before.clone(), changes),
        };
        // What is new comes first, as in Kubernetes: the patch's order counts before that of the list.
        Ok(ordered(merged, &before, &order, key))
    }

    fn keyed_list(
        &self,
        item: &Type,
        key: &str,
        before: Vec<Value>,
        changes: Vec<Value>,
    ) -> Result<Vec<Value>, PatchFailure> {
        if changes.iter().any(|change| change[PATCH] == "replace") {
            // The list is what is left then, whatever of it has the same key: a node's addresses by type.
            let left = changes.into_iter().filter(|change| change.get(PATCH).is_none());
            return left.map(|change| self.fresh(item, change)).collect();
        }
        let mut merged = KeyedList::new(key, before);
        for change in changes {
            let Some(identity) = change.get(key).cloned() else {
                let shown = refusing::go_text(&change);
                return Err(refusing::plain(format!(
                    "map: {shown} does not contain declared merge key: {key}"
                )));
            };
            if change[PATCH] == "delete" {
                merged.remove(&identity);
                continue;
            }
            match (merged.find(&identity), change) {
                (Some(Value::Object(element)), Value::Object(changes)) => {
                    self.object(item, element, changes)?
                }
                (_, change) => merged.push(self.fresh(item, change)?),
            }
        }
        Ok(merged.into_elements())
    }

    /// A value that had no counterpart: its directives are carried out on nothing and so vanish.
    fn fresh(&self, ty: &Type, value: Value) -> Result<Value, PatchFailure> {
        match value {
            Value::Object(changes) => {
                let mut target = Object::new();
                self.object(ty, &mut target, changes)?;
                Ok(Value::Object(target))
            }
            other => Ok(other),
        }
    }

    fn member_type(&self, ty: &Type, name: &str) -> Type {
        let found = match &ty.shape {
            Shape::Struct(id) | Shape::SchemaOr { schema: id, .. } => {
                self.schemas.structure(*id).field(name).map(|field| field.ty.clone())
            }
            Shape::Map(value) => Some((**value).clone()),
            _ => None,
        };
        found.unwrap_or_else(Type::free)
    }
}

fn retain_keys(target: &mut Object, patch: &Object, retained: &Value) -> Result<(), PatchFailure> {
    let Some(names) = retained.as_array() else {
        return Err(PatchFailure::bad_request("invalid patch format of retainKeys"));
    };
    let names: HashSet<&str> = names.iter().filter_map(Value::as_str).collect();
    let kept = |name: &str| names.contains(name);
    if patch.keys().any(|name| !name.starts_with('$') && !patch[name].is_null() && !kept(name)) {
        return Err(PatchFailure::bad_request("invalid patch format of retainKeys"));
    }
    target.retain(|name, _| kept(name));
    Ok(())
}

fn identity<'v>(element: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => element.get(key),
        None => Some(element),
    }
}

/// The elements that the patch adds must stand in the order as they stand in the patch.
fn check_order(changes: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchFailure> {
    let mut places = order.iter();
    let mut added = changes.iter().filter(|change| change.get(PATCH).is_none());
    let in_order = |change: &Value| places.any(|place| identity(place, key) == identity(change, key));
    if order.is_empty() || added.all(in_order) {
        return Ok(());
    }
    let [changes, order] = [changes, order].map(|list| refusing::go_text(&Value::Array(list.to_vec())));
    Err(refusing::plain(format!(
        "The order in patch list:\n{changes}\n doesn't match $setElementOrder list:\n{order}\n"
    )))
}
