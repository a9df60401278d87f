"""Which pods are to get a node that is being made free for them. (kubernetes `backend/queue/nominator.go`.)"""

from __future__ import annotations

from typing import Protocol

from kubecore.scheduler.pods import PodInfo


class NominationObserver(Protocol):
    """Is told of all nominations, and keeps books of its own. Must not raise."""

    def nominated(self, pod: PodInfo, node: str) -> None:
        """For the first time, or a newer version of the pod, or for another node."""

    def withdrawn(self, uid: str) -> None: ...


class Nominations:
    """Invariant: a pod in `_on[node]` under its uid has that node in `_node_of`, and the other way round.

    What is nominated here may be ahead of the pod's status, which is written later.
    """

    def __init__(self) -> None:
        self._on: dict[str, dict[str, PodInfo]] = {}
        self._node_of: dict[str, str] = {}
        self._observer: NominationObserver | None = None

    def observe(self, observer: NominationObserver) -> None:
        """Tell `observer` of all there are, and of every change from now on."""
        self._observer = observer
        for node, pods in self._on.items():
            for pod in pods.values():
                observer.nominated(pod, node)

    def __bool__(self) -> bool:
        return bool(self._node_of)

    def on(self, node: str) -> list[PodInfo]:
        """The pods nominated to run on that node."""
        return list(self._on.get(node, {}).values())

    def node_of(self, uid: str) -> str:
        """The node that a pod is nominated to run on, or ""."""
        return self._node_of.get(uid, "")

    def pod(self, uid: str) -> PodInfo | None:
        """The nominated pod, as it was known last."""
        return self._on[node].get(uid) if (node := self.node_of(uid)) else None

    def put(self, pod: PodInfo, node: str) -> None:
        """Nominate the pod, or a newer version of it, for `node`; "" takes its nomination back."""
        self.remove(pod.uid)
        if node:
            self._node_of[pod.uid] = node
            self._on.setdefault(node, {})[pod.uid] = pod
            if self._observer is not None:
                self._observer.nominated(pod, node)

    def remove(self, uid: str) -> str:
        """Where the pod was nominated to run, or ""."""
        node = self._node_of.pop(uid, "")
        if node:
            del self._on[node][uid]
            if not self._on[node]:
                del self._on[node]
            if self._observer is not None:
                self._observer.withdrawn(uid)
        return node

    def updated(self, old: PodInfo | None, new: PodInfo) -> None:
        """A waiting pod was seen as its status now says. An update that was on its way before the nomination, and so
        does not know of it, keeps it.
        """
        before = old.nominated_node if old is not None else ""
        node = new.nominated_node
        if not before and not node:
            node = self.node_of(new.uid)
        self.put(new, node)
