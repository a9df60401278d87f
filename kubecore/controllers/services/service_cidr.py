"""ServiceCIDRs: told ready, and kept while they are in use (kubernetes `pkg/controller/servicecidrs`)."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.services.service_ranges import (
    IP_ADDRESSES,
    MANAGED_BY,
    MANAGER,
    SERVICE_CIDRS,
    containing_address,
    containing_range,
    networks,
    overlapping,
    parse_address,
)

_FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_READY = "Ready"
_APPLIER = "service-cidr-controller"
# For that long a server may not know yet that no more addresses are to come from the range.
_GRACE_SECONDS = 10.0
_USED = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"


class ServiceCIDRController(Controller):
    """Keys are ServiceCIDRs."""

    name = "service-cidrs-controller"
    queue_name = "ipaddresses"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._cidrs = self.informer(SERVICE_CIDRS)
        self._addresses = self.informer(IP_ADDRESSES)
        # One that comes or goes may be what another one waits for.
        self.enqueue_on_change(self._cidrs, lambda obj: [meta.name(obj), *overlapping(self._cidrs.list(), obj)])
        self._addresses.add_handler(self._address_changed, None, self._address_changed)

    def _address_changed(self, obj: Object) -> None:
        address = parse_address(meta.name(obj))
        for cidr in containing_address(self._cidrs.list(), address) if address is not None else ():
            self.enqueue(cidr)

    async def sync(self, key: str) -> float | None:
        cidr = self._cidrs.get(key)
        if cidr is None:
            return None
        if meta.is_deleting(cidr):
            return await self._end(cidr)
        held = cidr["metadata"].get("finalizers") or []
        if _FINALIZER not in held:
            cidr = await self._set_finalizers(cidr, [*held, _FINALIZER])
        await self._tell(cidr, "True", "", "Kubernetes Service CIDR is ready")
        return None

    async def _end(self, cidr: Object) -> float | None:
        if not self._can_go(cidr):
            await self._tell(cidr, "False", "Terminating", _USED)
            return None
        since = meta.parse_time(cidr["metadata"]["deletionTimestamp"])
        left = _GRACE_SECONDS - (self.clock.now() - since).total_seconds()
        if left > 0:
            return left
        held = cidr["metadata"].get("finalizers") or []
        if _FINALIZER in held:
            await self._set_finalizers(cidr, [one for one in held if one != _FINALIZER])
        return None

    async def _set_finalizers(self, cidr: Object, finalizers: list[str]) -> Object:
        changed = {**cidr, "metadata": {**cidr["metadata"], "finalizers": finalizers}}
        return await self.client.update(SERVICE_CIDRS, changed)

    def _can_go(self, cidr: Object) -> bool:
        """No Service loses its range: others have all of it, or nobody uses what only it has."""
        cidrs, name = self._cidrs.list(), meta.name(cidr)
        if all(_others(containing_range(cidrs, one), name) for one in networks(cidr)):
            return True
        for obj in self._addresses.list():
            address = parse_address(meta.name(obj))
            if address is None or meta.labels(obj).get(MANAGED_BY) != MANAGER:
                continue
            if [meta.name(one) for one in containing_address(cidrs, address)] == [name]:
                return False
        return True

    async def _tell(self, cidr: Object, status: str, reason: str, message: str) -> None:
        told = conditions.find(cidr, _READY)
        if told is not None and (told["status"], told.get("reason") or "", told.get("message") or "") == (
            status,
            reason,
            message,
        ):
            return
        now = meta.format_time(self.clock.now())
        condition = {**conditions.make(_READY, status, now, message=message), "reason": reason}
        if told is not None:
            condition["lastTransitionTime"] = meta.transition_time(told, status, now)
        said = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": meta.name(cidr)}}
        applied = {**said, "status": {"conditions": [condition]}}
        await self.client.apply(SERVICE_CIDRS, applied, manager=_APPLIER, subresource="status")


def _others(cidrs: list[Object], name: str) -> bool:
    return any(meta.name(one) != name for one in cidrs)
