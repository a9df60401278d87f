//! No input makes the engine panic or run on: neither text that is no expression nor expressions that make no sense.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Limits, MAX_WORK, Variables, Wanted, compile, json};
use crate::schema::custom::{Node, declared};

fn schema() -> Json {
    json!({"type": "object", "properties": {
        "s": {"type": "string"},
        "n": {"type": "integer"},
        "d": {"type": "number"},
        "l": {"type": "array", "items": {"type": "integer"}},
        "t": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "m": {"type": "object", "additionalProperties": {"type": "string"}},
        "x": {"x-kubernetes-int-or-string": true},
        "time": {"type": "string", "format": "date-time"},
        "free": {"x-kubernetes-preserve-unknown-fields": true},
    }})
}

fn object() -> Json {
    json!({"s": "aé", "n": -9_223_372_036_854_775_808_i64, "d": 1e300, "l": [0, 1, i64::MAX], "t": ["", "b"],
        "m": {"k": "v"}, "x": "5", "time": "2024-02-29T00:00:00Z", "free": {"a": [1]}})
}

/// Whatever it comes to, it comes to an end within its limits.
fn run(source: &str) {
    let node = Node::compile(&schema()).unwrap();
    let declared = declared(&node, true, "selfType").unwrap();
    for wanted in [Wanted::Bool, Wanted::String] {
        let Ok(expression) = compile(source, &declared, true, wanted) else { continue };
        let object = object();
        let current = json::value_of(&object, &node, true);
        let old = current.clone().map(super::Value::some);
        let limits = Limits { cost: 10_000, work: MAX_WORK / 100 };
        let variables = Variables { current, old: Some(old), scope: None };
        let outcome = expression.evaluate(&variables, limits);
        assert!(outcome.cost <= limits.cost || outcome.value.is_err());
    }
}

fn token() -> impl Strategy<Value = String> {
    const TOKENS: &str = "self oldSelf . .? [ [? ] ( ) { } , : ? && || ! == != < <= > >= + - * / % in true false null 0 1 \
        -1 9223372036854775807 9223372036854775808 1u 0x1F 1.5 1e400 .5 '' 'a' \"é\" '''q''' r'\\' b'\\xff' '\\u00e9' '\\ \
        s n d l t m x time free has all exists exists_one map filter transformMap optional of none orValue value hasValue \
        size string int uint double bool bytes type dyn duration timestamp matches split join format sum sort distinct \
        slice flatten lists range quantity add sub url ip cidr semver sets cel bind a b @ ` # // \n";
    prop::sample::select(TOKENS.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

fn expression() -> impl Strategy<Value = String> {
    const LEAVES: [&str; 18] = [
        "self",
        "self.s",
        "self.n",
        "self.d",
        "self.l",
        "self.t",
        "self.m",
        "self.x",
        "self.time",
        "self.free",
        "oldSelf.value().n",
        "0",
        "-1",
        "9223372036854775807",
        "1.5",
        "''",
        "'a%d%s'",
        "[1, 2]",
    ];
    const CALLS: [&str; 40] = [
        "has(A.s)",
        "A + B",
        "A - B",
        "A * B",
        "A / B",
        "A % B",
        "A == B",
        "A < B",
        "A in B",
        "A && B",
        "!A",
        "-A",
        "A ? B : A",
        "A[B]",
        "A[?B].orValue(A)",
        "A.all(v, B)",
        "A.exists(v, v == B)",
        "A.map(v, B)",
        "A.filter(v, v != B)",
        "A.size() > B",
        "string(A)",
        "int(A)",
        "double(A)",
        "A.matches(B)",
        "A.split(B)",
        "A.format([B])",
        "A.sum()",
        "A.slice(A, B)",
        "A.substring(B)",
        "A.replace(A, B)",
        "lists.range(A)",
        "duration(A)",
        "timestamp(A)",
        "quantity(A).add(B)",
        "A.indexOf(B)",
        "[A, B].sort()",
        "{A: B}",
        "[A, B].distinct()",
        "cel.bind(v, A, B)",
        "A.sortBy(v, B)",
    ];
    prop::sample::select(LEAVES.to_vec()).prop_map(str::to_owned).prop_recursive(6, 40, 2, |inner| {
        (prop::sample::select(CALLS.to_vec()), inner.clone(), inner)
            .prop_map(|(call, a, b)| call.replace('B', "\0").replace('A', &a).replace('\0', &b))
    })
}

proptest! {
    #[test]
    fn any_text_is_judged(text in "\\PC{0,40}") {
        run(&text);
    }

    #[test]
    fn any_tokens_are_judged(tokens in prop::collection::vec(token(), 0..24), spaced in any::<bool>()) {
        run(&tokens.join(if spaced { " " } else { "" }));
    }

    #[test]
    fn any_expression_ends(source in expression()) {
        run(&source);
        run(&format!("string({source}) != ''"));
        run(&format!("dyn({source}) == dyn(self.x)"));
    }
}

#[test]
fn nesting_has_an_end() {
    for (open, middle, close) in [
        ("(", "true", ")"),
        ("!(", "true", ")"),
        ("[", "1", "]"),
        ("{'a':", "1", "}"),
        ("[1].all(v,", "true", ")"),
        ("string(", "1", ")"),
        ("1+", "1", ""),
        ("true ? true : ", "true", ""),
        ("true && ", "true", ""),
        ("", "self", ".s"),
        ("", "self.l", "[0]"),
        ("", "self.l", ".map(v, v)"),
        ("-", "1", ""),
    ] {
        for depth in [100, 240, 260, 20_000] {
            let source = format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            run(&source);
            run(&format!("dyn({source}) == 1"));
        }
    }
}
