"""Tolerations of pods, namespaces and runtime classes put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.apiserver.admission.merged_tolerations import all_within, merged

JSON = dict[str, Any]
ALL = {"operator": "Exists"}
KEY = {"key": "k", "operator": "Exists", "effect": "NoExecute"}
VALUE: JSON = {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}


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
    assert covers(wide, one) is all_within([one], [wide]) is expected


def test_the_wider_of_two_stays_and_equal_ones_stay_once() -> None:
    other = {"key": "o", "operator": "Exists", "effect": "NoSchedule"}
    assert merged([VALUE, other], [KEY, dict(other)]) == [other, KEY]


def test_what_is_allowed_is_covered_by_one_of_the_list() -> None:
    assert all_within([VALUE], [KEY])
    assert not all_within([VALUE, ALL], [KEY])
    assert all_within([ALL], [])


# ---- all with all, as upstream compares them


def covers(wide: JSON, one: JSON) -> bool:
    """Upstream's isSuperset."""
    if same(wide, one):
        return True
    operator = of(wide, "operator")
    if of(one, "key") != of(wide, "key") and (of(wide, "key") or operator != "Exists"):
        return False
    if of(one, "effect") != of(wide, "effect") and of(wide, "effect"):
        return False
    if of(wide, "effect") == "NoExecute" and (longest := wide.get("tolerationSeconds")) is not None:
        seconds = one.get("tolerationSeconds")
        if seconds is None or seconds > longest:
            return False
    if operator in ("", "Equal"):
        return of(one, "operator") == "Equal" and of(one, "value") == of(wide, "value")
    return operator == "Exists"


def of(toleration: JSON, field: str) -> str:
    return str(toleration.get(field) or "")


def same(one: JSON, other: JSON) -> bool:
    """As structs in Go are."""
    fields = ("key", "operator", "value", "effect")
    seconds = one.get("tolerationSeconds") == other.get("tolerationSeconds")
    return seconds and all(of(one, field) == of(other, field) for field in fields)


def upstreams(every: Sequence[JSON]) -> list[JSON]:
    kept: list[JSON] = []
    for place, one in enumerate(every):
        before = any(covers(other, one) for other in kept)
        if not before and not any(not same(other, one) and covers(other, one) for other in every[place + 1 :]):
            kept.append(one)
    return kept


TOLERATIONS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.sampled_from(["", "k", "l"]),
            "operator": st.sampled_from(["", "Equal", "Exists", "Gt"]),
            "value": st.sampled_from(["", "v"]),
            "effect": st.sampled_from(["", "NoExecute", "NoSchedule"]),
            "tolerationSeconds": st.sampled_from([0, 1, 5]),
        },
    ),
    max_size=6,
)


@given(TOLERATIONS, TOLERATIONS)
def test_what_stays_is_what_stays_where_all_are_compared_with_all(first: list[JSON], second: list[JSON]) -> None:
    assert merged(first, second) == upstreams([*first, *second])
    allowed = not second or all(any(covers(wide, one) for wide in second) for one in first)
    assert all_within(first, second) == allowed


class Counted(dict[str, Any]):
    """How often fields of tolerations were looked at."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counted.looks += 1
        return super().get(key, default)


@pytest.mark.parametrize("work", [lambda every: merged(every, every), lambda every: all_within(every, every)])
def test_each_toleration_is_looked_at_so_often_however_many_there_are(work: Any) -> None:
    looks = []
    for count in (100, 1000):
        every = [
            Counted(key=f"k{number}", operator="Equal", value="v", effect="NoExecute", tolerationSeconds=number)
            for number in range(count)
        ]
        Counted.looks = 0
        work(every)
        looks.append(Counted.looks / count)
    assert looks[0] == looks[1]
