"""Mirrors Endpoints that people made, for Services without a selector, into EndpointSlices.

(kubernetes `pkg/controller/endpointslicemirroring`.)
"""

from __future__ import annotations

import ipaddress
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.services import service_endpoints as rules
from kubecore.controllers.services.endpointslice import MANAGED_BY, SERVICE_LABEL
from kubecore.controllers.services.measures import MirrorMeasures
from kubecore.controllers.services.slice_planning import Endpoint, Group, GroupKey
from kubecore.controllers.services.slice_writes import SLICES, SliceWrites
from kubecore.controllers.services.trigger_times import TRIGGER_ANNOTATION

MANAGER = "endpointslicemirroring-controller.k8s.io"
_SERVICE_INDEX = "endpointslicemirroring-controller/service"
_SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_MIRRORED = (TRIGGER_ANNOTATION, "kubectl.kubernetes.io/last-applied-configuration")
_MAXIMUM = 1000


class EndpointSliceMirroringController(Controller):
    """Keys are Endpoints, which have the name of their Service."""

    name = "endpoint-slice-mirroring-controller"
    queue_name = "endpoint_slice_mirroring"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._endpoints = self.informer("endpoints")
        self._services = self.informer("services")
        self._slices = self.informer(SLICES)
        self._slices.add_index(_SERVICE_INDEX, _mirrored_of)
        self._recorder = context.recorder("endpoint-slice-mirroring-controller")
        self._measures = MirrorMeasures()
        self.metrics = self._measures.all
        self._writes = SliceWrites(context.client, context.clock, self._measures)
        self.enqueue_on_change(self._endpoints)
        self._services.add_handler(self.enqueue, self._service_updated, self.enqueue)
        self._slices.add_handler(None, self._slice_updated, self._slice_deleted)

    def _service_updated(self, old: Object, new: Object) -> None:
        if rules.selects_pods(old) != rules.selects_pods(new):
            self.enqueue(new)

    def _slice_updated(self, old: Object, new: Object) -> None:
        for key in {*_mirrored_of(old), *_mirrored_of(new)}:
            self.queue.add(key)

    def _slice_deleted(self, old: Object) -> None:
        for key in _mirrored_of(old):
            self._writes.gone(key, meta.name(old))
            self.queue.add(key)

    async def sync(self, key: str) -> float | None:
        endpoints, service = self._endpoints.get(key), self._services.get(key)
        existing = sorted(self._slices.by_index(_SERVICE_INDEX, key), key=meta.name)
        if endpoints is None or service is None or not _is_mirrored(endpoints) or rules.selects_pods(service):
            await self._writes.write(key, create=(), update=(), delete=existing)
            self._writes.forget(key)
            self._measures.forget(key)
            return None
        self._writes.confirm(key, existing)
        began = self.clock.monotonic()
        try:
            await self._mirror(key, endpoints, existing)
        finally:
            self._measures.took(self.clock.monotonic() - began)
        return None

    async def _mirror(self, key: str, endpoints: Object, existing: list[Object]) -> None:
        by_key: dict[GroupKey, list[Object]] = {}
        for one in existing:
            by_key.setdefault((one["addressType"], rules.ports_key(one.get("ports") or [])), []).append(one)
        create, update = [], []
        groups = self._groups(endpoints)
        for group in groups:
            # a group has one slice, for no more than it holds is mirrored
            present = by_key.get(group.key) or []
            wanted = _slice(endpoints, group)
            if not present:
                create.append(wanted)
            elif not _says(present.pop(0), wanted):
                update.append(wanted)
        spare = [one for left in by_key.values() for one in left]
        # what is to go takes the place of what is to come
        for wanted in list(create):
            found = next((one for one in spare if one["addressType"] == wanted["addressType"]), None)
            if found is not None:
                spare.remove(found)
                create.remove(wanted)
                update.append(_in_place_of(found, wanted))
        if meta.is_deleting(endpoints):
            create = []
        created, updated, deleted = len(create), len(update), len(spare)
        self._measures.planned(key, groups, existing, created=created, updated=updated, deleted=deleted)
        await self._writes.write(key, create=create, update=update, delete=spare)

    def _groups(self, endpoints: Object) -> list[Group]:
        found = _Addresses()
        for subset in endpoints.get("subsets") or ():
            ports = [_slice_port(port) for port in subset.get("ports") or ()]
            for ready, field in ((True, "addresses"), (False, "notReadyAddresses")):
                for address in subset.get(field) or ():
                    found.add(address, ports, ready=ready)
        if found.invalid:
            told = f"Skipped {found.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self._recorder.event(endpoints, "Warning", "InvalidIPAddress", told)
        left_out = found.invalid + found.skipped
        if found.skipped:
            told = (
                f"A max of {_MAXIMUM} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{left_out} addresses were skipped"
            )
            self._recorder.event(endpoints, "Warning", "TooManyAddressesToMirror", told)
        self._measures.skipped(left_out)
        return list(found.groups.values())


