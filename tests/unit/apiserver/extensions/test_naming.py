"""Which names a definition gets."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.extensions import naming

JSON = dict[str, Any]


def definition(plural: str, kind: str, *short: str, accepted: bool = True, **more: Any) -> JSON:
    names: JSON = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List", **more}
    if short:
        names["shortNames"] = list(short)
    status = {"acceptedNames": names} if accepted else {}
    return {"spec": {"group": "example.com", "names": names}, "status": status}


def judge(wanted: JSON, *others: JSON) -> naming.Verdict:
    return naming.judge(wanted, naming.taken_names([wanted, *others]))


def test_free_names_are_given_as_asked_for() -> None:
    wanted = definition("widgets", "Widget", "wd", accepted=False, categories=["all"])
    verdict = judge(wanted)
    assert (verdict.accepted, verdict.reason, verdict.message) == (True, "NoConflicts", "no conflicts found")
    assert verdict.names == wanted["spec"]["names"]


@pytest.mark.parametrize(
    ("other", "reason", "message"),
    [
        (definition("others", "Other", "widgets"), "PluralConflict", '"widgets" is already in use'),
        (definition("widget", "Other"), "SingularConflict", '"widget" is already in use'),
        (definition("others", "Other", "wd"), "ShortNamesConflict", '"wd" is already in use'),
        (definition("others", "Other", listKind="Widget"), "KindConflict", '"Widget" is already in use'),
        (definition("others", "WidgetList"), "ListKindConflict", '"WidgetList" is already in use'),
    ],
)
def test_a_name_that_is_taken_is_a_conflict(other: JSON, reason: str, message: str) -> None:
    verdict = judge(definition("widgets", "Widget", "wd", accepted=False), other)
    assert (verdict.accepted, verdict.reason, verdict.message) == (False, reason, message)


def test_what_is_free_is_given_though_something_is_not() -> None:
    verdict = judge(definition("widgets", "Widget", "wd", accepted=False), definition("others", "Other", "wd"))
    assert (verdict.names["plural"], verdict.names["kind"]) == ("widgets", "Widget")
    assert "shortNames" not in verdict.names


def test_several_short_names_are_told_together() -> None:
    verdict = judge(definition("widgets", "Widget", "a", "b", accepted=False), definition("others", "Other", "a", "b"))
    assert verdict.message == '["a" is already in use, "b" is already in use]'


def test_ones_own_names_are_no_conflict() -> None:
    wanted = definition("widgets", "Widget", "wd")
    wanted["spec"]["names"] = {**wanted["spec"]["names"], "shortNames": ["wd", "wi"]}
    assert judge(wanted).names["shortNames"] == ["wd", "wi"]
