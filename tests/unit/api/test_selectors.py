from __future__ import annotations

import pytest

from kubecore.api.selectors import FieldSelector, Selector, as_go_prints


def test_a_selector_is_read_from_text_object_or_set() -> None:
    assert Selector.parse("app=web,tier!=db").matches({"app": "web"})
    assert Selector.from_label_selector({"matchLabels": {"app": "web"}}) == Selector.parse("app=web")
    assert str(Selector.from_set({"b": "2", "a": "1"})) == "a=1,b=2"


def test_none_selects_nothing_and_an_empty_selector_everything() -> None:
    assert not Selector.from_label_selector(None).matches({})
    assert Selector.from_label_selector({}).empty
    assert Selector.everything().matches(None)


def test_equal_selectors_hash_alike() -> None:
    assert {Selector.parse("a in (b)"): 1}[Selector.parse("a in (b)")] == 1


def test_a_bad_selector_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="unable to parse requirement"):
        Selector.parse("a b")
    with pytest.raises(ValueError, match="can't understand"):
        FieldSelector.parse("a")


def test_a_field_selector_matches_fields() -> None:
    assert FieldSelector.parse("spec.nodeName=n1,status.phase!=Failed").matches({"spec.nodeName": "n1"})


def test_messages_show_a_label_selector_as_go_prints_it() -> None:
    terms = [{"key": "k", "operator": "In", "values": ["v", "w"]}, {"key": "x", "operator": "Exists"}]
    assert as_go_prints({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": terms}) == (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{"
        "LabelSelectorRequirement{Key:k,Operator:In,Values:[v w],},"
        "LabelSelectorRequirement{Key:x,Operator:Exists,Values:[],},},}"
    )
    assert as_go_prints({}) == (
        "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"
    )
    assert as_go_prints(None) == "nil"