class _Addresses:
    """Addresses by family and ports, each once: one that is ready anywhere is ready."""

    def __init__(self) -> None:
        self.groups: dict[GroupKey, Group] = {}
        self.invalid = 0
        self.skipped = 0
        self._known: dict[tuple[GroupKey, str], Endpoint] = {}

    def add(self, address: dict[str, Any], ports: list[rules.Port], *, ready: bool) -> None:
        endpoint, family = _endpoint(address)
        if not family:
            self.invalid += 1
            return
        group = Group(family, ports)
        group = self.groups.setdefault(group.key, group)
        identity = (group.key, str(endpoint))
        known = self._known.get(identity)
        if known is not None:
            known["conditions"]["ready"] |= ready
        elif len(group.endpoints) >= _MAXIMUM:
            self.skipped += 1
        else:
            endpoint["conditions"] = {"ready": ready}
            self._known[identity] = endpoint
            group.endpoints.append(endpoint)


def _mirrored_of(one: Object) -> list[str]:
    """Index: the key of the Endpoints that a slice of ours mirrors."""
    labels = meta.labels(one)
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_LABEL):
        return []
    return [f"{meta.namespace(one)}/{labels[SERVICE_LABEL]}"]


def _is_mirrored(endpoints: Object) -> bool:
    """Not those of an API server, which bring slices of their own, nor those that old leader elections wrote to."""
    return meta.labels(endpoints).get(_SKIP) != "true" and _LEADER not in meta.annotations(endpoints)


def _slice_port(port: dict[str, Any]) -> rules.Port:
    kept = {name: port[name] for name in ("port", "appProtocol") if port.get(name) is not None}
    return {"name": port.get("name") or "", "protocol": port.get("protocol") or "TCP", **kept}


def _endpoint(address: dict[str, Any]) -> tuple[Endpoint, str]:
    """The endpoint without its conditions, and its address family, "" for what is no address."""
    try:
        ip = ipaddress.ip_address(address["ip"])
    except ValueError:
        return {}, ""
    endpoint: Endpoint = {"addresses": [str(ip)]}
    for name in ("targetRef", "nodeName", "hostname"):
        if address.get(name):
            endpoint[name] = address[name]
    return endpoint, f"IPv{ip.version}"


def _slice(endpoints: Object, group: Group) -> Object:
    """The slice for a group, without a name."""
    metadata = {
        "generateName": f"{meta.name(endpoints)}-",
        "namespace": meta.namespace(endpoints),
        "labels": {**meta.labels(endpoints), SERVICE_LABEL: meta.name(endpoints), MANAGED_BY: MANAGER},
        "annotations": {k: v for k, v in meta.annotations(endpoints).items() if k not in _NOT_MIRRORED},
        "ownerReferences": [meta.controller_reference(endpoints, "v1", "Endpoints")],
    }
    return {
        "metadata": metadata,
        "addressType": group.address_type,
        "ports": group.ports,
        "endpoints": sorted(group.endpoints, key=lambda one: one["addresses"]),
    }


def _says(present: Object, wanted: Object) -> bool:
    """Whether a slice is as it should be; if not, `wanted` is made to take its place."""
    metadata = wanted["metadata"]
    same = (
        meta.labels(present) == metadata["labels"]
        and meta.annotations(present) == metadata["annotations"]
        and [one["uid"] for one in meta.owner_references(present)] == [metadata["ownerReferences"][0]["uid"]]
        and sorted(present.get("endpoints") or (), key=lambda one: one["addresses"]) == wanted["endpoints"]
    )
    if not same:
        _in_place_of(present, wanted)
    return same


def _in_place_of(present: Object, wanted: Object) -> Object:
    kept = {name: present["metadata"][name] for name in ("name", "uid", "resourceVersion")}
    wanted["metadata"] = {**wanted["metadata"], **kept}
    return wanted
