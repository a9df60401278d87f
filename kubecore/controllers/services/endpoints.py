"""Keeps the Endpoints of Services that have a selector, for those who still read them.

(kubernetes `pkg/controller/endpoint/endpoints_controller.go`.)
"""

from __future__ import annotations

from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.ahead import Ahead
from kubecore.client.client import Object
from kubecore.controllers import pods
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.services import service_endpoints as rules
from kubecore.controllers.services.service_watch import ServiceController
from kubecore.controllers.services.trigger_times import TriggerTimes, annotate

_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_MANAGER = "endpoint-controller"
_OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_MAXIMUM = 1000
_FAILED_TO_CREATE = ("FailedToCreateEndpoint", "Failed to create endpoint for service")
_FAILED_TO_UPDATE = ("FailedToUpdateEndpoint", "Failed to update endpoint")


class EndpointsController(ServiceController):
    name = "endpoint-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        endpoints = self.informer("endpoints")
        self._all_endpoints = endpoints
        self._endpoints = Ahead(endpoints, context.clock)
        endpoints.add_handler(on_delete=self.enqueue)
        self._times = TriggerTimes()

    async def started(self) -> None:
        """Services may have gone while nobody looked. Endpoints that serve as locks never had one."""
        for one in self._all_endpoints.list():
            if self.services.get(meta.key(one)) is None and _LEADER not in meta.annotations(one):
                self.enqueue(one)

    async def sync(self, key: str) -> float | None:
        service = self.services.get(key)
        current = self._endpoints.get(key)
        if service is None:
            self._times.forget(key)
            if current is not None:
                # those that people made for it, too
                await self._delete(current)
            return None
        if meta.is_deleting(service) or not rules.has_selector(service):
            return None
        chosen = self.chosen_pods(service)
        since = self._times.since(service, chosen)
        subsets, truncated = make_subsets(service, chosen)
        labels = {**meta.labels(service), _MANAGED_BY: _MANAGER}
        labels.pop(rules.HEADLESS_LABEL, None)
        if rules.is_headless(service):
            labels[rules.HEADLESS_LABEL] = ""
        if current is not None and (current.get("subsets") or []) == subsets and meta.labels(current) == labels:
            return self._endpoints.unseen(key)
        annotations = dict(meta.annotations(current)) if current is not None else {}
        annotate(annotations, since)
        annotations.pop(_OVER_CAPACITY, None)
        if truncated:
            annotations[_OVER_CAPACITY] = "truncated"
        await self._write(service, current, labels, annotations, subsets)
        return self._endpoints.unseen(key)

    async def _write(
        self,
        service: Object,
        current: Object | None,
        labels: dict[str, str],
        annotations: dict[str, str],
        subsets: list[Object],
    ) -> None:
        metadata: dict[str, Any] = {"name": meta.name(service), "namespace": meta.namespace(service)}
        if current is not None:
            metadata = meta.deepcopy(current["metadata"])
        metadata["labels"], metadata["annotations"] = labels, annotations
        obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
        try:
            if current is None:
                self._endpoints.made(await self.client.create("endpoints", obj))
            else:
                self._endpoints.wrote(await self.client.update("endpoints", obj))
        except StatusError as error:
            self._endpoints.forget(meta.key(service))
            # in a namespace that ends nothing can be made, nor told
            if not error.has_cause("NamespaceTerminating"):
                verb, what = (
                    ("Create", "create endpoint for service") if current is None else ("Update", "update endpoint")
                )
                message = f"Failed to {what} {meta.key(service)}: {error.message}"
                self._recorder.event(obj, "Warning", f"FailedTo{verb}Endpoint", message)
            raise

    async def _delete(self, current: Object) -> None:
        try:
            await self.client.delete("endpoints", meta.name(current), meta.namespace(current), uid=meta.uid(current))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        self._endpoints.forget(meta.key(current))


def make_subsets(service: Object, chosen: list[Object]) -> tuple[list[Object], bool]:
    """Addresses grouped by the ports they serve, ready and not ready; and whether some had to be left out."""
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    family = rules.families(service)[0]
    serving = [pod for pod in chosen if rules.may_serve(pod, terminating=anyway) and rules.pod_addresses(pod, family)]
    serving.sort(key=lambda pod: (not pods.is_ready(pod), rules.pod_addresses(pod, family)[0], meta.uid(pod)))
    grouped: dict[tuple[tuple[Any, ...], ...], Object] = {}
    for pod in serving[:_MAXIMUM]:
        ports = rules.endpoint_ports(service, pod)
        if not ports and service["spec"].get("ports"):
            continue
        subset = grouped.setdefault(rules.ports_key(ports), {"ports": [_core_port(port) for port in ports]})
        if not ports:
            subset.pop("ports", None)
        field = "addresses" if anyway or pods.is_ready(pod) else "notReadyAddresses"
        subset.setdefault(field, []).append(_address(service, pod, family))
    return [grouped[key] for key in sorted(grouped, key=str)], len(serving) > _MAXIMUM


def _core_port(port: rules.Port) -> rules.Port:
    """A port as core/v1 writes it: a Service's only port may have no name."""
    return {name: value for name, value in port.items() if value != ""}


def _address(service: Object, pod: Object, family: str) -> Object:
    address: Object = {"ip": rules.pod_addresses(pod, family)[0], "targetRef": rules.target_reference(pod)}
    hostname = rules.pod_hostname(service, pod)
    if hostname:
        address["hostname"] = hostname
    if pods.node_name(pod):
        address["nodeName"] = pods.node_name(pod)
    return address
