"""PriorityClasses."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

HIGHEST_USER_PRIORITY = 1_000_000_000
_SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_SYSTEM_PREFIX = "system-"


class PriorityClassStrategy(Unversioned):
    resource_key = "priorityclasses.scheduling.k8s.io"
    undeletable = dict.fromkeys(_SYSTEM, "this is a system priority class and cannot be deleted")

    def default(self, obj: JSON) -> None:
        if obj.get("preemptionPolicy") is None:
            obj["preemptionPolicy"] = "PreemptLowerPriority"

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["metadata"]["generation"] = 1

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, name, value = Problems(), obj["metadata"].get("name") or "", obj.get("value", 0)
        if ctx.operation != "CREATE":
            # Nothing that this is about can change.
            return problems
        if name.startswith(_SYSTEM_PREFIX):
            if _SYSTEM.get(name) != value or obj.get("globalDefault"):
                detail = "priority class names with 'system-' prefix are reserved for system use only. error: "
                known = f"value of {name} PriorityClass must be {_SYSTEM.get(name)}"
                unknown = f"{name} is not a known system priority class"
                problems.forbidden("metadata.name", detail + (known if name in _SYSTEM else unknown))
        elif value > HIGHEST_USER_PRIORITY:
            detail = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            problems.forbidden("value", detail)
        policies = ("PreemptLowerPriority", "Never")
        problems.one_of("preemptionPolicy", obj.get("preemptionPolicy"), policies, required=True)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        if obj.get("value", 0) != old.get("value", 0):
            problems.forbidden("value", "may not be changed in an update.")
        problems.immutable("preemptionPolicy", obj.get("preemptionPolicy"), old.get("preemptionPolicy"))
        return problems
