"""DefaultTolerationSeconds and TaintNodesByCondition: how long pods stay on failing nodes, and new nodes start tainted;
ExtendedResourceToleration: nodes that are tainted for what is special about them get the pods that ask for it.

After upstream plugin/pkg/admission/defaulttolerationseconds, .../nodetaint and .../extendedresourcetoleration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.registry.validation.resources import is_extended

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


class DefaultTolerationSeconds(Plugin):
    name = "DefaultTolerationSeconds"

    def __init__(self, *, not_ready: int, unreachable: int) -> None:
        """How many seconds a pod that says nothing stays on such a node."""
        self._seconds = {NOT_READY: not_ready, UNREACHABLE: unreachable}

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation in (CREATE, UPDATE) and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return False
        tolerations = spec.get("tolerations") or []
        missing = [taint for taint in self._seconds if not any(_tolerates(one, taint) for one in tolerations)]
        if missing:
            added = (_toleration(taint, self._seconds[taint]) for taint in missing)
            spec["tolerations"] = [*tolerations, *added]
        return False


def _tolerates(toleration: JSON, taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in ("NoExecute", None, "")


def _toleration(taint: str, seconds: int) -> JSON:
    return {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}


class TaintNodesByCondition(Plugin):
    name = "TaintNodesByCondition"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "nodes" and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if any(one.get("key") == NOT_READY and one.get("effect") == "NoSchedule" for one in taints):
            return False
        spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]
        return False


class ExtendedResourceToleration(Plugin):
    name = "ExtendedResourceToleration"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation in (CREATE, UPDATE) and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return False
        asked = {
            name
            for field in ("containers", "initContainers")
            for container in spec.get(field) or ()
            for name in (container.get("resources") or {}).get("requests") or ()
            if is_extended(name)
        }
        for name in sorted(asked):
            wanted = {"key": name, "operator": "Exists", "effect": "NoSchedule"}
            tolerations = spec.get("tolerations") or []
            if any(one == wanted for one in tolerations):
                continue
            # One for all values of the key's taint takes the place of those that are for the same.
            kept = [wanted if _is_for_the_same(one, wanted) else one for one in tolerations]
            spec["tolerations"] = kept if wanted in kept else [*kept, wanted]
        return False


def _is_for_the_same(one: JSON, other: JSON) -> bool:
    return all((one.get(field) or "") == (other.get(field) or "") for field in ("key", "effect", "operator", "value"))
