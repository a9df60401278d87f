"""Notices nodes that fell silent, taints nodes by their conditions, and takes pods of lost nodes out of service.

(kubernetes `pkg/controller/nodelifecycle`.) A node shows that it lives by its Lease or by its status.
"""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import conditions, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.readiness import mark_not_ready
from kubecore.metrics import Counter, Named

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
_HEARTBEAT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def pod_node(pod: Object) -> list[str]:
    """Index function: the node a pod is bound to."""
    name = pods.node_name(pod)
    return [name] if name else []


class NodeLifecycleController(Controller):
    """Keys are nodes. Heartbeats only note the time; one timer per node looks whether there were any."""

    name = "node-lifecycle-controller"
    # Thousands of nodes may come at once, and get no pods before they were looked at; where the API is busy, each takes
    # as long as its writes wait.
    workers = 32

    def __init__(self, context: ControllerContext, *, grace_seconds: float) -> None:
        super().__init__(context)
        self._recorder = context.recorder("node-controller")
        self._evictions = Counter(Named("node_collector_evictions_total", _EVICTIONS, ("zone",)))
        self.metrics = (self._evictions,)
        self._grace_seconds = grace_seconds
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        self._pods.add_index(NODE_INDEX, pod_node, of=Of.SPEC)
        self._leases = self.informers.informer("leases.coordination.k8s.io", namespace=LEASE_NAMESPACE)
        self._needs.append(self._leases)
        self._heard: dict[str, float] = {}
        self._nodes.add_handler(self._node_added, self._node_updated, self._node_deleted)
        self._leases.add_handler(self._lease_seen, self._lease_renewed)

    # ------------------------------------------------------------------ heartbeats
    def _node_added(self, node: Object) -> None:
        name = meta.name(node)
        self._heard[name] = self.clock.monotonic()
        self._recorder.event(
            node, "Normal", "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller"
        )
        self.enqueue(node)

    def _node_updated(self, old: Object, new: Object) -> None:
        if _heartbeat(old) != _heartbeat(new):
            self._heard[meta.name(new)] = self.clock.monotonic()
        if _outlook(old) != _outlook(new):
            self.enqueue(new)

    def _node_deleted(self, node: Object) -> None:
        name = meta.name(node)
        self._heard.pop(name, None)
        self._recorder.event(node, "Normal", "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")

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
        lost = silent >= self._grace_seconds
        was_ready = conditions.is_true(node, "Ready")
        if lost:
            node = await self._mark_unknown(node)
        if was_ready and lost:
            self._recorder.event(node, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        node = await self._taint(node)
        await self._take_pods_out(node)
        # a lost node is looked at again when it speaks: that changes its status
        return None if lost else self._grace_seconds - silent

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

    async def _taint(self, node: Object) -> Object:
        taints = wanted_taints(node, meta.format_time(self.clock.now()))
        if taints == (node["spec"].get("taints") or []):
            return node
        patch = {"metadata": {"resourceVersion": meta.resource_version(node)}, "spec": {"taints": taints}}
        tainted = await self.client.patch("nodes", meta.name(node), patch, patch_type="merge")
        if any(_evicts(taint) for taint in taints) and not any(map(_evicts, node["spec"].get("taints") or ())):
            self._evictions.add(_zone(node))
        return tainted

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


def _evicts(taint: Taint) -> bool:
    return taint["key"] in (NOT_READY, UNREACHABLE) and taint["effect"] == "NoExecute"


def _zone(node: Object) -> str:
    """As metrics tell it (component-helpers `node/topology`)."""
    labels = meta.labels(node)
    zone, region = (
        labels.get(f"failure-domain.beta.kubernetes.io/{one}", labels.get(f"topology.kubernetes.io/{one}", ""))
        for one in ("zone", "region")
    )
    return f"{region}:\0:{zone}" if region or zone else ""


def _heartbeat(node: Object) -> list[Any]:
    return [c.get("lastHeartbeatTime") for c in (node.get("status") or {}).get("conditions") or ()]


def _outlook(node: Object) -> tuple[Any, ...]:
    """What taints follow from."""
    found = tuple((c["type"], c["status"]) for c in (node.get("status") or {}).get("conditions") or ())
    return found, node["spec"].get("unschedulable"), node["spec"].get("taints")


def wanted_taints(node: Object, now: str) -> list[Taint]:
    """The node's own taints, and those its conditions and spec.unschedulable ask for, as they were where they stay."""
    effects: set[tuple[str, str]] = set()
    for type, by_status in _CONDITION_TAINTS.items():
        condition = conditions.find(node, type)
        key = by_status.get(condition["status"]) if condition is not None else None
        if key is not None:
            effects.add((key, "NoSchedule"))
            if type == "Ready":
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
