"""Which pods of a DaemonSet should be on which nodes: pure functions.

(kubernetes `pkg/controller/daemon/daemon_controller.go`, `update.go` and `util/daemonset_util.go`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.api.node_selection import accepts_node
from kubecore.api.taints import is_tolerated
from kubecore.client.client import Object
from kubecore.controllers import pods
from kubecore.controllers.int_or_percent import scaled
from kubecore.controllers.workloads.revisions import HASH_LABEL

# kept for pods of before revisions: an annotation of the DaemonSet, a label of its pods
_GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
_GENERATION_LABEL = "pod-template-generation"
# A daemon stays where other pods are kept off or evicted: it may be what puts the node right.
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_TOLERATED_ON_HOST_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")

# what a DaemonSet's status says also when it is 0
ALWAYS_TOLD = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")

ByNode = Mapping[str, list[Object]]


# ---------------------------------------------------------------------- the pod
def tolerations(pod_spec: Object) -> list[dict[str, Any]]:
    """The template's tolerations and those that every daemon has, without a limit in time."""
    found = list(pod_spec.get("tolerations") or ())
    wanted = [*_TOLERATED, *([_TOLERATED_ON_HOST_NETWORK] if pod_spec.get("hostNetwork") else [])]
    for key, effect in wanted:
        own = {"key": key, "operator": "Exists", "effect": effect}
        for index, one in enumerate(found):
            if {name: value for name, value in one.items() if value and name != "tolerationSeconds"} == own:
                found[index] = own
                break
        else:
            found.append(own)
    return found


def pod_template(daemon_set: Object, hash: str, node: str) -> Object:
    """The template of the pod for one node, to which the scheduler will bind it."""
    template: Object = meta.deepcopy(daemon_set["spec"]["template"])
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    generation = _template_generation(daemon_set)
    if generation is not None:
        labels[_GENERATION_LABEL] = generation
    labels[HASH_LABEL] = hash
    spec = template["spec"]
    spec["tolerations"] = tolerations(spec)
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    # what the template itself requires of a node has been checked by then
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return template


def target_node(pod: Object) -> str:
    """The node the pod runs on, or is meant for while it is not bound; "" for a pod that names none."""
    bound = pods.node_name(pod)
    if bound:
        return bound
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            if one["key"] == "metadata.name" and one["operator"] == "In":
                values = one.get("values") or []
                return values[0] if len(values) == 1 else ""
    return ""


def is_updated(daemon_set: Object, pod: Object, hash: str) -> bool:
    labels = meta.labels(pod)
    generation = _template_generation(daemon_set)
    return labels.get(HASH_LABEL) == hash or (generation is not None and labels.get(_GENERATION_LABEL) == generation)


def _template_generation(daemon_set: Object) -> str | None:
    text = meta.annotations(daemon_set).get(_GENERATION_ANNOTATION)
    return text if text is not None and text.lstrip("-").isdigit() else None


def oldest_first(found: Iterable[Object]) -> list[Object]:
    """Bound ones first, then by age."""
    return sorted(
        found, key=lambda pod: (not pods.node_name(pod), pod["metadata"].get("creationTimestamp") or "", meta.name(pod))
    )


# ---------------------------------------------------------------------- nodes
@dataclass(frozen=True, slots=True)
class Fit:
    """What a node is to a DaemonSet: whether a pod should be made there, and whether one may stay."""

    run: bool
    stay: bool


_NOWHERE = Fit(run=False, stay=False)
_ANYTHING = Fit(run=True, stay=True)


def fit(daemon_set: Object, node: Object) -> Fit:
    spec = daemon_set["spec"]["template"]["spec"]
    name = meta.name(node)
    if spec.get("nodeName") not in (None, "", name) or not accepts_node(spec, name=name, labels=meta.labels(node)):
        return _NOWHERE
    taints = node["spec"].get("taints")
    if not taints:
        # most nodes have none, and this is asked of each of them in each sync
        return _ANYTHING
    tolerated = tolerations(spec)
    refused = {taint["effect"] for taint in taints if not is_tolerated(taint, tolerated)} - {"PreferNoSchedule"}
    return Fit(run=not refused, stay="NoExecute" not in refused)


@dataclass(frozen=True, slots=True)
class Limits:
    surge: int
    unavailable: int


def limits(daemon_set: Object, desired: int) -> Limits:
    """maxSurge and maxUnavailable, both rounded up; never both 0, or nothing could move."""
    rolling = _rolling(daemon_set)
    surge = scaled(rolling.get("maxSurge"), desired, up=True)
    unavailable = scaled(rolling.get("maxUnavailable"), desired, up=True)
    if desired > 0 and surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(surge, unavailable)


def allows_surge(daemon_set: Object) -> bool:
    return scaled(_rolling(daemon_set).get("maxSurge"), 1, up=True) > 0


