"""Notices nodes that fell silent, taints nodes by their conditions, and takes pods of lost nodes out of service.

(kubernetes `pkg/controller/nodelifecycle`.) A node shows that it lives by its Lease or by its status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import conditions, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.nodes.disruption_zones import DisruptionZones, EvictionRates, zone_of
from kubecore.controllers.readiness import mark_not_ready
from kubecore.metrics import Counter, Metric, Named, Reading

LEASE_NAMESPACE = "kube-node-lease"
NODE_INDEX = "node"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

Taint = dict[str, Any]

_EVICTIONS = "[STABLE] Number of Node evictions that happened since current instance of NodeController started."

# condition -> its status -> taint
_CONDITION_TAINTS = {
    "Ready": {"False": NOT_READY, "Unknown": UNREACHABLE},
    "MemoryPressure": {"True": "node.kubernetes.io/memory-pressure"},
    "DiskPressure": {"True": "node.kubernetes.io/disk-pressure"},
    "PIDPressure": {"True": "node.kubernetes.io/pid-pressure"},
    "NetworkUnavailable": {"True": "node.kubernetes.io/network-unavailable"},
}
_MANAGED = {UNSCHEDULABLE, *(taint for taints in _CONDITION_TAINTS.values() for taint in taints.values())}
_RENAMED = {"kubernetes.io/os": "beta.kubernetes.io/os", "kubernetes.io/arch": "beta.kubernetes.io/arch"}
_HEARTBEAT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def pod_node(pod: Object) -> list[str]:
    """Index function: the node a pod is bound to."""
    name = pods.node_name(pod)
    return [name] if name else []


class NodeLifecycleController(Controller):
    """Keys are nodes. Heartbeats only note the time; one timer per node looks whether there were any."""

    name = "node-lifecycle-controller"
    queue_name = "node_lifecycle_controller"
    # Thousands of nodes may come at once, and get no pods before they were looked at; where the API is busy, each takes
    # as long as its writes wait.
    workers = 32

    def __init__(
        self,
        context: ControllerContext,
        *,
        grace_seconds: float,
        startup_grace_seconds: float = 60.0,
        rates: EvictionRates | None = None,
    ) -> None:
        """The seconds that a node may be silent, and those that a new one may take until it says how it is."""
        super().__init__(context)
        self._recorder = context.recorder("node-controller")
        self._evictions = Counter(Named("node_collector_evictions_total", _EVICTIONS, ("zone",)))
        self._grace_seconds = grace_seconds
        self._startup_grace_seconds = startup_grace_seconds
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        self._pods.add_index(NODE_INDEX, pod_node, of=Of.SPEC)
        self._leases = self.informers.informer("leases.coordination.k8s.io", namespace=LEASE_NAMESPACE)
        self._needs.append(self._leases)
        self._heard: dict[str, float] = {}
        self._zones = DisruptionZones(rates or EvictionRates())
        self._was_disrupted = False
        self.metrics = (self._evictions, *_metrics_of(self._zones))
        self._nodes.add_handler(self._node_added, self._node_updated, self._node_deleted)
        self._leases.add_handler(self._lease_seen, self._lease_renewed)

    # ------------------------------------------------------------------ heartbeats
    def _node_added(self, node: Object) -> None:
        name = meta.name(node)
        self._heard[name] = self.clock.monotonic()
        self._judge_zones(self._zones.see(node, self.clock.monotonic()))
        self._recorder.event(
            node, "Normal", "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller"
        )
        self.enqueue(node)

    def _node_updated(self, old: Object, new: Object) -> None:
        if _heartbeat(old) != _heartbeat(new):
            self._heard[meta.name(new)] = self.clock.monotonic()
        if _outlook(old) != _outlook(new) or meta.labels(old) != meta.labels(new):
            self._judge_zones(self._zones.see(new, self.clock.monotonic()))
            self.enqueue(new)

    def _node_deleted(self, node: Object) -> None:
        name = meta.name(node)
        self._heard.pop(name, None)
        self._judge_zones(self._zones.forget(name, self.clock.monotonic()))
        self._recorder.event(node, "Normal", "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")

    def _judge_zones(self, changed: bool) -> None:
        """When no node is ready any more pods are to leave none of them: who cannot be heard by any may be at fault.
        When one is heard again, the others have time anew to be heard, too."""
        if not changed:
            return
        was_disrupted, self._was_disrupted = self._was_disrupted, self._zones.all_disrupted
        if was_disrupted and not self._was_disrupted:
            self._heard = dict.fromkeys(self._heard, self.clock.monotonic())
        if self._zones.all_disrupted:
            for node in self._nodes.list():
                if any(map(_evicts, node["spec"].get("taints") or ())):
                    self.enqueue(node)
            return
        self._next_turns()

    def _next_turns(self) -> None:
        for name in self._zones.turns():
            self.queue.add(name)

    def _lease_seen(self, lease: Object) -> None:
        self._heard[meta.name(lease)] = self.clock.monotonic()

    def _lease_renewed(self, old: Object, new: Object) -> None:
        if (old.get("spec") or {}).get("renewTime") != (new.get("spec") or {}).get("renewTime"):
            self._heard[meta.name(new)] = self.clock.monotonic()

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None:
            return None
        silent = self.clock.monotonic() - self._heard.setdefault(key, self.clock.monotonic())
        is_new = conditions.find(node, "Ready") is None
        left = (self._startup_grace_seconds if is_new else self._grace_seconds) - silent
        was_ready = conditions.is_true(node, "Ready")
        if left <= 0:
            node = await self._mark_unknown(node)
            self._judge_zones(self._zones.see(node, self.clock.monotonic()))
        if was_ready and left <= 0:
            self._recorder.event(node, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        node = await self._align_labels(node)
        node, turn = await self._taint(node)
        await self._take_pods_out(node)
        # a lost node is looked at again when it speaks: that changes its status
        return min([*([turn] if turn is not None else []), *([left] if left > 0 else [])], default=None)

    async def _mark_unknown(self, node: Object) -> Object:
        now = meta.format_time(self.clock.now())
        changed = meta.deepcopy(node)
        status = changed.setdefault("status", {})
        found = status.get("conditions") or []
        known = {condition["type"]: condition for condition in found}
        for type in _HEARTBEAT_CONDITIONS:
            current = known.get(type)
            if current is not None and current["status"] == "Unknown":
                continue
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
            if current is None:
                reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
            new = conditions.make(type, "Unknown", now, reason, message)
            new["lastHeartbeatTime"] = (current or {}).get("lastHeartbeatTime") or node["metadata"]["creationTimestamp"]
            found = conditions.put(found, new)
        if found == (node.get("status") or {}).get("conditions"):
            return node
        status["conditions"] = found
        return await self.client.update("nodes", changed, subresource="status")

    async def _align_labels(self, node: Object) -> Object:
        """Labels that have been renamed say under their old names what they say under the new ones."""
        labels = meta.labels(node)
        missing = {
            old: labels[new] for new, old in _RENAMED.items() if new in labels and labels.get(old) != labels[new]
        }
        if not missing:
            return node
        patch = {"metadata": {"labels": missing}}
        return await self.client.patch("nodes", meta.name(node), patch, patch_type="merge")

    async def _taint(self, node: Object) -> tuple[Object, float | None]:
        """The node with its taints, and in how many seconds pods may be taken from it, if that is for later."""
        name, current = meta.name(node), node["spec"].get("taints") or []
        was_left, turn = any(map(_evicts, current)), None
        if was_left or conditions.find(node, "Ready") is None or conditions.is_true(node, "Ready"):
            others_turn = self._zones.settle(name)
        else:
            turn = self._zones.may_evict(node, self.clock.monotonic())
            others_turn = turn == 0
        leave = (was_left and not self._zones.all_disrupted) or turn == 0
        taints = wanted_taints(node, meta.format_time(self.clock.now()), leave=leave)
        if taints != current:
            patch = {"metadata": {"resourceVersion": meta.resource_version(node)}, "spec": {"taints": taints}}
            try:
                node = await self.client.patch("nodes", name, patch, patch_type="merge")
            except BaseException:
                if turn == 0:
                    self._zones.give_back(node, self.clock.monotonic())
                raise
        if turn == 0:
            self._evictions.add(zone_of(node))
        if others_turn:
            self._next_turns()
        return node, turn or None

    # ------------------------------------------------------------------ pods of a node that is lost
    async def _take_pods_out(self, node: Object) -> None:
        """Pods of a node that is lost are not ready, so that Services leave them: its kubelet cannot say so. One that
        says that its node is not ready says of the pods, too, what is so.
        """
        ready = conditions.find(node, "Ready")
        if ready is None or ready["status"] != "Unknown":
            return
        for pod in self._pods.by_index(NODE_INDEX, meta.name(node)):
            if pods.is_ready(pod) and await mark_not_ready(self.client, pod, self.clock.now()):
                self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _metrics_of(zones: DisruptionZones) -> list[Metric]:
    def told(name: str, what: str, of: Callable[[int, int], float]) -> Metric:
        named = Named(f"node_collector_{name}", f"[ALPHA] Gauge measuring {what}.", ("zone",))
        return Reading(named, lambda: [((zone,), of(*counts)) for zone, counts in sorted(zones.counts().items())])

    def health(ready: int, unready: int) -> float:
        return 100 * ready / (ready + unready) if ready + unready else 100

    return [
        told("zone_size", "number of registered Nodes per zones", lambda ready, unready: ready + unready),
        told("zone_health", "percentage of healthy nodes per zone", health),
        told("unhealthy_nodes_in_zone", "number of not Ready Nodes per zones", lambda _, unready: unready),
    ]


def _evicts(taint: Taint) -> bool:
    return taint["key"] in (NOT_READY, UNREACHABLE) and taint["effect"] == "NoExecute"


def _heartbeat(node: Object) -> list[Any]:
    return [c.get("lastHeartbeatTime") for c in (node.get("status") or {}).get("conditions") or ()]


def _outlook(node: Object) -> tuple[Any, ...]:
    """What taints follow from."""
    found = tuple((c["type"], c["status"]) for c in (node.get("status") or {}).get("conditions") or ())
    return found, node["spec"].get("unschedulable"), node["spec"].get("taints")


def wanted_taints(node: Object, now: str, *, leave: bool) -> list[Taint]:
    """The node's own taints, and those its conditions and spec.unschedulable ask for, as they were where they stay.
    `leave`: pods are to leave the node while it is not ready."""
    effects: set[tuple[str, str]] = set()
    for type, by_status in _CONDITION_TAINTS.items():
        condition = conditions.find(node, type)
        key = by_status.get(condition["status"]) if condition is not None else None
        if key is not None:
            effects.add((key, "NoSchedule"))
            if type == "Ready" and leave:
                effects.add((key, "NoExecute"))
    if node["spec"].get("unschedulable"):
        effects.add((UNSCHEDULABLE, "NoSchedule"))
    current: list[Taint] = node["spec"].get("taints") or []
    # without a Ready condition nothing is known yet: what registered the node knows better
    unknown = conditions.find(node, "Ready") is None
    kept = [
        taint
        for taint in current
        if taint["key"] not in _MANAGED
        or (taint["key"], taint["effect"]) in effects
        or (unknown and taint["key"] == NOT_READY)
    ]
    present = {(taint["key"], taint["effect"]) for taint in kept}
    missing = sorted(effects - present, key=lambda one: (one[1] == "NoExecute", one[0]))
    added = [{"key": key, "effect": effect, "timeAdded": now} for key, effect in missing]
    return [*kept, *added]
