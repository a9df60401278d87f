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
        (json!({"foo":["bar"]}), json!([{"op":"add","path":"/foo/-","value":1}]), json!({"foo":["bar",1]})),
        (
            json!({"a/b":1,"m~n":2}),
            json!([{"op":"test","path":"/a~1b","value":1},{"op":"remove","path":"/m~0n"}]),
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
fn what_is_wrong_is_told_in_the_words_of_upstreams_library() {
    for (operation, detail) in [
        (json!({"path":"/a"}), "Unexpected kind: unknown"),
        (json!({"op":"frob","path":"/a"}), "Unexpected kind: frob"),
        (json!({"op":"add","path":5}), "add operation failed to decode path: missing value"),
        (
            json!({"op":"add","path":""}),
            r#"add operation does not apply: doc is missing path: "": missing value"#,
        ),
        (
            json!({"op":"add","path":"/b/c"}),
            r#"add operation does not apply: doc is missing path: "/b/c": missing value"#,
        ),
        (
            json!({"op":"add","path":"/l/7"}),
            "error in add for path: '/l/7': Unable to access invalid index: 7: invalid index referenced",
        ),
        (
            json!({"op":"add","path":"/l/x"}),
            "error in add for path: '/l/x': value was not a proper array index: 'x': \
             strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (json!({"op":"remove"}), "remove operation failed to decode path: missing value"),
        (
            json!({"op":"remove","path":"/a/b"}),
            r#"remove operation does not apply: doc is missing path: "/a/b": missing value"#,
        ),
        (
            json!({"op":"remove","path":"/b~1c"}),
            "error in remove for path: '/b~1c': Unable to remove nonexistent key: b/c: missing value",
        ),
        (
            json!({"op":"remove","path":"/l/99999999999999999999"}),
            "error in remove for path: '/l/99999999999999999999': \
             strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        ),
        (
            json!({"op":"replace"}),
            "replace operation failed to decode path: operation missing path field: missing value",
        ),
        (
            json!({"op":"replace","path":[]}),
            "replace operation failed to decode path: json: cannot unmarshal array into Go value of type string",
        ),
        (
            json!({"op":"replace","path":"","value":1}),
            "replace operation value must be object or array: %!w(<nil>)",
        ),
        (
            json!({"op":"replace","path":"/b/c"}),
            "replace operation does not apply: doc is missing path: /b/c: missing value",
        ),
        (
            json!({"op":"replace","path":"/l/0"}),
            "replace operation does not apply: doc is missing key: /l/0: missing value",
        ),
        (
            json!({"op":"move","path":"/b"}),
            "move operation failed to decode from: operation, missing from field: missing value",
        ),
        (
            json!({"op":"move","from":"/b/c","path":"/b"}),
            "move operation does not apply: doc is missing from path: /b/c: missing value",
        ),
        (
            json!({"op":"move","from":"/b","path":"/c"}),
            "error in move for path: 'b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            json!({"op":"move","from":"/a","path":"/a/b"}),
            "move operation does not apply: doc is missing destination path: /a/b: missing value",
        ),
        (
            json!({"op":"copy","from":"/b/c","path":"/b"}),
            "copy operation does not apply: doc is missing from path: /b/c: missing value",
        ),
        (
            json!({"op":"copy","from":"/l/0","path":"/b"}),
            "error in copy for from: '/l/0': Unable to access invalid index: 0: invalid index referenced",
        ),
        (json!({"op":"copy","from":"/a"}), "copy operation failed to decode path: missing value"),
        (
            json!({"op":"copy","from":"/a","path":"/b/c"}),
            "copy operation does not apply: doc is missing destination path: /b/c: missing value",
        ),
        (json!({"op":"test","path":"","value":{}}), "testing value  failed: test failed"),
        (json!({"op":"test","path":"/a","value":2}), "testing value /a failed: test failed"),
        (json!({"op":"test","path":"/a","value":1.0}), "testing value /a failed: test failed"),
        (
            json!({"op":"test","path":"/b/c"}),
            "test operation does not apply: is missing path: /b/c: missing value",
        ),
        (
            json!({"op":"test","path":"/l/0"}),
            "error in test for path: '/l/0': Unable to access invalid index: 0: invalid index referenced",
        ),
    ] {
        let failure = patched(json!({"a":1,"l":[]}), json!([operation])).unwrap_err();
        assert_eq!(failure.detail, detail, "{operation}");
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
        (json!({"op":"add","path":"x/b","value":1}), json!({"l":[1,2],"b":1})),
        (json!({"op":"move","from":"/l/0","path":"/l/-"}), json!({"l":[2,1]})),
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
