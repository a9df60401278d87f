"""Whether a write fits its namespace's quotas, and what they hold if it does: no I/O.

After upstream k8s.io/apiserver pkg/admission/plugin/resourcequota/controller.go (CheckRequest). What is refused is
worded as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kubecore.api import amounts
from kubecore.api.amounts import Amounts
from kubecore.api.quota.evaluator import Evaluator, in_scopes, requirements
from kubecore.apiserver.admission.limited_resources import NOTHING, Limited, uncovered

JSON = dict[str, Any]


class QuotaRefusal(Exception):
    """The write may not be; the message says why."""


@dataclass(slots=True, eq=False)
class Quota:
    """One ResourceQuota while writes are charged to it: `used` runs ahead of what is stored."""

    obj: JSON
    stored: bytes
    revision: int
    name: str = ""
    hard: Amounts = field(default_factory=dict)
    used: Amounts = field(default_factory=dict)
    charged: bool = False

    def __post_init__(self) -> None:
        status = self.obj.get("status") or {}
        self.name = self.obj["metadata"]["name"]
        self.hard = amounts.parse(status.get("hard"))
        self.used = amounts.parse(status.get("used"))

    def charge(self, delta: Amounts) -> None:
        amounts.accumulate(self.used, delta)
        self.charged = True

    def as_object(self) -> JSON:
        return {**self.obj, "status": {**self.obj["status"], "used": amounts.render(self.used)}}


class Charge(NamedTuple):
    quota: Quota
    delta: Amounts


@dataclass(frozen=True, slots=True)
class Write:
    """A create (`old` is None) or an update that may take from quotas."""

    evaluator: Evaluator
    obj: JSON
    old: JSON | None
    subresource: str
    limited: Limited = NOTHING

    def charges(self, quotas: Sequence[Quota], every: Sequence[Quota]) -> list[Charge]:
        """What it would take of each of `quotas` that it counts against; `every` one may cover what is limited. Raises
        QuotaRefusal."""
        found = [(quota, names) for quota in quotas if (names := self._counted(quota))]
        if not found and self.limited is NOTHING:
            return []
        usage = self.evaluator.usage(self.obj)
        if negative := sorted(name for name, amount in usage.items() if amount.nano < 0):
            raise QuotaRefusal(f"quota usage is negative for resource(s): {','.join(negative)}")
        growth = usage if self.old is None else amounts.growth(usage, self.evaluator.usage(self.old))
        if self.limited is not NOTHING and any(amount.nano for amount in growth.values()):
            self._cover(usage, every)
        made = []
        for quota in found:
            delta = self._delta(quota[0], usage, growth)
            if delta:
                made.append(Charge(quota[0], delta))
        return made

    def _cover(self, usage: Amounts, quotas: Sequence[Quota]) -> None:
        """What is limited by the configuration needs a quota that counts it. Raises QuotaRefusal."""
        covered = {name for quota in quotas for name in self._counted(quota)}
        if lacking := self.limited.of_amounts(usage) - covered:
            raise QuotaRefusal(f"insufficient quota to consume: {','.join(sorted(lacking))}")
        covering = [
            one for quota in quotas for one in requirements(quota.obj) if self.evaluator.in_scope(one, self.obj)
        ]
        if lacking_scopes := uncovered(self.limited.of_scopes(self.evaluator, self.obj), covering):
            raise QuotaRefusal(f"insufficient quota to match these scopes: {lacking_scopes}")

    def _counted(self, quota: Quota) -> list[str]:
        """The quota's names that the object counts against. Raises QuotaRefusal."""
        names = self.evaluator.matching(quota.hard)
        if not names or not in_scopes(self.evaluator, quota.obj, self.obj):
            return []
        if lacking := self.evaluator.lacking(names, self.obj):
            raise QuotaRefusal(f"failed quota: {quota.name}: {lacking}")
        if any(name not in quota.used for name in names):
            raise QuotaRefusal(f"status unknown for quota: {quota.name}, resources: {','.join(sorted(names))}")
        return names

    def _delta(self, quota: Quota, usage: Amounts, growth: Amounts) -> Amounts:
        """Only what grows counts where the quota has counted the object before. Raises QuotaRefusal."""
        counted = self.old is not None and in_scopes(self.evaluator, quota.obj, self.old)
        more = growth if counted else usage
        delta = {name: amount for name, amount in more.items() if amount.nano and name in quota.hard}
        if self.subresource != "status":
            _check(quota, delta)
        return delta


def _check(quota: Quota, delta: Amounts) -> None:
    after = amounts.add(quota.used, delta)
    if exceeded := [name for name in delta if after[name].nano > quota.hard[name].nano]:
        requested, used, limited = (_told(one, exceeded) for one in (delta, quota.used, quota.hard))
        raise QuotaRefusal(f"exceeded quota: {quota.name}, requested: {requested}, used: {used}, limited: {limited}")


def _told(given: Amounts, names: Iterable[str]) -> str:
    return amounts.told(amounts.masked(given, names))
