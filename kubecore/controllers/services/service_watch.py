"""What both endpoint controllers watch: Services, and the pods that serve them."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.label_index import by_labels, having
from kubecore.controllers.services import service_endpoints as rules

_BY_SELECTOR = "first of selector"
_SELECTING = "namespace of selector"


class ServiceController(Controller):
    """Keys are Services; a pod that changes in what matters enqueues those it serves or served."""

    workers = 3

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.services = self.informer("services")
        self.pods = self.informer("pods")
        self.services.add_index(_BY_SELECTOR, _first_of_selector)
        self.services.add_index(_SELECTING, _namespace_of_selector)
        by_labels(self.pods)
        self.services.add_handler(self.enqueue, lambda _, new: self.enqueue(new), self.enqueue)
        self.pods.add_handler(self._pod_changed, self._pod_updated, self._pod_changed)

    def _pod_changed(self, pod: Object) -> None:
        labels, namespace = meta.labels(pod), meta.namespace(pod)
        if not self.services.has(_SELECTING, namespace):
            return
        for name, value in labels.items():
            for service in self.services.by_index(_BY_SELECTOR, f"{namespace}/{name}={value}"):
                if rules.selects(service, labels):
                    self.enqueue(service)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if not self.services.has(_SELECTING, meta.namespace(new)) or rules.serve_alike(old, new):
            return
        self._pod_changed(new)
        if meta.labels(old) != meta.labels(new):
            self._pod_changed(old)

    def chosen_pods(self, service: Object) -> list[Object]:
        """All pods the Service's selector chooses, in a stable order."""
        selector = service["spec"].get("selector")
        found = having(self.pods, meta.namespace(service), selector) if selector else []
        return sorted(found, key=meta.name)


def _namespace_of_selector(service: Object) -> list[str]:
    """Index: its namespace, if it has a selector."""
    return [meta.namespace(service)] if service["spec"].get("selector") else []


def _first_of_selector(service: Object) -> list[str]:
    """Index: a label that all pods of a Service have, one of its selector's."""
    for name, value in (service["spec"].get("selector") or {}).items():
        return [f"{meta.namespace(service)}/{name}={value}"]
    return []
