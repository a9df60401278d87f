"""Amounts of several resources by name, exact, each in the family of units it was written in.

Arithmetic as upstream `k8s.io/apiserver/pkg/quota/v1/resources.go`: a sum is told in the units of its first part that
is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kubecore.api import quantity


class Amount(NamedTuple):
    """Billionths, and the family of units: `binary`, `decimal` or `exponent`."""

    nano: int
    family: str = "decimal"

    def __str__(self) -> str:
        return quantity.format_as(self.nano, self.family)


Amounts = dict[str, Amount]

ZERO = Amount(0)
ONE = Amount(10**9)


def units(count: int) -> Amount:
    """A number of things."""
    return Amount(count * 10**9)


def parse(given: Mapping[str, Any] | None) -> Amounts:
    """A ResourceList. Raises InvalidQuantity."""
    return {name: Amount(*quantity.read(text)) for name, text in given.items()} if given else {}


def render(amounts: Mapping[str, Amount]) -> dict[str, str]:
    return {name: str(amount) for name, amount in sorted(amounts.items())}


def told(amounts: Mapping[str, Amount]) -> str:
    """`cpu=2,pods=1`, sorted by name."""
    return ",".join(f"{name}={amount}" for name, amount in sorted(amounts.items()))


def add(one: Mapping[str, Amount], other: Mapping[str, Amount]) -> Amounts:
    total = dict(one)
    accumulate(total, other)
    return total


def accumulate(total: Amounts, more: Mapping[str, Amount]) -> None:
    """Adds in place."""
    for name, amount in more.items():
        known = total.get(name)
        if known is None:
            total[name] = amount
        else:
            total[name] = Amount(known.nano + amount.nano, known.family if known.nano else amount.family)


def raise_to(total: Amounts, least: Mapping[str, Amount]) -> None:
    """The greater of the two for each name, in place."""
    for name, amount in least.items():
        known = total.get(name)
        if known is None or known.nano < amount.nano:
            total[name] = amount


def growth(new: Mapping[str, Amount], old: Mapping[str, Amount]) -> Amounts:
    """new - old, nothing where that is negative."""
    found = {}
    for name, amount in new.items():
        before = old.get(name, ZERO)
        more = amount.nano - before.nano
        found[name] = Amount(more, amount.family) if more > 0 else ZERO
    for name in old:
        found.setdefault(name, ZERO)
    return found


def masked(amounts: Mapping[str, Amount], names: Iterable[str]) -> Amounts:
    """Only those of these names."""
    wanted = set(names)
    return {name: amount for name, amount in amounts.items() if name in wanted}


def same(one: Mapping[str, Amount], other: Mapping[str, Amount]) -> bool:
    """Equal values by name, in whichever units."""
    return one.keys() == other.keys() and all(amount.nano == other[name].nano for name, amount in one.items())
