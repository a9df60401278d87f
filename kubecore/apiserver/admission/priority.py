"""Priority: a pod's priority comes from its class, or the default one; there is one default class at most.

After upstream plugin/pkg/admission/priority.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.held_objects import HeldObjects

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_KEY = "priorityclasses.scheduling.k8s.io"
_MAX_USER_PRIORITY = 1_000_000_000
SYSTEM = ("system-cluster-critical", "system-node-critical")


class Priority(Plugin):
    name = "Priority"

    def __init__(self, cacher: Cacher) -> None:
        self._classes = HeldObjects(cacher, _KEY)

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        if subresource or operation not in (CREATE, UPDATE):
            return False
        return resource_key in ("pods", _KEY)

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if ctx.resource_key != "pods" or not isinstance(spec, dict):
            return False
        if ctx.operation == UPDATE:
            _keep(spec, ((old or {}).get("spec") or {}))
            return False
        found = self._class(ctx, spec)
        value = found["value"] if found else 0
        policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
        if found and not spec.get("priorityClassName"):
            spec["priorityClassName"] = meta.name(found)
        given = spec.get("priority")
        if given is not None and given != value:
            detail = (
                f"the integer value of priority ({given}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
            raise errors.forbidden("", "pods", ctx.called, detail)
        given_policy = spec.get("preemptionPolicy")
        if given_policy is not None and given_policy != policy:
            detail = (
                f"the string value of PreemptionPolicy ({given_policy}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name"
            )
            raise errors.forbidden("", "pods", ctx.called, detail)
        spec["priority"] = value
        spec["preemptionPolicy"] = policy
        return False

    def _class(self, ctx: RequestContext, spec: JSON) -> JSON | None:
        name = spec.get("priorityClassName")
        if not name:
            return self._default_class()
        found = self._classes.get("", name)
        if found is None:
            raise errors.forbidden("", "pods", ctx.called, f"no PriorityClass with name {name} was found")
        return found

    def _default_class(self) -> JSON | None:
        """The class with globalDefault; of several the one with the lowest value."""
        classes = [one for one in self._classes.list() if one.get("globalDefault")]
        return min(classes, key=lambda one: one.get("value", 0), default=None)

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        if ctx.resource_key != _KEY or obj is None or not obj.get("globalDefault"):
            return
        existing = self._default_class()
        if existing is not None and (ctx.operation == CREATE or meta.name(existing) != meta.name(obj)):
            detail = f"PriorityClass {meta.name(existing)} is already marked as default. Only one default can exist"
            raise errors.forbidden("scheduling.k8s.io", "priorityclasses", ctx.name, detail)


def _keep(spec: JSON, old: JSON) -> None:
    """What was given on create stays where an update says nothing of it. Other changes are for validation to refuse."""
    for name in ("priority", "preemptionPolicy"):
        if spec.get(name) is None and old.get(name) is not None:
            spec[name] = old[name]
