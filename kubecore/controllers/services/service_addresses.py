"""Every address of a Service has its IPAddress, and every IPAddress of the allocator its Service.

After kubernetes `pkg/registry/core/service/ipallocator/controller/repairip.go`, which upstream runs within the API
server. Servers make and delete IPAddresses with the Services; this finds what a crash or somebody's hand has left.
"""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.services.service_ranges import (
    FAMILY,
    IP_ADDRESSES,
    MANAGED_BY,
    MANAGER,
    SERVICE_CIDRS,
    Address,
    containing_address,
    parse_address,
)

_SERVICES = "services"
# For that long the Service an IPAddress was made for may still be on its way.
_CREATION_SECONDS = 60.0
# And a creation that has failed may not be undone yet.
_UNDOING_SECONDS = 5.0
_ALLOCATION, _OF_ADDRESS = "ClusterIPAllocation", "IPAddressAllocation"


class ServiceAddressController(Controller):
    """Keys are `service NAMESPACE/NAME` and `address ADDRESS`."""

    name = "ipallocator-repair-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._services = self.informer(_SERVICES)
        self._cidrs = self.informer(SERVICE_CIDRS)
        self._addresses = self.informer(IP_ADDRESSES)
        self._recorder = context.recorder(self.name)
        self.enqueue_on_change(self._services, lambda obj: [f"service {meta.key(obj)}"])
        self.enqueue_on_change(self._addresses, self._keys_of_address)

    def _keys_of_address(self, obj: Object) -> list[str]:
        """The Service may have lost what is gone."""
        parent = _parent(obj)
        service = [f"service {parent.get('namespace')}/{parent.get('name')}"] if _is_of_service(obj) else []
        return [f"address {meta.name(obj)}", *service]

    async def sync(self, key: str) -> float | None:
        kind, _, name = key.partition(" ")
        if kind == "address":
            obj = self._addresses.get(name)
            return None if obj is None or not _is_managed(obj) else await self._sync_address(obj)
        service = self._services.get(name)
        if service is not None and not meta.is_deleting(service):
            for text in (service.get("spec") or {}).get("clusterIPs") or ():
                await self._sync_service(service, text)
        return None

    # --- Services

    async def _sync_service(self, service: Object, text: str) -> None:
        address = parse_address(text)
        if address is None:
            # Headless.
            return
        shown = f"[IPv{address.version}]: {address}"
        if not containing_address(self._cidrs.list(), address):
            what = f"Cluster IP {shown} is not within any configured Service CIDR; please recreate service"
            self._recorder.event(service, "Warning", "ClusterIPOutOfRange", what, action=_ALLOCATION)
            return
        held = self._addresses.get(str(address))
        if held is None:
            await self._make(service, address, shown)
        elif not self._belongs(held, service, shown) or not _has_labels(held, address):
            await self._delete(held)
            await self.client.create(IP_ADDRESSES, _made(address, service))

    async def _make(self, service: Object, address: Address, shown: str) -> None:
        # Caches may be behind: of a Service that is new, or gone since.
        fresh = await self.client.find(_SERVICES, meta.name(service), meta.namespace(service))
        if await self.client.find(IP_ADDRESSES, str(address)) is not None or not _has(fresh, str(address)):
            return
        what = f"Cluster IP {shown} is not allocated; repairing"
        self._recorder.event(service, "Warning", "ClusterIPNotAllocated", what, action=_ALLOCATION)
        await self.client.create(IP_ADDRESSES, _made(address, service))

    def _belongs(self, held: Object, service: Object, shown: str) -> bool:
        """Whether the IPAddress names the Service, or another one that has the address, too: nothing mends that."""
        parent, whole = _parent(held), meta.key(service)
        if _is_of_service(held) and f"{parent.get('namespace')}/{parent.get('name')}" == whole:
            return True
        other = self._services.get(f"{parent.get('namespace')}/{parent.get('name')}") if _is_of_service(held) else None
        if other is None:
            what = f"the ClusterIP {shown} for Service {whole} has a wrong reference; repairing"
            self._recorder.event(service, "Warning", "ClusterIPNotAllocated", what, action=_ALLOCATION)
            return False
        if _has(other, meta.name(held)):
            what = f"Cluster IP {shown} was assigned to multiple services; please recreate service"
            self._recorder.event(service, "Warning", "ClusterIPAlreadyAllocated", what, action=_ALLOCATION)
        return True

    # --- IPAddresses

    async def _sync_address(self, obj: Object) -> float | None:
        name, parent = meta.name(obj), _parent(obj)
        if not _is_of_service(obj):
            what = f"IPAddress {name} appears to have been modified, not referencing a Service {parent}: cleaning up"
            self._recorder.event(obj, "Warning", "IPAddressNotAllocated", what, action=_OF_ADDRESS)
            await self._delete(obj)
            return None
        key = f"{parent.get('namespace')}/{parent.get('name')}"
        service = self._services.get(key)
        age = (self.clock.now() - meta.parse_time(obj["metadata"]["creationTimestamp"])).total_seconds()
        if service is None:
            if age <= _CREATION_SECONDS:
                return _CREATION_SECONDS - age + 1
            what = f"IPAddress: {name} for Service {key} appears to have leaked: cleaning up"
            self._recorder.event(obj, "Warning", "IPAddressNotAllocated", what, action=_OF_ADDRESS)
        elif _has(service, name):
            return None
        elif age < _UNDOING_SECONDS:
            return _UNDOING_SECONDS
        else:
            what = f"IPAddress: {name} for Service {key} has a wrong reference; cleaning up"
            self._recorder.event(obj, "Warning", "IPAddressWrongReference", what, action=_OF_ADDRESS)
        if not _has(await self.client.find(_SERVICES, parent.get("name") or "", parent.get("namespace") or ""), name):
            await self._delete(obj)
        return None

    async def _delete(self, obj: Object) -> None:
        try:
            await self.client.delete(IP_ADDRESSES, meta.name(obj), uid=meta.uid(obj))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise


def _parent(obj: Object) -> Object:
    found: Object = (obj.get("spec") or {}).get("parentRef") or {}
    return found


def _has(service: Object | None, address: str) -> bool:
    return service is not None and address in ((service.get("spec") or {}).get("clusterIPs") or ())


def _is_of_service(obj: Object) -> bool:
    parent = _parent(obj)
    return not parent.get("group") and parent.get("resource") == _SERVICES


def _is_managed(obj: Object) -> bool:
    return meta.labels(obj).get(MANAGED_BY) == MANAGER


def _has_labels(obj: Object, address: Address) -> bool:
    return _is_managed(obj) and meta.labels(obj).get(FAMILY) == f"IPv{address.version}"


def _made(address: Address, service: Object) -> Object:
    owner = {"resource": _SERVICES, "namespace": meta.namespace(service), "name": meta.name(service)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": str(address),
            "labels": {FAMILY: f"IPv{address.version}", MANAGED_BY: MANAGER},
        },
        "spec": {"parentRef": owner},
    }
