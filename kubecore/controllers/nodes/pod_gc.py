"""Removes pods nobody else will: of nodes that are gone, deleted before they were bound, finished and too many.

(kubernetes `pkg/controller/podgc`; driven by events here where upstream looks every 20 seconds.)
"""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import conditions, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.nodes.node_lifecycle import NODE_INDEX, pod_node
from kubecore.metrics import Counter, Named

# A node that is deleted and comes back within this time keeps its pods.
_QUARANTINE_SECONDS = 40.0
_FINISHED = "finished"
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

_LABELS = ("namespace", "reason")
_DELETIONS = "[ALPHA] Number of pods that are being forcefully deleted since the Pod GC Controller started."
_ERRORS = "[ALPHA] Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started."


class PodGCController(Controller):
    """Keys are "node/<name>" for a node that may be gone, "pod/<key>" for a pod, and "finished"."""

    name = "pod-garbage-collector-controller"
    queue_name = "orphaned_pods_nodes"
    workers = 1

    def __init__(self, context: ControllerContext, *, threshold: int) -> None:
        super().__init__(context)
        self._threshold = threshold
        self._deletions = Counter(Named("pod_gc_collector_force_delete_pods_total", _DELETIONS, _LABELS))
        self._errors = Counter(Named("pod_gc_collector_force_delete_pod_errors_total", _ERRORS, _LABELS))
        self.metrics = (self._deletions, self._errors)
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        self._pods.add_index(NODE_INDEX, pod_node, of=Of.SPEC)
        self._finished: set[str] = set()
        self._nodes.add_handler(on_update=lambda _, new: self._node_updated(new), on_delete=self._node_gone)
        self._pods.add_handler(self._pod_seen, lambda _, new: self._pod_seen(new), self._pod_gone)

    def _node_gone(self, node: Object) -> None:
        self.queue.add_after(f"node/{meta.name(node)}", _QUARANTINE_SECONDS)

    def _node_updated(self, node: Object) -> None:
        if _is_out_of_service(node):
            self.queue.add(f"node/{meta.name(node)}")

    def _pod_seen(self, pod: Object) -> None:
        key, node = meta.key(pod), pods.node_name(pod)
        if node and self._nodes.synced and self._nodes.get(node) is None:
            self.queue.add_after(f"node/{node}", _QUARANTINE_SECONDS)
        if meta.is_deleting(pod) and not node:
            self.queue.add(f"pod/{key}")
        elif meta.is_deleting(pod) and (there := self._nodes.get(node)) is not None and _is_out_of_service(there):
            self.queue.add(f"node/{node}")
        if not pods.is_finished(pod):
            self._finished.discard(key)
            return
        self._finished.add(key)
        if 0 < self._threshold < len(self._finished):
            self.queue.add(_FINISHED)

    def _pod_gone(self, pod: Object) -> None:
        self._finished.discard(meta.key(pod))

    async def started(self) -> None:
        for pod in self._pods.list():
            self._pod_seen(pod)

    async def sync(self, key: str) -> float | None:
        kind, _, name = key.partition("/")
        if kind == "node":
            await self._collect_node(name)
        elif kind == "pod":
            pod = self._pods.get(name)
            if pod is not None and meta.is_deleting(pod) and not pods.node_name(pod):
                await self._remove(pod, "unscheduled")
        else:
            await self._collect_finished()
        return None

    async def _collect_node(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is not None and not _is_out_of_service(node):
            return
        if node is None and not await self._is_really_gone(name):
            return
        for pod in self._pods.by_index(NODE_INDEX, name):
            # of a node that is only out of service, those go that are on their way out
            if node is None:
                await self._remove(pod, "orphaned", "PodGC: node no longer exists")
            elif meta.is_deleting(pod):
                await self._remove(pod, "out-of-service")

    async def _is_really_gone(self, name: str) -> bool:
        return await self.client.find("nodes", name) is None

    async def _collect_finished(self) -> None:
        surplus = len(self._finished) - self._threshold
        found = [pod for pod in (self._pods.get(key) for key in self._finished) if pod is not None]
        found.sort(key=lambda pod: (not _is_evicted(pod), pod["metadata"]["creationTimestamp"], meta.key(pod)))
        for pod in found[: max(0, surplus)]:
            await self._remove(pod, "terminated")

    async def _remove(self, pod: Object, reason: str, message: str = "") -> None:
        """Delete without grace; a pod that did not finish is told to have failed first, for those who count. `reason`
        is told in metrics, `message` to the pod.
        """
        try:
            if not pods.is_finished(pod):
                await self._fail(pod, message)
            await self.client.delete(
                "pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod), grace_period_seconds=0
            )
        except StatusError as error:
            if errors.is_not_found(error):
                return
            self._errors.add(meta.namespace(pod), reason)
            raise
        self._deletions.add(meta.namespace(pod), reason)

    async def _fail(self, pod: Object, message: str) -> None:
        status: Object = {"phase": "Failed", "observedGeneration": meta.generation(pod)}
        if message:
            target = conditions.of_pod(pod, "DisruptionTarget", "True", self.clock.now(), "DeletionByPodGC", message)
            status |= meta.condition_patch(pod, target)
        # its account may patch the status, and no more
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": status}
        await self.client.patch_raw("pods", meta.name(pod), patch, meta.namespace(pod), subresource="status")


def _is_out_of_service(node: Object) -> bool:
    """Somebody says that it is off. One that is ready is not, and its kubelet sees to its pods."""
    is_said = any(taint["key"] == _OUT_OF_SERVICE for taint in node["spec"].get("taints") or ())
    return is_said and not conditions.is_true(node, "Ready")


def _is_evicted(pod: Object) -> bool:
    status = pod.get("status") or {}
    return status.get("phase") == "Failed" and status.get("reason") == "Evicted"
