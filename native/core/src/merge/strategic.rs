//! Strategic merge patch: like JSON merge patch, but lists merge by key as the schema says, and directives steer it.
//!
//! Semantics of k8s.io/apimachinery `pkg/util/strategicpatch`: `$patch` replaces or deletes a map or list
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
        let merged = match (target.get_mut(&name).map(Value::take), change) {
            (Some(Value::Object(mut before)), Value::Object(changes)) if !inner.patch_replace => {
                self.object(&inner, &mut before, changes)?;
                Value::Object(before)
            }
            (Some(Value::Array(before)), Value::Array(changes)) if inner.patch_merge => {
                Value::Array(self.list(&inner, before, changes)?)
            }
            // A list or map that takes the place of another is taken as it is, whatever directives are in it.
            (Some(Value::Object(_)), taken @ Value::Object(_))
            | (Some(Value::Array(_)), taken @ Value::Array(_)) => taken,
            (_, mut new) => {
                without_nulls(&mut new);
                match without_directives(new) {
                    Some(new) => new,
                    None => {
                        target.shift_remove(&name);
                        return Ok(());
                    }
                }
            }
        };
        target.insert(name, merged);
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
        for (name, order) in &directives {
            let Some(list) = name.strip_prefix(SET_ELEMENT_ORDER) else { continue };
            let Value::Array(order) = order else { return Err(refusing::no_list(order)) };
            let changes = patch.get_mut(list).map(Value::take);
            if changes.is_some() {
                done.insert(list.to_owned());
            }
            self.order_list(ty, target, list, changes, order)?;
        }
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
        Ok(done)
    }

    /// Merges a list and puts it in the order that `$setElementOrder` says.
    fn order_list(
        &self,
        ty: &Type,
        target: &mut Object,
        list: &str,
        changes: Option<Value>,
        order: &[Value],
    ) -> Result<(), PatchFailure> {
        let inner = self.member_type(ty, list);
        let key = inner.patch_merge_key.as_deref();
        let changes = match changes {
            Some(Value::Array(changes)) => Some(changes),
            Some(other) => return Err(refusing::no_list(&other)),
            None => None,
        };
        let before = match target.get(list) {
            Some(Value::Array(before)) => Some(before.clone()),
            Some(other) => return Err(refusing::no_list(other)),
            None => None,
        };
        check_order(changes.as_deref().unwrap_or_default(), order, key)?;
        let merged = match (&before, &changes) {
            (Some(before), None) => before.clone(),
            (None, Some(changes)) => changes.iter().cloned().filter_map(without_directives).collect(),
            (Some(before), Some(changes)) if inner.patch_merge => {
                self.list(&inner, before.clone(), changes.clone())?
            }
            (Some(_), Some(changes)) => changes.clone(),
            (None, None) => return Ok(()),
        };
        check_keys(&merged, key)?;
        let (before, changes) = (before.unwrap_or_default(), changes.unwrap_or_default());
        if before.is_empty() && changes.is_empty() {
            return Err(refusing::plain("no elements in any of the given slices".to_owned()));
        }
        refusing::check_alike(&before, &changes)?;
        target.insert(list.to_owned(), Value::Array(ordered(merged, &before, order, key)));
        Ok(())
    }

    fn list(&self, ty: &Type, before: Vec<Value>, changes: Vec<Value>) -> Result<Vec<Value>, PatchFailure> {
        refusing::check_alike(&before, &changes)?;
        let free = Type::free();
        let item = match &ty.shape {
            Shape::List(item) => &**item,
            _ => &free,
        };
        let key = ty.patch_merge_key.as_deref();
        let order: Vec<Value> =
            changes.iter().filter(|change| change.get(PATCH).is_none()).cloned().collect();
        let merged = match key {
            Some(key) => {
                let merged = self.keyed_list(item, key, before.clone(), changes)?;
                check_keys(&merged, Some(key))?;
                merged
            }
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
        let mut merged = KeyedList::new(key, before);
        let mut replaced = false;
        let mut left = Vec::with_capacity(changes.len());
        for change in changes {
            match change.get(PATCH).map(Value::as_str) {
                None => left.push(change),
                Some(Some("delete")) => match change.get(key) {
                    Some(identity) => merged.remove(identity),
                    None => return Err(refusing::no_merge_key(&change, key)),
                },
                Some(Some("replace")) => replaced = true,
                Some(Some("merge")) => {
                    let told = "merging lists cannot yet be specified in the patch";
                    return Err(refusing::plain(told.to_owned()));
                }
                Some(_) => {
                    let Value::Object(mut patch) = change else { continue };
                    let directive = patch.shift_remove(PATCH).unwrap_or_default();
                    return Err(unknown_directive(directive, patch));
                }
            }
        }
        if replaced {
            // The list is what is left then, whatever of it has the same key: a node's addresses by type.
            return Ok(left);
        }
        for change in left {
            let Some(identity) = change.get(key) else { return Err(refusing::no_merge_key(&change, key)) };
            match (merged.find(identity), change) {
                (Some(Value::Object(element)), Value::Object(changes)) => {
                    self.object(item, element, changes)?
                }
                // What is new is taken as it is, with the directives in it.
                (_, change) => merged.push(change),
            }
        }
        Ok(merged.into_elements())
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

/// What was not there has no nulls.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// What was not there, without all that has a `$patch`, which has nothing to be carried out on.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(PATCH) => None,
        Value::Object(members) => {
            let kept =
                members.into_iter().filter_map(|(name, member)| Some((name, without_directives(member)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(elements) => {
            Some(Value::Array(elements.into_iter().filter_map(without_directives).collect()))
        }
        other => Some(other),
    }
}

/// All elements of a list that is put in order have its key.
fn check_keys(elements: &[Value], key: Option<&str>) -> Result<(), PatchFailure> {
    let Some(key) = key else { return Ok(()) };
    match elements.iter().find(|element| element.get(key).is_none()) {
        Some(nameless) => Err(refusing::no_merge_key(nameless, key)),
        None => Ok(()),
    }
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
