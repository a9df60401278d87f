"""LimitPodHardAntiAffinityTopology: no pod keeps others away from more than the node it is on.

After upstream plugin/pkg/admission/antiaffinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_HOSTNAME = "kubernetes.io/hostname"


class LimitPodHardAntiAffinityTopology(Plugin):
    name = "LimitPodHardAntiAffinityTopology"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation in (CREATE, UPDATE) and not subresource

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        affinity = ((obj or {}).get("spec") or {}).get("affinity") or {}
        required = (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for term in required:
            if (key := term.get("topologyKey") or "") != _HOSTNAME:
                told = (
                    f"affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {_HOSTNAME} "
                    "is allowed"
                )
                raise errors.forbidden("", "pods", ctx.name, told)
