"""RuntimeClass: a pod gets the overhead and the scheduling constraints of the class it names.

After upstream plugin/pkg/admission/runtimeclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors, quantity
from kubecore.apiserver.admission.chain import CREATE, Plugin
from kubecore.apiserver.admission.held_objects import HeldObjects
from kubecore.apiserver.admission.merged_tolerations import merged

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_DIFFERS = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
_WITHOUT_CLASS = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"


class RuntimeClass(Plugin):
    name = "RuntimeClass"

    def __init__(self, cacher: Cacher) -> None:
        self._classes = HeldObjects(cacher, "runtimeclasses.node.k8s.io")

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        found = self._class(ctx, spec) if isinstance(spec, dict) else None
        if found is None or spec is None:
            return False
        if (fixed := _fixed(found)) is not None:
            if spec.get("overhead") and not _same(fixed, spec["overhead"]):
                raise _refused(ctx, _DIFFERS)
            spec["overhead"] = dict(fixed)
        if (scheduling := found.get("scheduling")) is not None:
            _schedule(ctx, spec, scheduling)
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        spec = (obj or {}).get("spec") or {}
        found = self._class(ctx, spec)
        fixed = None if found is None else _fixed(found)
        if fixed is not None:
            if not _same(fixed, spec.get("overhead") or {}):
                raise _refused(ctx, _DIFFERS)
        elif spec.get("overhead") is not None:
            raise _refused(ctx, _WITHOUT_CLASS)

    def _class(self, ctx: RequestContext, spec: JSON) -> JSON | None:
        name = spec.get("runtimeClassName")
        if name is None:
            return None
        found = self._classes.get("", name)
        if found is None:
            raise _refused(ctx, f'pod rejected: RuntimeClass "{name}" not found')
        return found


def _fixed(found: JSON) -> JSON | None:
    """What a class costs each pod; None where it says nothing of it."""
    overhead = found.get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def _same(one: JSON, other: JSON) -> bool:
    return {name: quantity.parse(amount) for name, amount in one.items()} == {
        name: quantity.parse(amount) for name, amount in other.items()
    }


def _schedule(ctx: RequestContext, spec: JSON, scheduling: JSON) -> None:
    selector = spec.get("nodeSelector") or {}
    for key, wanted in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, wanted) != wanted:
            raise _refused(
                ctx,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}",
            )
    if together := {**selector, **(scheduling.get("nodeSelector") or {})}:
        spec["nodeSelector"] = together
    if tolerations := merged(spec.get("tolerations") or (), scheduling.get("tolerations") or ()):
        spec["tolerations"] = tolerations


def _refused(ctx: RequestContext, detail: str) -> errors.StatusError:
    return errors.forbidden("", "pods", ctx.called, detail)
