//! JSON patch (RFC 6902), bounded in operations, in bytes copied and in depth.
//!
//! Where they differ, it does what evanphx/json-patch v4 does and so Kubernetes: a member that is not there may be
//! replaced and is copied as null, indices may count from the end, and the whole document can be replaced and no more.

use serde_json::Value;

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
        Operation::parse(operation)?.apply(document, &mut spent)?;
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

enum Operation {
    Add(Pointer, Value),
    Remove(Pointer),
    Replace(Pointer, Value),
    Move(Pointer, Pointer),
    Copy(Pointer, Pointer),
    Test(Pointer, Value),
}

impl Operation {
    fn parse(operation: Value) -> Result<Self, PatchFailure> {
        let mut members = match operation {
            Value::Object(members) => members,
            _ => Default::default(),
        };
        let name = text(&members, "op")?;
        let path = Pointer::parse(&text(&members, "path")?)?;
        // evanphx/json-patch takes a missing value for null.
        let value = members.swap_remove("value").unwrap_or(Value::Null);
        let from = |members| Pointer::parse(&text(members, "from")?);
        Ok(match name.as_str() {
            "add" => Self::Add(path, value),
            "remove" => Self::Remove(path),
            "replace" => Self::Replace(path, value),
            "move" => Self::Move(from(&members)?, path),
            "copy" => Self::Copy(from(&members)?, path),
            "test" => Self::Test(path, value),
            other => return Err(PatchFailure::unprocessable(format!("Unexpected kind: {other}"))),
        })
    }

    fn apply(self, document: &mut Value, spent: &mut Spent) -> Result<(), PatchFailure> {
        match self {
            Self::Add(path, value) => add(document, &path, value),
            Self::Remove(path) => remove(document, &path, spent).map(drop),
            Self::Replace(path, value) => replace(document, &path, value),
            Self::Move(from, path) => {
                if path.0.len() > from.0.len() && path.0.starts_with(&from.0) {
                    return Err(PatchFailure::unprocessable("a value cannot be moved into itself"));
                }
                let value = remove(document, &from, spent)?;
                add(document, &path, value)
            }
            Self::Copy(from, path) => {
                let value = get(document, &from)?.cloned().unwrap_or_default();
                let (size, depth) = extent(&value);
                spent.copied += size;
                if spent.copied > MAX_COPIED_BYTES {
                    let detail = format!("copied more than {MAX_COPIED_BYTES} bytes");
                    return Err(PatchFailure::unprocessable(detail));
                }
                if depth + path.0.len() > MAX_DEPTH {
                    return Err(PatchFailure::unprocessable("exceeded max depth"));
                }
                add(document, &path, value)
            }
            Self::Test(path, expected) => {
                let actual = if path.0.is_empty() { Some(&*document) } else { get(document, &path)? };
                // A missing member passes a test for null.
                if actual.map_or(expected.is_null(), |value| equal(value, &expected)) {
                    return Ok(());
                }
                Err(PatchFailure::unprocessable(format!("testing value {} failed", path.shown())))
            }
        }
    }
}

fn text(members: &serde_json::Map<String, Value>, name: &str) -> Result<String, PatchFailure> {
    match members.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(PatchFailure::unprocessable(format!("an operation lacks the text {name:?}"))),
    }
}

/// A JSON pointer (RFC 6901), split and unescaped.
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Result<Self, PatchFailure> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatchFailure::unprocessable(format!("path {text:?} does not begin with '/'")));
        };
        Ok(Self(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }

    fn shown(&self) -> String {
        self.0.iter().map(|token| format!("/{token}")).collect()
    }

    fn missing(&self) -> PatchFailure {
        PatchFailure::unprocessable(format!("doc is missing path: {}: missing value", self.shown()))
    }
}

/// An index as Go's `strconv.Atoi` reads it; a negative one counts from the end.
fn position(token: &str, length: usize) -> Option<usize> {
    let index = token.parse::<isize>().ok()?;
    let index = if index < 0 { length.checked_sub(index.unsigned_abs())? } else { index.unsigned_abs() };
    (index < length).then_some(index)
}

fn child<'v>(value: &'v mut Value, token: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(members) => members.get_mut(token),
        Value::Array(elements) => {
            let index = position(token, elements.len())?;
            elements.get_mut(index)
        }
        _ => None,
    }
}

