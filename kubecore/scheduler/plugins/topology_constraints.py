"""One topologySpreadConstraint of a pod: which pods it counts, and on which nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.plugins.node_affinity import accepts
from kubecore.scheduler.plugins.taint_toleration import tolerates_node
from kubecore.scheduler.pods import PodInfo

HOSTNAME = "kubernetes.io/hostname"

Matcher = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Constraint:
    max_skew: int
    key: str
    matches: Matcher
    counts_pods: bool = True
    """A selector that chooses everything counts nothing, as in Kubernetes (`countPodsMatchSelector`)."""
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False

    def counts_node(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether pods on this node count, by the constraint's node inclusion policies."""
        if self.honor_affinity and not accepts(pod, node):
            return False
        return not self.honor_taints or tolerates_node(pod, node)

    def chooses(self, other: PodInfo) -> bool:
        """Whether a pod of the same namespace counts; those being deleted do not."""
        return self.counts_pods and self.matches(other.labels) and not meta.is_deleting(other.obj)


def own_constraints(pod: PodInfo, when: str) -> list[Constraint]:
    """The pod's constraints of one kind, "DoNotSchedule" or "ScheduleAnyway". ValueError for a bad selector."""
    found = []
    for given in pod.spec.get("topologySpreadConstraints") or ():
        if given["whenUnsatisfiable"] != when:
            continue
        selector = Selector.from_label_selector(given.get("labelSelector"))
        same = {key: pod.labels[key] for key in given.get("matchLabelKeys") or () if key in pod.labels}
        found.append(
            Constraint(
                max_skew=given["maxSkew"],
                key=given["topologyKey"],
                matches=_matcher(selector, same),
                counts_pods=bool(same) or not selector.empty,
                min_domains=given.get("minDomains") or 1,
                honor_affinity=(given.get("nodeAffinityPolicy") or "Honor") == "Honor",
                honor_taints=(given.get("nodeTaintsPolicy") or "Ignore") == "Honor",
            )
        )
    return found


def _matcher(selector: Selector, same: dict[str, str]) -> Matcher:
    if not same:
        return selector.matches
    return lambda labels: same.items() <= labels.items() and selector.matches(labels)


def count_by_node(constraint: Constraint, pod: PodInfo, cache: Cache) -> dict[str, int]:
    """How many pods of the pod's namespace the constraint chooses, by node; those being deleted do not count."""
    counts: dict[str, int] = {}
    if constraint.counts_pods:
        for other in cache.pods_in(pod.namespace):
            if constraint.chooses(other):
                counts[other.node] = counts.get(other.node, 0) + 1
    return counts