def is_rolling(daemon_set: Object) -> bool:
    return bool((daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def _rolling(daemon_set: Object) -> Object:
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    return (strategy.get("rollingUpdate") or {}) if is_rolling(daemon_set) else {}


# ---------------------------------------------------------------------- plans
@dataclass(slots=True)
class Plan:
    """Nodes that are to get a pod, and pods that are to go."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.delete)


def keep_one(daemon_set: Object, running: list[Object], hash: str, now: datetime) -> list[Object]:
    """Which of a node's pods are too many: all but the oldest, or with surge all but the oldest old and new one.

    `running` are neither finished nor being deleted. The old one goes when it is not ready or the new one available.
    """
    ordered = oldest_first(running)
    if not allows_surge(daemon_set):
        return ordered[1:]
    if len(ordered) <= 1:
        return []
    new = [pod for pod in ordered if meta.labels(pod).get(HASH_LABEL) == hash]
    old = [pod for pod in ordered if meta.labels(pod).get(HASH_LABEL) != hash]
    surplus = new[1:] + old[1:]
    if new and old and (not pods.is_ready(old[0]) or is_available(daemon_set, new[0], now)):
        surplus.append(old[0])
    return surplus


def is_available(daemon_set: Object, pod: Object, now: datetime) -> bool:
    return pods.available_in(pod, daemon_set["spec"].get("minReadySeconds") or 0, now) == 0


def _pair(daemon_set: Object, found: Iterable[Object], hash: str) -> tuple[Object | None, Object | None] | None:
    """The new and the old pod of a node; None when there is more than one of either, which is put right first."""
    new: list[Object] = []
    old: list[Object] = []
    for pod in found:
        if not meta.is_deleting(pod):
            (new if is_updated(daemon_set, pod, hash) else old).append(pod)
    if len(new) > 1 or len(old) > 1:
        return None
    return (new[0] if new else None), (old[0] if old else None)


def roll(daemon_set: Object, by_node: ByNode, fits: Mapping[str, Fit], hash: str, now: datetime) -> Plan:
    """The next step of a rolling update. `by_node` has an entry for each node that should run a pod."""
    desired = sum(1 for one in fits.values() if one.run)
    allowed = limits(daemon_set, desired)
    if allowed.surge == 0:
        return _roll_in_place(daemon_set, by_node, hash, allowed.unavailable, now)
    return _roll_with_surge(daemon_set, by_node, fits, hash, allowed.surge, now)


def _roll_in_place(daemon_set: Object, by_node: ByNode, hash: str, max_unavailable: int, now: datetime) -> Plan:
    """Delete old pods: those that are not available at once, others as far as maxUnavailable lets."""
    unavailable = 0
    at_once: list[Object] = []
    candidates: list[Object] = []
    for found in by_node.values():
        pair = _pair(daemon_set, found, hash)
        if pair is None:
            unavailable += 1
            continue
        new, old = pair
        if (new is None) == (old is None):
            unavailable += 1
        elif new is not None:
            unavailable += not is_available(daemon_set, new, now)
        elif old is not None and not is_available(daemon_set, old, now):
            at_once.append(old)
            unavailable += 1
        elif old is not None:
            candidates.append(old)
    return Plan(delete=at_once + candidates[: max(0, max_unavailable - unavailable)])


@dataclass(slots=True)
class _Surging:
    """What the nodes of a surging update come to."""

    waiting: int = 0
    available: int = 0
    replaced: list[Object] = field(default_factory=list)
    misplaced: list[Object] = field(default_factory=list)
    at_once: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)


def _roll_with_surge(
    daemon_set: Object, by_node: ByNode, fits: Mapping[str, Fit], hash: str, max_surge: int, now: datetime
) -> Plan:
    """Make new pods beside old ones, as many as maxSurge lets, and delete an old one when its new one is available."""
    state = _Surging()
    for node, found in by_node.items():
        pair = _pair(daemon_set, found, hash)
        if pair is None:
            state.waiting += 1
            continue
        _judge(daemon_set, state, node, pair, fits.get(node, _NOWHERE).run, now)
    desired = sum(1 for one in fits.values() if one.run)
    # a daemon that moves from node to node goes from the old one only when there are enough elsewhere
    spare = max(0, state.available - desired)
    room = max(0, max_surge - state.waiting)
    return Plan(
        create=state.at_once + state.candidates[:room],
        delete=state.replaced + state.misplaced[:spare],
    )


def _judge(
    daemon_set: Object,
    state: _Surging,
    node: str,
    pair: tuple[Object | None, Object | None],
    should_run: bool,
    now: datetime,
) -> None:
    new, old = pair
    counted = old if old is not None else new
    if counted is None:
        return
    available = is_available(daemon_set, counted, now)
    state.available += available
    if old is None:
        return
    if new is not None:
        if is_available(daemon_set, new, now):
            state.replaced.append(old)
        else:
            state.waiting += 1
    elif not should_run:
        (state.misplaced if available else state.replaced).append(old)
    else:
        (state.candidates if available else state.at_once).append(node)


# ---------------------------------------------------------------------- status
def counts(daemon_set: Object, by_node: ByNode, fits: Mapping[str, Fit], hash: str, now: datetime) -> dict[str, int]:
    """The numbers of a DaemonSet's status; the oldest pod of a node speaks for it."""
    totals = {name: 0 for name in (*ALWAYS_TOLD, "updatedNumberScheduled", "numberAvailable", "numberUnavailable")}
    for node, one in fits.items():
        found = by_node.get(node)
        if not one.run:
            totals["numberMisscheduled"] += bool(found)
            continue
        totals["desiredNumberScheduled"] += 1
        if not found:
            continue
        first = oldest_first(found)[0]
        totals["currentNumberScheduled"] += 1
        totals["numberReady"] += pods.is_ready(first)
        totals["numberAvailable"] += is_available(daemon_set, first, now)
        totals["updatedNumberScheduled"] += is_updated(daemon_set, first, hash)
    totals["numberUnavailable"] = totals["desiredNumberScheduled"] - totals["numberAvailable"]
    return totals
