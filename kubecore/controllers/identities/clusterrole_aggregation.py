"""Fills the rules of aggregated ClusterRoles with those of the ClusterRoles their selectors choose."""

from __future__ import annotations

from typing import Any

import orjson

from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext

Rule = dict[str, Any]

_ROLES = "clusterroles.rbac.authorization.k8s.io"


class ClusterRoleAggregationController(Controller):
    """Keys are ClusterRoles."""

    name = "clusterrole-aggregation-controller"
    queue_name = "ClusterRoleAggregator"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._roles = self.informer(_ROLES)
        # any role may feed any aggregated one
        self.enqueue_on_change(self._roles, lambda _: self._aggregated())

    def _aggregated(self) -> list[str]:
        return [meta.name(role) for role in self._roles.list() if role.get("aggregationRule")]

    async def sync(self, key: str) -> float | None:
        role = self._roles.get(key)
        if role is None or not role.get("aggregationRule"):
            return None
        wanted = aggregated_rules(role, self._roles.list())
        if wanted != (role.get("rules") or []):
            said = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": key}}
            # no rules are nobody's
            await self.client.apply(_ROLES, {**said, "rules": wanted} if wanted else said, manager=self.name)
        return None


def aggregated_rules(role: Object, roles: list[Object]) -> list[Rule]:
    """Rules of all other roles that a selector of `role` chooses, selectors in order, roles by name, each rule once."""
    # By what they say: roles may have tens of thousands.
    rules: dict[bytes, Rule] = {}
    for chosen in role["aggregationRule"].get("clusterRoleSelectors") or ():
        selector = Selector.from_label_selector(chosen)
        for other in sorted(roles, key=meta.name):
            if meta.name(other) == meta.name(role) or not selector.matches(meta.labels(other)):
                continue
            for rule in other.get("rules") or ():
                rules.setdefault(orjson.dumps(rule, option=orjson.OPT_SORT_KEYS), rule)
    return list(rules.values())
