"""Publishes the cluster's certificate authority to every namespace, as ConfigMap kube-root-ca.crt."""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.metrics import Counter, Histogram, Named, exponential

CONFIG_MAP = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)
_SYNCS = "[ALPHA] Number of namespace syncs happened in root ca cert publisher."


class RootCAPublisher(Controller):
    """Keys are namespaces. A copy that somebody changes or deletes is put right."""

    name = "root-ca-certificate-publisher-controller"
    queue_name = "root_ca_cert_publisher"

    def __init__(self, context: ControllerContext, root_ca: bytes) -> None:
        super().__init__(context)
        self._data = {"ca.crt": root_ca.decode()}
        self._syncs = Counter(Named("root_ca_cert_publisher_sync_total", _SYNCS, ("code",)))
        durations = Named("root_ca_cert_publisher_sync_duration_seconds", _SYNCS, ("code",))
        self._durations = Histogram(durations, exponential(0.001, 2, 15))
        self.metrics = (self._syncs, self._durations)
        self._namespaces = self.informer("namespaces")
        self._maps = self.informers.informer("configmaps", field_selector=f"metadata.name={CONFIG_MAP}")
        self._needs.append(self._maps)
        self._namespaces.add_handler(self.enqueue, lambda _, new: self.enqueue(new))
        self._maps.add_handler(
            on_update=lambda _, new: self.queue.add(meta.namespace(new)),
            on_delete=lambda old: self.queue.add(meta.namespace(old)),
        )

    async def sync(self, key: str) -> float | None:
        began, code = self.clock.monotonic(), 500
        try:
            await self._publish(key)
            code = 200
        except StatusError as error:
            code = error.code
            raise
        finally:
            self._syncs.add(str(code))
            self._durations.observe(self.clock.monotonic() - began, str(code))
        return None

    async def _publish(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or meta.is_deleting(namespace):
            return
        current = self._maps.get(f"{key}/{CONFIG_MAP}")
        annotations = {"kubernetes.io/description": _DESCRIPTION}
        if current is not None:
            await self._put_right(current, annotations)
            return
        metadata = {"name": CONFIG_MAP, "namespace": key, "annotations": annotations}
        try:
            await self.client.create("configmaps", {"metadata": metadata, "data": self._data})
        except StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _put_right(self, current: Object, annotations: dict[str, str]) -> None:
        same = current.get("data") == self._data
        if same and all(meta.annotations(current).get(k) == v for k, v in annotations.items()):
            return
        changed = meta.deepcopy(current)
        changed["data"] = self._data
        changed["metadata"].setdefault("annotations", {}).update(annotations)
        await self.client.update("configmaps", changed)
