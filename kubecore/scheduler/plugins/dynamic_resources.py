"""Would free a resource claim that nothing uses before a pod is evicted; no claim is ever allocated here, so it never
can, and says so as kube-scheduler does of every pod without claims.

(kubernetes `plugins/dynamicresources/dynamicresources.go`, PostFilter.)
"""

from __future__ import annotations

from kubecore.scheduler.events import ClusterEvent
from kubecore.scheduler.framework import CycleState, Diagnosis, PostFilter, PostFilterResult
from kubecore.scheduler.pods import PodInfo


class DynamicResources(PostFilter):
    name = "DynamicResources"
    wakes = frozenset()

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        return False

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        claims = pod.spec.get("resourceClaims")
        return PostFilterResult("still not schedulable" if claims else "no new claims to deallocate")
