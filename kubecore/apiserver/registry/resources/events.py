"""Events, in the core form they are stored in."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_WITHOUT_NAMESPACE = "default"


class EventStrategy(Strategy):
    resource_key = "events"
    tracks_generation = False
    allow_create_on_update = True

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        """An event is in the namespace of what it is about, or in `default` for what has none."""
        problems = Problems()
        namespace = obj["metadata"].get("namespace") or ""
        involved = (obj.get("involvedObject") or {}).get("namespace") or ""
        if involved:
            if involved != namespace:
                problems.invalid("involvedObject.namespace", involved, "does not match event.namespace")
        elif namespace not in (_WITHOUT_NAMESPACE, "kube-system"):
            problems.invalid("involvedObject.namespace", involved, "does not match event.namespace")
        return problems