/// What is at the path: None for a member that is not there, where it could be.
fn get<'v>(document: &'v mut Value, path: &Pointer) -> Result<Option<&'v Value>, PatchFailure> {
    match parent(document, path)? {
        Some((Value::Object(members), name)) => Ok(members.get(name)),
        Some((Value::Array(elements), token)) => {
            let found = position(token, elements.len()).and_then(|index| elements.get(index));
            found.map(Some).ok_or_else(|| path.missing())
        }
        _ => Err(path.missing()),
    }
}

fn replace(document: &mut Value, path: &Pointer, value: Value) -> Result<(), PatchFailure> {
    match parent(document, path)? {
        None if value.is_object() || value.is_array() => *document = value,
        None => {
            let detail = "replace operation value must be object or array";
            return Err(PatchFailure::unprocessable(detail));
        }
        Some((Value::Object(members), name)) => {
            members.insert(name.to_owned(), value);
        }
        Some((Value::Array(elements), token)) => {
            let index = position(token, elements.len()).ok_or_else(|| path.missing())?;
            elements[index] = value;
        }
        Some(_) => return Err(path.missing()),
    }
    Ok(())
}

fn parent<'v, 'p>(
    document: &'v mut Value,
    path: &'p Pointer,
) -> Result<Option<(&'v mut Value, &'p str)>, PatchFailure> {
    let Some((last, above)) = path.0.split_last() else { return Ok(None) };
    let container = above.iter().try_fold(document, |value, token| child(value, token));
    container.map(|value| Some((value, last.as_str()))).ok_or_else(|| path.missing())
}

