from __future__ import annotations

import pytest

from kubecore import _native


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a in (b,c)", {"a": "c"}, True),
        ("a notin (b,c)", {"a": "c"}, False),
        ("a notin (b,c)", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a>5", {"a": "6"}, True),
        ("a<5", {"a": "six"}, False),
        ("a=", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_a_label_selector_matches_as_in_kubernetes(selector: str, labels: dict[str, str], expected: bool) -> None:
    assert _native.LabelSelector.parse(selector).matches(labels) is expected


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        (
            "a>x",
            'unable to parse requirement: values[0]: Invalid value: "x": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_a_bad_label_selector_is_refused_in_the_words_of_kubernetes(selector: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        _native.LabelSelector.parse(selector)
    assert str(refused.value) == message


def test_a_bad_label_key_is_named_with_the_rule_it_breaks() -> None:
    with pytest.raises(ValueError) as refused:
        _native.LabelSelector.parse("a/b/c=d")
    assert str(refused.value) == (
        'unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must consist of alphanumeric '
        "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
        "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an "
        "optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
    )


def test_an_absent_selector_object_selects_nothing_and_an_empty_one_everything() -> None:
    assert not _native.LabelSelector.from_label_selector(None).matches({"a": "b"})
    assert _native.LabelSelector.from_label_selector({}).matches({"a": "b"})


def test_a_selector_object_combines_labels_and_expressions() -> None:
    selector = _native.LabelSelector.from_label_selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"app": "web", "tier": "b"})
    assert not selector.matches({"app": "web", "tier": "b", "old": ""})
    assert str(selector) == "app=web,!old,tier in (a,b)"
    assert selector == _native.LabelSelector.parse(str(selector))


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match='"Near" is not a valid label selector operator'):
        _native.LabelSelector.from_label_selector({"matchExpressions": [{"key": "a", "operator": "Near"}]})


def test_field_selectors_compare_fields_and_read_escapes() -> None:
    selector = _native.FieldSelector.parse(r"a=b\,c\=d\\,e!=f")
    assert selector.requirements() == [("a", "=", r"b,c=d" + "\\"), ("e", "!=", "f")]
    assert selector.matches({"a": "b,c=d\\"})
    assert not selector.matches({"a": "b,c=d\\", "e": "f"})


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        (r"a=b\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_a_bad_field_selector_is_refused_in_the_words_of_kubernetes(selector: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        _native.FieldSelector.parse(selector)
    assert str(refused.value) == message
