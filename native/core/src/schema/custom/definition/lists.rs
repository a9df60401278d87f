//! What `x-kubernetes-list-type`, `-list-map-keys` and `-map-type` may say.
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apis/apiextensions/validation/validation.go`.

use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use super::Tolerated;
use super::collected::Collected;
use super::schema::{Items, Schema};
use crate::schema::custom::path::Path;

pub(super) const LIST_TYPE: &str = "x-kubernetes-list-type";
const LIST_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";

pub(super) fn check(schema: Schema<'_>, at: &Path<'_>, tolerated: &Tolerated, faults: &mut Collected) {
    if let Some(map_type) = schema.maybe_text(MAP_TYPE) {
        needs_type(schema, "object", MAP_TYPE, at, faults);
        if !matches!(map_type, "atomic" | "granular") {
            faults.not_supported(&at.field(MAP_TYPE), map_type, &["atomic", "granular"]);
        }
    }
    let list_type = schema.maybe_text(LIST_TYPE);
    if let Some(ty) = list_type {
        let fits = needs_type(schema, "array", LIST_TYPE, at, faults);
        if fits && ty == "set" && !tolerated.non_atomic_sets {
            set_items(schema, at, faults);
        }
        if !matches!(ty, "atomic" | "set" | "map") {
            faults.not_supported(&at.field(LIST_TYPE), ty, &["atomic", "set", "map"]);
        }
    }
    if schema.has_any(LIST_KEYS) {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => faults.required(&at.field(LIST_TYPE), detail),
            Some("map") => {}
            Some(other) => faults.invalid(&at.field(LIST_TYPE), &other.into(), detail),
        }
    }
    if list_type == Some("map") {
        map_items(schema, at, faults);
    }
    if !tolerated.list_keys {
        keyed(schema, at, faults);
    }
}

/// Whether the schema is of the type that `keyword` needs.
fn needs_type(
    schema: Schema<'_>,
    wanted: &str,
    keyword: &str,
    at: &Path<'_>,
    faults: &mut Collected,
) -> bool {
    let ty = schema.ty();
    let detail = || format!("must be {wanted} if {keyword} is specified");
    match ty {
        "" => faults.required(&at.field("type"), &detail()),
        ty if ty != wanted => faults.invalid(&at.field("type"), &ty.into(), &detail()),
        _ => return true,
    }
    false
}

/// Why the items of a set are not compared as wholes: the keyword that says so.
fn non_atomic(items: Schema<'_>) -> Option<&'static str> {
    match items.ty() {
        "array" => items.maybe_text(LIST_TYPE).filter(|ty| *ty != "atomic").map(|_| LIST_TYPE),
        "object" => (items.maybe_text(MAP_TYPE) != Some("atomic")).then_some(MAP_TYPE),
        _ => None,
    }
}

fn set_items(schema: Schema<'_>, at: &Path<'_>, faults: &mut Collected) {
    let Some(items) = schema.item() else { return };
    if let Some(keyword) = non_atomic(items) {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        // Of maps, too, upstream shows the list type.
        let shown = items.maybe_text(LIST_TYPE).map_or(Value::Null, Value::from);
        faults.invalid(&at.field("items").field(keyword), &shown, detail);
    }
}

fn map_items(schema: Schema<'_>, at: &Path<'_>, faults: &mut Collected) {
    let (keys_place, items_place) = (at.field(LIST_KEYS), at.field("items"));
    if !schema.has_any(LIST_KEYS) {
        faults.required(&keys_place, "must not be empty if x-kubernetes-list-type is map");
    }
    let items = match schema.items() {
        None => {
            faults.required(&items_place, "must have a schema if x-kubernetes-list-type is map");
            return;
        }
        Some(Items::One(items)) => items,
        Some(_) => {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            faults.invalid(&items_place, &json!({"Schema": null, "JSONSchemas": null}), detail);
            return;
        }
    };
    if items.ty() != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        faults.invalid(&items_place.field("type"), &items.ty().into(), detail);
        return;
    }
    let all_keys = Value::from(schema.list(LIST_KEYS));
    let mut seen = FxHashSet::default();
    for key in schema.strings(LIST_KEYS) {
        match items.property(key).map(Schema::ty) {
            Some("array" | "object") => {
                let properties = items_place.field("properties");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                // Upstream shows the type of the items.
                faults.invalid(&properties.key(key).field("type"), &items.ty().into(), detail);
            }
            Some(_) => {}
            None => faults.invalid(&keys_place, &all_keys, "entries must all be names of item properties"),
        }
        if !seen.insert(key) {
            faults.invalid(&keys_place, &all_keys, "must not contain duplicate entries");
        }
    }
}

/// Items of sets and maps are there, and so are the keys of maps.
fn keyed(schema: Schema<'_>, at: &Path<'_>, faults: &mut Collected) {
    let (Some(items), Some(list_type @ ("set" | "map"))) = (schema.item(), schema.maybe_text(LIST_TYPE))
    else {
        return;
    };
    let place = at.field("items");
    if items.flag("nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        faults.forbidden(&place.field("nullable"), &detail);
    }
    if list_type == "set" {
        return;
    }
    let required: FxHashSet<&str> = items.strings("required").collect();
    let properties = place.field("properties");
    for key in schema.strings(LIST_KEYS) {
        let Some(property) = items.property(key) else { continue };
        let place = properties.key(key);
        if !required.contains(key) && property.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                          property";
            faults.required(&place.field("default"), detail);
        }
        if property.flag("nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            faults.forbidden(&place.field("nullable"), detail);
        }
    }
}

/// Whether a list somewhere within is a set of what is not compared as a whole.
pub(super) fn has_non_atomic_set(schema: Schema<'_>) -> bool {
    schema.any(&mut |schema| {
        schema.maybe_text(LIST_TYPE) == Some("set")
            && schema.item().is_some_and(|items| non_atomic(items).is_some())
    })
}

/// Whether a list somewhere within has items or keys that may be missing.
pub(super) fn has_missing_keys(schema: Schema<'_>) -> bool {
    schema.any(&mut |schema| {
        let mut faults = Collected::default();
        keyed(schema, &Path::ROOT, &mut faults);
        !faults.is_empty()
    })
}

/// Whether a type somewhere within is none.
pub(super) fn has_strange_type(schema: Schema<'_>, types: &[&str]) -> bool {
    schema.any(&mut |schema| !schema.ty().is_empty() && !types.contains(&schema.ty()))
}
