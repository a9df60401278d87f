//! JSON patch (RFC 6902), bounded in operations, in bytes copied and in depth.
//!
//! Where they differ, it does what evanphx/json-patch v4 does and so Kubernetes: a member that is not there may be
//! replaced and is copied as null, indices may count from the end, and the whole document can be replaced and no more.
//! What it cannot do is told in the words of that library, which mutating webhooks and policies are refused with.

use std::num::IntErrorKind;

use serde_json::{Map, Value};

use super::PatchFailure;
use crate::go::json_kind;
use crate::schema::MAX_DEPTH;

pub const MAX_OPERATIONS: usize = 10_000;
/// What `copy` operations of one patch may add up to.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

pub(crate) fn apply(document: &mut Value, patch: Value) -> Result<(), PatchFailure> {
    if patch.is_null() {
        return Ok(());
    }
    let Value::Array(operations) = patch else {
        let given = json_kind(&patch).unwrap_or("null");
        let message = format!("json: cannot unmarshal {given} into Go value of type jsonpatch.Patch");
        return Err(PatchFailure::bad_request(message));
    };
    if let Some(given) = operations.iter().filter(|one| !one.is_object()).find_map(json_kind) {
        let message = format!("json: cannot unmarshal {given} into Go value of type jsonpatch.Operation");
        return Err(PatchFailure::bad_request(message));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchFailure::too_large(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut spent = Spent::default();
    for operation in operations {
        let members = match operation {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Operation(members).apply(document, &mut spent).map_err(PatchFailure::unprocessable)?;
    }
    if spent.disordered {
        document.sort_all_objects();
    }
    Ok(())
}

/// What the operations before have done that those after them must know.
#[derive(Default)]
struct Spent {
    copied: usize,
    /// Members have changed their places. (Upstream's documents are maps, which are written in order.)
    disordered: bool,
}

/// The longest object of which a removal moves all later members, so that they keep their order.
const KEPT_IN_ORDER: usize = 256;

const MISSING: &str = "missing value";

/// Its parts are read one by one, as they are needed: what is wrong with the first is told.
struct Operation(Map<String, Value>);

impl Operation {
    fn apply(mut self, document: &mut Value, spent: &mut Spent) -> Result<(), String> {
        match self.0.get("op").and_then(Value::as_str).unwrap_or("unknown") {
            "add" => self.add(document),
            "remove" => self.remove(document, spent),
            "replace" => self.replace(document),
            "move" => self.r#move(document, spent),
            "copy" => self.copy(document, spent),
            "test" => self.test(document),
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    fn path(&self) -> Result<Pointer, String> {
        self.pointer("path")
            .map_err(|why| why.unwrap_or_else(|| format!("operation missing path field: {MISSING}")))
    }

    fn from(&self) -> Result<Pointer, String> {
        self.pointer("from")
            .map_err(|why| why.unwrap_or_else(|| format!("operation, missing from field: {MISSING}")))
    }

    /// None of what is not there.
    fn pointer(&self, name: &str) -> Result<Pointer, Option<String>> {
        match self.0.get(name).unwrap_or(&Value::Null) {
            Value::String(text) => Ok(Pointer::parse(text)),
            Value::Null => Err(None),
            other => {
                let given = json_kind(other).unwrap_or("null");
                Err(Some(format!("json: cannot unmarshal {given} into Go value of type string")))
            }
        }
    }

    /// A missing one is taken for null.
    fn value(&mut self) -> Value {
        self.0.get_mut("value").map(Value::take).unwrap_or_default()
    }

    fn add(&mut self, document: &mut Value) -> Result<(), String> {
        let path = self.path().map_err(|_| format!("add operation failed to decode path: {MISSING}"))?;
        let Some((container, key)) = parent(document, &path) else {
            return Err(format!(
                "add operation does not apply: doc is missing path: \"{}\": {MISSING}",
                path.text
            ));
        };
        insert(container, key, self.value())
            .map_err(|why| format!("error in add for path: '{}': {why}", path.text))
    }

    fn remove(&mut self, document: &mut Value, spent: &mut Spent) -> Result<(), String> {
        let path = self.path().map_err(|_| format!("remove operation failed to decode path: {MISSING}"))?;
        let Some((container, key)) = parent(document, &path) else {
            let told = "remove operation does not apply: doc is missing path";
            return Err(format!("{told}: \"{}\": {MISSING}", path.text));
        };
        match take(container, key, spent) {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("error in remove for path: '{}': {why}", path.text)),
        }
    }

    fn replace(&mut self, document: &mut Value) -> Result<(), String> {
        let path = self.path().map_err(|why| format!("replace operation failed to decode path: {why}"))?;
        let value = self.value();
        if path.text.is_empty() {
            if !(value.is_object() || value.is_array()) {
                return Err("replace operation value must be object or array: %!w(<nil>)".into());
            }
            *document = value;
            return Ok(());
        }
        let does_not = "replace operation does not apply: doc is missing";
        match parent(document, &path) {
            None => return Err(format!("{does_not} path: {}: {MISSING}", path.text)),
            Some((Value::Array(elements), key)) => match position(key, elements.len()) {
                Ok(index) => elements[index] = value,
                Err(_) => return Err(format!("{does_not} key: {}: {MISSING}", path.text)),
            },
            Some((container, key)) => insert(container, key, value)?,
        }
        Ok(())
    }

    fn r#move(&mut self, document: &mut Value, spent: &mut Spent) -> Result<(), String> {
        let from = self.from().map_err(|why| format!("move operation failed to decode from: {why}"))?;
        let does_not = "move operation does not apply: doc is missing";
        let Some((container, key)) = parent(document, &from) else {
            return Err(format!("{does_not} from path: {}: {MISSING}", from.text));
        };
        let value =
            take(container, key, spent).map_err(|why| format!("error in move for path: '{key}': {why}"))?;
        let path = self.path().map_err(|why| format!("move operation failed to decode path: {why}"))?;
        let Some((container, key)) = parent(document, &path) else {
            return Err(format!("{does_not} destination path: {}: {MISSING}", path.text));
        };
        insert(container, key, value).map_err(|why| format!("error in move for path: '{}': {why}", path.text))
    }

    fn copy(&mut self, document: &mut Value, spent: &mut Spent) -> Result<(), String> {
        let from = self.from().map_err(|why| format!("copy operation failed to decode from: {why}"))?;
        let does_not = "copy operation does not apply: doc is missing";
        let Some((container, key)) = parent(document, &from) else {
            return Err(format!("{does_not} from path: {}: {MISSING}", from.text));
        };
        let value =
            get(container, key).map_err(|why| format!("error in copy for from: '{}': {why}", from.text))?;
        let value = value.cloned().unwrap_or_default();
        let path = self.path().map_err(|_| format!("copy operation failed to decode path: {MISSING}"))?;
        let Some((container, key)) = parent(document, &path) else {
            return Err(format!("{does_not} destination path: {}: {MISSING}", path.text));
        };
        let (size, depth) = extent(&value);
        spent.copied += size;
        if spent.copied > MAX_COPIED_BYTES {
            let told = "Unable to complete the copy, the accumulated size increase of copy is";
            return Err(format!("{told} {}, exceeding the limit {MAX_COPIED_BYTES}", spent.copied));
        }
        if depth + path.tokens.len() > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        insert(container, key, value).map_err(|why| format!("error while adding value during copy: {why}"))
    }

    fn test(&mut self, document: &mut Value) -> Result<(), String> {
        let path = self.path().map_err(|why| format!("test operation failed to decode path: {why}"))?;
        let expected = self.value();
        let actual = if path.text.is_empty() {
            Some(&*document)
        } else {
            let Some((container, key)) = parent(document, &path) else {
                return Err(format!(
                    "test operation does not apply: is missing path: {}: {MISSING}",
                    path.text
                ));
            };
            get(container, key).map_err(|why| format!("error in test for path: '{}': {why}", path.text))?
        };
        // A missing member passes a test for null.
        if actual.unwrap_or(&Value::Null) == &expected {
            return Ok(());
        }
        Err(format!("testing value {} failed: test failed", path.text))
    }
}

/// A JSON pointer (RFC 6901), split and unescaped; upstream does not look at what stands before the first slash.
struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    fn parse(text: &str) -> Self {
        let unescaped = |token: &str| token.replace("~1", "/").replace("~0", "~");
        Self { text: text.to_owned(), tokens: text.split('/').skip(1).map(unescaped).collect() }
    }
}

/// An index as Go's `strconv.Atoi` reads it; a negative one counts from the end.
fn position(token: &str, length: usize) -> Result<usize, String> {
    let index = token.parse::<isize>().map_err(|error| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {why}", crate::go::quote(token))
    })?;
    let found = if index < 0 { length.checked_sub(index.unsigned_abs()) } else { Some(index.unsigned_abs()) };
    found
        .filter(|found| *found < length)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

/// The object or list that has what the pointer leads to, and by which name; None where there is none.
fn parent<'v, 'p>(document: &'v mut Value, path: &'p Pointer) -> Option<(&'v mut Value, &'p str)> {
    let (last, above) = path.tokens.split_last()?;
    let container = above.iter().try_fold(document, |value, token| child(value, token))?;
    (container.is_object() || container.is_array()).then_some((container, last.as_str()))
}

fn child<'v>(value: &'v mut Value, token: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(members) => members.get_mut(token),
        Value::Array(elements) => {
            let index = position(token, elements.len()).ok()?;
            elements.get_mut(index)
        }
        _ => None,
    }
}

