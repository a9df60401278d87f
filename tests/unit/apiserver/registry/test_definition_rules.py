"""Rules of CustomResourceDefinitions: what they must compile to, what they may cost, where they may look back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer

JSON = dict[str, Any]
CRDS = Writer("customresourcedefinitions.apiextensions.k8s.io", namespaced=False)
RULES = "x-kubernetes-validations"
PATH = "spec.validation.openAPIV3Schema.properties[spec]"
TOO_DEAR = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)

SPEC: JSON = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "text": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string"}},
        "few": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}},
    },
}


def crd(spec: JSON) -> JSON:
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "kind": "Widget"}
    given = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": given}


def problems(rule: str, spec: JSON = SPEC, **more: Any) -> list[str]:
    return CRDS.problems(crd({**spec, RULES: [{"rule": rule, **more}]}))


def test_a_rule_that_compiles_is_taken() -> None:
    assert problems("self.size > 1 && self.few.all(x, x.startsWith('a'))", messageExpression="self.text") == []


def test_a_rule_that_does_not_compile_is_shown_with_its_place() -> None:
    [problem] = problems("self.size > self.color")
    shown = '{"Rule":"self.size \\u003e self.color","Message":"","MessageExpression":"","Reason":null'
    assert problem.startswith(f"{PATH}.{RULES}[0].rule: Invalid value: {shown}")
    assert problem.endswith(
        "compilation failed: ERROR: <input>:1:17: undefined field 'color'\n"
        " | self.size > self.color\n"
        " | ................^"
    )


@pytest.mark.parametrize(
    ("rule", "more", "field", "words"),
    [
        ("self.size", {}, "rule", "cel expression must evaluate to a bool"),
        (
            "true",
            {"messageExpression": "self.size"},
            "messageExpression",
            "messageExpression must evaluate to a string",
        ),
        ("true", {"messageExpression": "self."}, "messageExpression", "messageExpression compilation failed: ERROR:"),
        ("true", {"optionalOldSelf": True}, "optionalOldSelf", "may not be set if oldSelf is not used in rule"),
        ("self.text.matches('(')", {}, "rule", "invalid matches argument"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told(rule: str, more: JSON, field: str, words: str) -> None:
    [problem] = problems(rule, **more)
    assert problem.startswith(f"{PATH}.{RULES}[0].{field}: Invalid value: ")
    assert words in problem


def test_a_rule_may_not_cost_too_much_by_estimate() -> None:
    assert problems("self.few.all(x, self.few.all(y, x == y))") == []
    dear = problems("self.list.all(x, self.list.all(y, x == y))")
    assert dear[0] == (
        f"{PATH}.{RULES}[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {TOO_DEAR}"
    )
    assert dear[1].endswith("contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema")
    assert dear[2].startswith(
        "spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire "
        "OpenAPIv3 schema exceeds budget by factor of more than 100x"
    )


def test_a_rule_cannot_look_back_where_nobody_knows_which_value_is_which() -> None:
    items = {"type": "string", "maxLength": 3, RULES: [{"rule": "self == oldSelf"}]}
    found = CRDS.problems(crd({"type": "array", "maxItems": 3, "items": items}))
    assert found == [
        f'{PATH}.items.{RULES}[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable '
        f"portion of the schema within {PATH}"
    ]


def test_a_default_is_held_to_the_rules() -> None:
    assert problems("self.size > 1", {**SPEC, "default": {"size": 2}}) == []
    [problem] = problems("self.size > 1", {**SPEC, "default": {"size": 1}})
    assert problem == f"{PATH}.default: Invalid value: failed rule: self.size > 1"


def test_a_stored_schema_that_is_too_dear_stays_as_long_as_it_does_not_change() -> None:
    spec = {"type": "array", "items": {"type": "string"}, RULES: [{"rule": "self.all(x, self.all(y, x == y))"}]}
    stored = CRDS.create(crd({"type": "string"}))
    stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec
    changed = crd({**spec, "description": "d"})
    told = [CRDS.update_problems(stored, {**stored, "spec": made["spec"]}) for made in (stored, changed)]
    assert [any(".rule: Forbidden: estimated rule cost" in one for one in found) for found in told] == [False, True]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (f"'{'a' * 3_000_000}' == self.text", "expression code point size exceeds limit: size: 3000015, limit 100000"),
        ("(" * 10_000 + "true" + ")" * 10_000, "expression recursion limit exceeded: 250"),
        ("[" * 90_000, "expression recursion limit exceeded: 250"),
        ("self.list.all(x, " * 5_000 + "true" + ")" * 5_000, "max recursion depth exceeded"),
        ("self" + ".text" * 15_000, "max recursion depth exceeded"),
        ("1" + "+1" * 49_000 + " > 1", "max recursion depth exceeded"),
        (
            "self.list.all(x, " * 30 + "true" + ")" * 30,
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
        ("@#$" * 30_000, "more errors were truncated"),
        (f"self.text.matches('{'(' * 10_000}{')' * 10_000}')", "invalid matches argument"),
    ],
    ids=["long", "parentheses", "brackets", "macros", "fields", "sums", "loops", "rubbish", "pattern"],
)
def test_a_rule_made_to_break_the_server_is_refused_in_clear_words(rule: str, words: str) -> None:
    assert any(words in problem for problem in problems(rule, message="m"))


@pytest.mark.parametrize("pattern", ["a" * 3_000_000, "(" * 100_000 + ")" * 100_000], ids=["long", "deep"])
def test_a_pattern_made_to_break_the_server_is_refused_in_clear_words(pattern: str) -> None:
    [problem] = CRDS.problems(crd({"type": "string", "pattern": pattern}))
    assert "must be a valid regular expression, but isn't: error parsing regexp: expression " in problem
