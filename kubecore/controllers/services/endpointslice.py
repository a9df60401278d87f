"""Keeps the EndpointSlices of Services that have a selector. (kubernetes `pkg/controller/endpointslice`.)"""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers import pods
from kubecore.controllers.base import ControllerContext, RetryLater
from kubecore.controllers.services import service_endpoints as rules
from kubecore.controllers.services import zone_hints
from kubecore.controllers.services.measures import ServiceSliceMeasures
from kubecore.controllers.services.service_watch import ServiceController
from kubecore.controllers.services.slice_planning import Endpoint, Group, GroupKey, Plan, endpoint_key, plan
from kubecore.controllers.services.slice_writes import SLICES, SliceWrites, Unconfirmed
from kubecore.controllers.services.trigger_times import TRIGGER_ANNOTATION, TriggerTimes, annotate
from kubecore.controllers.services.zone_topology import ZONE_LABEL, HintedServices, NodeCpus

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
_FAMILIES = ("IPv4", "IPv6")
_SERVICE_INDEX = "endpointslice-controller/service"


class EndpointSliceController(ServiceController):
    name = "endpoint-slice-controller"
    queue_name = "endpoint_slice"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._nodes = self.informer("nodes")
        self._slices = self.informer(SLICES)
        self._slices.add_index(_SERVICE_INDEX, _service_of)
        self._slices.add_handler(None, self._slice_updated, self._slice_deleted)
        self._measures = ServiceSliceMeasures()
        self.metrics = self._measures.all
        self._writes = SliceWrites(context.client, context.clock, self._measures)
        self._cpus = NodeCpus()
        self._hinted = HintedServices()
        self._times = TriggerTimes()
        self._nodes.add_handler(self._node_seen, lambda _, new: self._node_seen(new), self._node_gone)

    def _node_seen(self, node: Object) -> None:
        if self._cpus.see(node):
            self._enqueue_overloaded()

    def _node_gone(self, node: Object) -> None:
        if self._cpus.lose(node):
            self._enqueue_overloaded()

    def _enqueue_overloaded(self) -> None:
        for key in self._hinted.overloaded(self._cpus.ratios()):
            self.queue.add(key)

    def _slice_updated(self, _: Object, new: Object) -> None:
        """Somebody may have changed what we keep; our own writes find nothing to do."""
        for key in _service_of(new):
            self.queue.add(key)

    def _slice_deleted(self, old: Object) -> None:
        for key in _service_of(old):
            self._writes.gone(key, meta.name(old))
            self.queue.add(key)

    async def sync(self, key: str) -> float | None:
        result = "error"
        try:
            await self._sync(key)
            result = "success"
        except Unconfirmed:
            result = "stale"
            raise
        finally:
            self._measures.synced(result)
        return None

    async def _sync(self, key: str) -> None:
        service = self.services.get(key)
        if service is None:
            self._measures.forget(key)
            self._writes.forget(key)
            self._hinted.forget(key)
            self._times.forget(key)
            return
        if meta.is_deleting(service) or not rules.has_selector(service):
            return
        existing = self._slices.by_index(_SERVICE_INDEX, key)
        self._writes.confirm(key, existing)
        labels = slice_labels(service)
        since = self._times.since(service, self.chosen_pods(service))
        homeless: list[str] = []
        groups = self._groups(service, existing, homeless)
        changes = plan(groups, existing, labels, owner=meta.uid(service))
        self._plan_hints(key, service, existing, changes)
        created, updated, deleted = len(changes.create), len(changes.update), len(changes.delete)
        self._measures.planned(key, groups, existing, created=created, updated=updated, deleted=deleted)
        await self._write(key, service, labels, changes, since)
        self._measures.written(
            key,
            created + updated + deleted,
            hinted=zone_hints.is_wanted(service),
            distribution=service["spec"].get("trafficDistribution") or "",
        )
        if homeless:
            raise RetryLater(f"{key} is served by pods of nodes that are not known: {', '.join(homeless)}")

    def _plan_hints(self, key: str, service: Object, existing: list[Object], changes: Plan) -> None:
        """As the annotation asks; tells of it. Hints of trafficDistribution are planned with the endpoints."""
        for family in _FAMILIES:
            if family not in rules.families(service):
                self._hinted.disable(key, family)
            elif not zone_hints.is_wanted(service):
                if self._hinted.disable(key, family):
                    self._tell_of_hints(service, "Warning", zone_hints.DISABLED, family)
            else:
                self._give_hints(key, service, existing, changes, family)

    def _give_hints(self, key: str, service: Object, existing: list[Object], changes: Plan, family: str) -> None:
        try:
            given = zone_hints.give(changes, existing, family, self._cpus.ratios())
        except zone_hints.Unsuitable as why:
            self._hinted.disable(key, family)
            zone_hints.take(changes, existing, family)
            self._tell_of_hints(service, "Warning", str(why), family)
        else:
            if self._hinted.enable(key, family, given):
                self._tell_of_hints(service, "Normal", zone_hints.ENABLED, family)

    def _tell_of_hints(self, service: Object, kind: str, what: str, family: str) -> None:
        reason = "TopologyAwareHintsEnabled" if kind == "Normal" else "TopologyAwareHintsDisabled"
        self._recorder.event(service, kind, reason, f"{what}, addressType: {family}")

    def _groups(self, service: Object, existing: list[Object], homeless: list[str]) -> list[Group]:
        """`homeless` gets the names of pods whose node is gone, or not known yet: nothing there answers."""
        groups: dict[GroupKey, Group] = {}
        hinted = zone_hints.known_hints(existing) if zone_hints.is_wanted(service) else None
        families = rules.families(service)
        for pod in self.chosen_pods(service):
            if not rules.may_serve(pod, terminating=True):
                continue
            if self._is_homeless(pod) and not service["spec"].get("publishNotReadyAddresses"):
                homeless.append(meta.name(pod))
                continue
            ports = rules.endpoint_ports(service, pod)
            for family in families:
                addresses = rules.pod_addresses(pod, family)
                if addresses:
                    group = Group(family, ports)
                    groups.setdefault(group.key, group).endpoints.append(
                        self._endpoint(service, pod, addresses, hinted)
                    )
        for family in families:
            if not any(group.address_type == family for group in groups.values()):
                # one empty slice says that somebody looked
                empty = Group(family, [])
                groups[empty.key] = empty
        return list(groups.values())

    def _is_homeless(self, pod: Object) -> bool:
        name = pods.node_name(pod)
        return bool(name) and self._nodes.get(name) is None

    def _endpoint(
        self, service: Object, pod: Object, addresses: list[str], hinted: zone_hints.Hinted | None
    ) -> Endpoint:
        serving = pods.is_ready(pod)
        terminating = meta.is_deleting(pod)
        endpoint: Endpoint = {
            "addresses": addresses[:1],
            "conditions": {
                "ready": bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating),
                "serving": serving,
                "terminating": terminating,
            },
            "targetRef": rules.target_reference(pod),
        }
        hostname = rules.pod_hostname(service, pod)
        if hostname:
            endpoint["hostname"] = hostname
        node_name = pods.node_name(pod)
        if node_name:
            endpoint["nodeName"] = node_name
            node = self._nodes.get(node_name)
            zone = meta.labels(node).get(ZONE_LABEL) if node is not None else None
            if zone:
                endpoint["zone"] = zone
            hints = _hints(service, node_name, zone) if hinted is None else hinted.get(endpoint_key(endpoint))
            if hints and endpoint["conditions"]["ready"]:
                endpoint["hints"] = hints
        return endpoint

    async def _write(self, key: str, service: Object, labels: dict[str, str], changes: Plan, since: str) -> None:
        metadata = {
            "generateName": f"{meta.name(service)}-",
            "namespace": meta.namespace(service),
            "labels": dict(labels),
            "annotations": {TRIGGER_ANNOTATION: since} if since else {},
            "ownerReferences": [meta.controller_reference(service, "v1", "Service")],
        }
        for one in changes.update:
            annotate(one["metadata"].setdefault("annotations", {}), since)
        create = [{"metadata": metadata, **one} for one in changes.create]
        try:
            await self._writes.write(key, create=create, update=changes.update, delete=changes.delete)
        except StatusError as error:
            if not (errors.is_conflict(error) or error.has_cause("NamespaceTerminating")):
                message = f"Error updating Endpoint Slices for Service {key}: {error.message}"
                self._recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
            raise


def _service_of(one: Object) -> list[str]:
    """Index function: the key of the Service whose slice this is, if it is one of ours."""
    labels = meta.labels(one)
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_LABEL):
        return []
    return [f"{meta.namespace(one)}/{labels[SERVICE_LABEL]}"]


def slice_labels(service: Object) -> dict[str, str]:
    """The Service's own labels and those that say whose slice it is."""
    labels = {**meta.labels(service), SERVICE_LABEL: meta.name(service), MANAGED_BY: MANAGER}
    if rules.is_headless(service):
        labels[rules.HEADLESS_LABEL] = ""
    else:
        labels.pop(rules.HEADLESS_LABEL, None)
    return labels


def _hints(service: Object, node_name: str, zone: str | None) -> Endpoint:
    """Which clients should prefer this endpoint, as trafficDistribution asks."""
    distribution = service["spec"].get("trafficDistribution")
    hints: Endpoint = {}
    if zone and distribution in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        hints["forZones"] = [{"name": zone}]
    if distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": node_name}]
    return hints