/// None for a member that is not there.
fn get<'v>(container: &'v Value, key: &str) -> Result<Option<&'v Value>, String> {
    match container {
        Value::Array(elements) => position(key, elements.len()).map(|index| elements.get(index)),
        _ => Ok(container.get(key)),
    }
}

fn insert(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Array(elements) if key == "-" => elements.push(value),
        Value::Array(elements) => {
            let index =
                position(key, elements.len() + 1).map_err(|why| match why.starts_with("strconv") {
                    true => format!("value was not a proper array index: '{key}': {why}"),
                    false => why,
                })?;
            elements.insert(index, value);
        }
        Value::Object(members) => {
            members.insert(key.to_owned(), value);
        }
        _ => (),
    }
    Ok(())
}

fn take(container: &mut Value, key: &str, spent: &mut Spent) -> Result<Value, String> {
    let taken = match container {
        Value::Array(elements) => return position(key, elements.len()).map(|index| elements.remove(index)),
        Value::Object(members) if members.len() <= KEPT_IN_ORDER => members.shift_remove(key),
        Value::Object(members) => {
            spent.disordered = true;
            members.swap_remove(key)
        }
        _ => None,
    };
    taken.ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
}

/// Roughly the size in bytes of a value as JSON, and its depth.
fn extent(value: &Value) -> (usize, usize) {
    let sum =
        |(size, depth): (usize, usize), (inner, below): (usize, usize)| (size + inner, depth.max(below));
    match value {
        Value::String(text) => (text.len() + 2, 0),
        Value::Array(elements) => {
            let (size, depth) = elements.iter().map(extent).fold((2 + elements.len(), 0), sum);
            (size, depth + 1)
        }
        Value::Object(members) => {
            let inner = members.iter().map(|(name, value)| {
                let (size, depth) = extent(value);
                (size + name.len() + 4, depth)
            });
            let (size, depth) = inner.fold((2, 0), sum);
            (size, depth + 1)
        }
        _ => (8, 0),
    }
}

#[cfg(test)]
mod tests;
