"""Holds back pods that claim devices: no ResourceClaim is ever allocated here, as in a cluster without DRA drivers.

Whoever allocates claims by other means disables the plugin. Of its PostFilter, which would free a claim that nothing
uses before a pod is evicted, there remains what kube-scheduler says when there is none.

(kubernetes `plugins/dynamicresources/dynamicresources.go`.)
"""

from __future__ import annotations

from kubecore.scheduler.cache import Cache
from kubecore.scheduler.events import ClusterEvent
from kubecore.scheduler.framework import (
    CycleState,
    Diagnosis,
    PluginError,
    PostFilter,
    PostFilterResult,
    PreFilter,
    PreFilterResult,
)
from kubecore.scheduler.pods import PodInfo


class DynamicResources(PreFilter, PostFilter):
    name = "DynamicResources"
    wakes = frozenset()

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        return False

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        state.notes[self.name] = True
        return PreFilterResult("cannot allocate all claims") if pod.spec.get("resourceClaims") else None

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        if diagnosis.everywhere and self.name not in state.notes:
            # Upstream's looks for what its PreFilter noted, and one before it refused the pod: nobody makes room then.
            raise PluginError("not found")
        claims = pod.spec.get("resourceClaims")
        return PostFilterResult("still not schedulable" if claims else "no new claims to deallocate")
