//! One door for all patch types.

use serde_json::Value;

use super::told::told_of;
use super::{PatchFailure, PatchType, json_patch, merge_patch, parse_value, refusing, strategic, wrapping};
use crate::go::json_kind;
use crate::schema::{FieldValidation, KindId, Rejection, Schemas};

/// A patched object, decoded as its kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Patched {
    pub body: Vec<u8>,
    pub warnings: Vec<String>,
}

impl Schemas {
    /// Applies a patch to the current object; the outcome may have unknown fields.
    pub fn apply_patch(
        &self,
        kind: KindId,
        current: &[u8],
        patch: &[u8],
        patch_type: PatchType,
    ) -> Result<Vec<u8>, PatchFailure> {
        self.changed(kind, current, read(patch, patch_type, FieldValidation::Warn)?, patch_type)
    }

    fn changed(
        &self,
        kind: KindId,
        current: &[u8],
        change: Value,
        patch_type: PatchType,
    ) -> Result<Vec<u8>, PatchFailure> {
        let mut object = parse_value(current).map_err(|error| {
            PatchFailure::bad_request(format!("error decoding object: {}", error.message))
        })?;
        self.apply_change(kind, &mut object, change, patch_type)?;
        Ok(object.to_string().into_bytes())
    }

    /// Applies a patch to the current object and decodes the outcome.
    pub fn patch(
        &self,
        kind: KindId,
        current: &[u8],
        patch: &[u8],
        patch_type: PatchType,
        validation: FieldValidation,
    ) -> Result<Patched, PatchFailure> {
        let change = read(patch, patch_type, validation)?;
        let mut told = match validation {
            FieldValidation::Ignore => Vec::new(),
            _ => told_of(patch, &change, patch_type),
        };
        if patch_type == PatchType::Json
            && validation != FieldValidation::Ignore
            && let Some(refused) = refusing::no_operations(&change)
        {
            return Err(refused);
        }
        let patched = self.changed(kind, current, change, patch_type)?;
        let decoded = self.decode_patched(kind, &patched, validation).map_err(|rejection| {
            let problem = problem_of(&rejection, &told);
            // Upstream converts what it has strategically merged, and shows what it was sent.
            match (patch_type, parse_value(patch)) {
                (PatchType::Strategic, Ok(sent)) if !problem.starts_with(STRICT) => refusing::invalid(
                    &refusing::go_text(&sent),
                    &refusing::converted_by(&rejection, &problem),
                ),
                _ => refusing::invalid(&self.shown(kind, &patched), &problem),
            }
        })?;
        if validation == FieldValidation::Strict && !told.is_empty() {
            let problem = format!("{STRICT}{}", told.join(", "));
            return Err(refusing::invalid(&self.shown(kind, &patched), &problem));
        }
        told.extend(decoded.warnings);
        Ok(Patched { warnings: told, body: decoded.body.into_owned() })
    }

    /// What a patch has made, in a refusal. A custom resource is a map to Go, which writes its members by name.
    fn shown(&self, kind: KindId, patched: &[u8]) -> String {
        match parse_value(patched) {
            Ok(mut value) if self.info(kind).structural.is_some() => {
                value.sort_all_objects();
                value.to_string()
            }
            _ => String::from_utf8_lossy(patched).into_owned(),
        }
    }

    fn apply_change(
        &self,
        kind: KindId,
        object: &mut Value,
        mut change: Value,
        patch_type: PatchType,
    ) -> Result<(), PatchFailure> {
        if let (PatchType::Strategic, Some(members)) = (patch_type, change.as_object_mut()) {
            // Upstream applies these to an object that knows what it is.
            for name in ["apiVersion", "kind"] {
                let given = members.get(name).and_then(json_kind).filter(|given| *given != "string");
                if let Some(given) = given {
                    let place =
                        format!("json: cannot unmarshal {given} into Go struct field .{name} of type string");
                    return Err(refusing::invalid(&refusing::go_text(&change), &refusing::converted(&place)));
                }
            }
            members.shift_remove("apiVersion");
            members.shift_remove("kind");
        }
        match patch_type {
            PatchType::Json => json_patch::apply(object, change),
            PatchType::Merge => {
                merge_patch::apply(object, change);
                Ok(())
            }
            PatchType::Strategic => {
                let root = self.root_type(kind);
                strategic::apply(self, &root, object, change)?;
                wrapping::wrap(self, &root, object);
                Ok(())
            }
        }
    }
}

const STRICT: &str = "strict decoding error: ";
const BAD_PATCH: &str = "Invalid JSON Patch";

/// The patch, if it is one by its outermost type; who validates reads it a first time upstream.
fn read(patch: &[u8], patch_type: PatchType, validation: FieldValidation) -> Result<Value, PatchFailure> {
    let parsed = parse_value(patch).map_err(|error| error.message);
    let found = match (patch_type, validation, parsed) {
        (PatchType::Merge, FieldValidation::Ignore, Ok(change)) if change.is_array() => Ok(change),
        (PatchType::Merge, _, Ok(change)) if !change.is_object() => match json_kind(&change) {
            Some(_) if validation != FieldValidation::Ignore => Err(refusing::no_members(&change)),
            _ => return Err(PatchFailure::bad_request(BAD_PATCH)),
        },
        // Go reads null into an empty map.
        (PatchType::Strategic, _, Ok(Value::Null)) => Ok(Value::Object(Default::default())),
        (_, _, parsed) => parsed,
    };
    found.map_err(|problem| {
        PatchFailure::bad_request(match (patch_type, validation) {
            (PatchType::Merge, FieldValidation::Ignore) => BAD_PATCH.to_owned(),
            (PatchType::Json, FieldValidation::Ignore) | (PatchType::Strategic, _) => problem,
            _ => format!("error decoding patch: {problem}"),
        })
    })
}

/// What is wrong with the outcome, together with what was told of the patch.
fn problem_of(rejection: &Rejection, told: &[String]) -> String {
    let unrecognized = rejection.message.strip_prefix("the object provided is unrecognized ");
    let problem = match (rejection.message.split_once(" cannot be handled as a "), unrecognized) {
        (Some((_, after)), _) => after.split_once(": ").map_or(after, |(_, problem)| problem),
        (None, Some(told)) => {
            let told = told.split_once("): ").map_or(told, |(_, told)| told);
            told.rsplit_once(" (").map_or(told, |(told, _)| told)
        }
        (None, None) => &rejection.message,
    };
    match problem.strip_prefix(STRICT) {
        Some(further) if !told.is_empty() => format!("{STRICT}{}, {further}", told.join(", ")),
        _ => problem.to_owned(),
    }
}
