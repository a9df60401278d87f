"""What a kubelet tells of its node in events, as `kubectl describe node` shows them."""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.client.events import EventRecorder

Object = dict[str, Any]


class NodeEvents:
    def __init__(self, recorder: EventRecorder, name: str) -> None:
        self._recorder = recorder
        self._name = name

    def tell(self, reason: str, message: str, kind: str = "Normal") -> None:
        """Events of a node name it in the place of its uid, as everywhere."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "uid": self._name}}
        self._recorder.event(node, kind, reason, message)

    def warn(self, reason: str, message: str) -> None:
        self.tell(reason, message, "Warning")

    def became(self, state: str) -> None:
        """NodeReady, NodeHasDiskPressure, ..."""
        self.tell(state, f"Node {self._name} status is now: {state}")

    def rebooted(self, boot_id: str) -> None:
        """Since a kubelet of the node was last there."""
        self.warn("Rebooted", f"Node {self._name} has been rebooted, boot id: {boot_id}")

    def started(self, no_limits: str, no_ipv6: str, changed: str = "") -> None:
        """Why there are none, "" where there are. `no_limits`: which as well. `changed`: why the pods of a former run
        have not gone on."""
        self.became("NodeReady")
        if changed:
            self.warn("NodeChanged", f"Pods are started anew, the node is not what it was: {changed}")
        if no_limits:
            self.warn("LimitsNotEnforced", no_limits)
        if no_ipv6:
            self.warn("NoIPv6", f"Pods have IPv4 only: {no_ipv6}")

    def updated(self, old: Object, new: Object) -> None:
        """Somebody has changed a Node, maybe this one."""
        cordoned = bool(new["spec"].get("unschedulable"))
        if meta.name(new) == self._name and cordoned != bool(old["spec"].get("unschedulable")):
            self.became("NodeNotSchedulable" if cordoned else "NodeSchedulable")
