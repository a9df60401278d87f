"""Tolerations of pods, namespaces and runtime classes put together."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.admission.merged_tolerations import all_within, covers, merged

JSON = dict[str, Any]
ALL = {"operator": "Exists"}
KEY = {"key": "k", "operator": "Exists", "effect": "NoExecute"}
VALUE = {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("wide", "one", "expected"),
    [
        (ALL, KEY, True),
        (KEY, ALL, False),
        (KEY, VALUE, True),
        ({**KEY, "tolerationSeconds": 5}, VALUE, False),
        ({**KEY, "tolerationSeconds": 5}, {**VALUE, "tolerationSeconds": 4}, True),
        ({**VALUE, "operator": ""}, VALUE, True),
        ({**KEY, "effect": "NoSchedule"}, VALUE, False),
        ({"key": "k", "value": "v"}, {"key": "k", "operator": "Equal", "value": "w"}, False),
    ],
)
def test_one_covers_another(wide: JSON, one: JSON, expected: bool) -> None:
    assert covers(wide, one) is expected


def test_the_wider_of_two_stays_and_equal_ones_stay_once() -> None:
    other = {"key": "o", "operator": "Exists", "effect": "NoSchedule"}
    assert merged([VALUE, other], [KEY, dict(other)]) == [other, KEY]


def test_what_is_allowed_is_covered_by_one_of_the_list() -> None:
    assert all_within([VALUE], [KEY])
    assert not all_within([VALUE, ALL], [KEY])
    assert all_within([ALL], [])
