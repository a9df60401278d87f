//! JSON merge patch (RFC 7386).

use std::collections::HashSet;

use serde_json::{Map, Value};

/// What is no object takes the place of the target.
pub(crate) fn apply(target: &mut Value, patch: Value) {
    let Value::Object(changes) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    // All at once: to take one member out moves those behind it.
    let mut gone = HashSet::new();
    for (name, change) in changes {
        if change.is_null() {
            gone.insert(name);
        } else {
            apply(members.entry(name).or_insert(Value::Null), change);
        }
    }
    if !gone.is_empty() {
        members.retain(|name, _| !gone.contains(name));
    }
    // Upstream's errors show what came of it: where a patch has been, members stand by name.
    members.sort_keys();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(mut target: Value, patch: Value) -> Value {
        apply(&mut target, patch);
        target
    }

    #[test]
    fn members_stand_by_name_where_a_patch_has_been_and_nowhere_else() {
        let merged = merged(json!({"b":{"z":1,"y":2},"a":{"z":1,"y":2}}), json!({"a":{"x":3}}));
        assert_eq!(merged.to_string(), r#"{"a":{"x":3,"y":2,"z":1},"b":{"z":1,"y":2}}"#);
    }

    #[test]
    fn the_examples_of_rfc_7386_hold() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            assert_eq!(merged(target, patch), expected);
        }
    }
}