fn add(document: &mut Value, path: &Pointer, value: Value) -> Result<(), PatchFailure> {
    match parent(document, path)? {
        None => return Err(path.missing()),
        Some((Value::Object(members), name)) => {
            members.insert(name.to_owned(), value);
        }
        Some((Value::Array(elements), "-")) => elements.push(value),
        Some((Value::Array(elements), token)) => {
            let Some(index) = position(token, elements.len() + 1) else {
                let detail = format!("add operation does not apply: {}: invalid index", path.shown());
                return Err(PatchFailure::unprocessable(detail));
            };
            elements.insert(index, value);
        }
        Some(_) => return Err(path.missing()),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &Pointer, spent: &mut Spent) -> Result<Value, PatchFailure> {
    let removed = match parent(document, path)? {
        None => return Err(PatchFailure::unprocessable("the whole document cannot be removed")),
        Some((Value::Object(members), name)) if members.len() <= KEPT_IN_ORDER => members.shift_remove(name),
        Some((Value::Object(members), name)) => {
            spent.disordered = true;
            members.swap_remove(name)
        }
        Some((Value::Array(elements), token)) => {
            position(token, elements.len()).map(|index| elements.remove(index))
        }
        Some(_) => None,
    };
    removed.ok_or_else(|| path.missing())
}

/// Equality by value: 1 and 1.0 are the same number.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| equal(x, y)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, x)| b.get(name).is_some_and(|y| equal(x, y)))
        }
        _ => left == right,
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(mut document: Value, patch: Value) -> Result<Value, PatchFailure> {
        apply(&mut document, patch)?;
        Ok(document)
    }

    #[test]
    fn the_examples_of_rfc_6902_hold() {
        for (document, patch, expected) in [
            (
                json!({"foo":"bar"}),
                json!([{"op":"add","path":"/baz","value":"qux"}]),
                json!({"foo":"bar","baz":"qux"}),
            ),
            (
                json!({"foo":["a","c"]}),
                json!([{"op":"add","path":"/foo/1","value":"b"}]),
                json!({"foo":["a","b","c"]}),
            ),
            (json!({"baz":1,"foo":2}), json!([{"op":"remove","path":"/baz"}]), json!({"foo":2})),
            (json!({"foo":["a","b"]}), json!([{"op":"remove","path":"/foo/0"}]), json!({"foo":["b"]})),
            (json!({"baz":1}), json!([{"op":"replace","path":"/baz","value":2}]), json!({"baz":2})),
            (
                json!({"foo":{"bar":1,"waldo":2},"qux":{"corge":3}}),
                json!([{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]),
                json!({"foo":{"bar":1},"qux":{"corge":3,"thud":2}}),
            ),
            (
                json!({"a":{"b":1}}),
                json!([{"op":"copy","from":"/a","path":"/c"}]),
                json!({"a":{"b":1},"c":{"b":1}}),
            ),
            (
                json!({"foo":["bar"]}),
                json!([{"op":"add","path":"/foo/-","value":1}]),
                json!({"foo":["bar",1]}),
            ),
            (
                json!({"a/b":1,"m~n":2}),
                json!([{"op":"test","path":"/a~1b","value":1.0},{"op":"remove","path":"/m~0n"}]),
                json!({"a/b":1}),
            ),
        ] {
            assert_eq!(patched(document, patch).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_left_of_a_great_object_stands_in_order() {
        let name = |number: usize| format!("m{number:06}");
        let document: Value = (0..1000).map(|number| (name(number), json!({"b": 1, "a": 2}))).collect();
        let removals: Vec<Value> =
            (0..998).map(|number| json!({"op": "remove", "path": format!("/{}", name(number))})).collect();
        let left = patched(document, Value::Array(removals)).unwrap();
        assert_eq!(left.to_string(), r#"{"m000998":{"a":2,"b":1},"m000999":{"a":2,"b":1}}"#);
    }

    #[test]
    fn a_failed_test_or_a_missing_path_is_unprocessable() {
        for operation in [
            json!({"op":"test","path":"/a","value":2}),
            json!({"op":"remove","path":"/b"}),
            json!({"op":"replace","path":"/b/c","value":1}),
            json!({"op":"replace","path":"/l/0","value":1}),
            json!({"op":"replace","path":"","value":1}),
            json!({"op":"add","path":"","value":{}}),
            json!({"op":"add","path":"/b/c","value":1}),
            json!({"op":"add","path":"/l/7","value":1}),
            json!({"op":"add","path":"/l/-2","value":1}),
            json!({"op":"copy","from":"","path":"/b"}),
            json!({"op":"test","path":"/b/c","value":null}),
            json!({"op":"test","path":"/l/0","value":null}),
            json!({"op":"move","from":"/a","path":"/a/b"}),
            json!({"op":"frob","path":"/a"}),
        ] {
            let failure = patched(json!({"a":1,"l":[]}), json!([operation])).unwrap_err();
            assert_eq!((failure.code, failure.reason), (422, "Invalid"), "{operation}");
        }
    }

    #[test]
    fn what_the_rfc_refuses_and_kubernetes_does_is_done() {
        for (operation, expected) in [
            (json!({"op":"replace","path":"/b","value":1}), json!({"l":[1,2],"b":1})),
            (json!({"op":"copy","from":"/b","path":"/c"}), json!({"l":[1,2],"c":null})),
            (json!({"op":"test","path":"/b","value":null}), json!({"l":[1,2]})),
            (json!({"op":"replace","path":"/l/-1","value":3}), json!({"l":[1,3]})),
            (json!({"op":"replace","path":"/l/+01","value":3}), json!({"l":[1,3]})),
            (json!({"op":"add","path":"/l/-1","value":3}), json!({"l":[1,2,3]})),
            (json!({"op":"add","path":"/l/-3","value":3}), json!({"l":[3,1,2]})),
            (json!({"op":"remove","path":"/l/-2"}), json!({"l":[2]})),
            (json!({"op":"replace","path":"","value":{}}), json!({})),
        ] {
            assert_eq!(patched(json!({"l":[1,2]}), json!([operation])).unwrap(), expected, "{operation}");
        }
    }

    #[test]
    fn too_many_operations_are_too_large() {
        let operations = vec![json!({"op":"test","path":"/a","value":1}); MAX_OPERATIONS + 1];
        assert_eq!(patched(json!({"a":1}), Value::Array(operations)).unwrap_err().code, 413);
    }

    #[test]
    fn copies_that_double_the_document_end() {
        let wide = vec![json!({"op":"copy","from":"/a","path":"/a/-"}); 100];
        assert_eq!(patched(json!({"a":["x"]}), Value::Array(wide)).unwrap_err().code, 422);
        let deep = vec![json!({"op":"copy","from":"","path":"/a"}); 2000];
        assert_eq!(patched(json!({}), Value::Array(deep)).unwrap_err().code, 422);
    }

    proptest! {
        #[test]
        fn what_was_added_can_be_tested_and_removed(name in "[a-z~/]{1,8}", value in 0i64..100) {
            let path = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let before = json!({"A": 1});
            let after = patched(before.clone(), json!([
                {"op":"add","path":path,"value":value},
                {"op":"test","path":path,"value":value},
                {"op":"remove","path":path},
            ]));
            prop_assert_eq!(after.unwrap(), before);
        }
    }
}
