"""Gives Services of type LoadBalancer addresses from a pool of the cluster's own.

What a cloud's controller does by way of its load balancers is done here by the service proxy, which serves the
addresses in `status.loadBalancer`. (kubernetes `cloud-provider/controllers/service/controller.go`: finalizer, events.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.services.load_balancer_changes import change

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
CLASS = "kubecore.dev/pool"
"""A Service may ask for this pool by `spec.loadBalancerClass`, or name no class; others are somebody else's."""
_FULL_AGAIN_SECONDS = 60.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRanges:
    """The pool. An address is free unless some Service's status has it."""

    def __init__(self, ranges: Sequence[str]) -> None:
        """Networks in CIDR notation. Raises ValueError."""
        self._networks: list[Network] = [ipaddress.ip_network(one) for one in ranges]

    def __contains__(self, address: str) -> bool:
        try:
            given = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(given in network for network in self._networks)

    def __str__(self) -> str:
        return ", ".join(map(str, self._networks))

    def has(self, version: int) -> bool:
        return any(network.version == version for network in self._networks)

    def first_free(self, version: int, taken: set[str]) -> str | None:
        for network in self._networks:
            if network.version == version:
                for address in _usable(network):
                    if address not in taken:
                        return address
        return None


def _usable(network: Network) -> Iterator[str]:
    """In order, without the network's own address and the broadcast address, where there are any."""
    edges = network.num_addresses > 2
    last = network.num_addresses - (1 if edges and network.version == 4 else 0)
    for number in range(1 if edges else 0, last):
        yield str(network[number])


class LoadBalancerController(Controller):
    """Keys are Services. One worker: two could give away the same address."""

    name = "service-lb-controller"
    queue_name = "service"
    workers = 1

    def __init__(self, context: ControllerContext, ranges: Sequence[str]) -> None:
        super().__init__(context)
        self._pool = AddressRanges(ranges)
        self._services = self.informer("services")
        self._services.add_handler(self.enqueue, self._updated, self._gone)
        self._recorder = context.recorder("service-controller")
        # What was given and may not be in the cache yet, by Service.
        self._given: dict[str, list[str]] = {}
        self._waiting: set[str] = set()
        # Those that have changed in what a load balancer is asked for.
        self._asked_anew: set[str] = set()

    def _updated(self, old: Object, new: Object) -> None:
        found = change(old, new, had=_is_balanced(old), has=_is_balanced(new))
        if found is not None:
            self._asked_anew.add(meta.key(new))
            if found.reason:
                self._recorder.event(new, "Normal", found.reason, found.message)
        self.enqueue(new)

    def _gone(self, service: Object) -> None:
        self._given.pop(meta.key(service), None)
        self._waiting.discard(meta.key(service))
        self._asked_anew.discard(meta.key(service))
        self._let_others_try()

    def _let_others_try(self) -> None:
        for key in self._waiting:
            self.queue.add(key)
        self._waiting.clear()

    async def sync(self, key: str) -> float | None:
        service = self._services.get(key)
        if service is None:
            return None
        if _wants(service):
            return await self._ensure(key, service)
        if FINALIZER in meta.finalizers(service):
            await self._clean_up(key, service)
        return None

    # ------------------------------------------------------------------ giving
    async def _ensure(self, key: str, service: Object) -> float | None:
        wanted, missing = self._choose(key, service)
        finalizers = meta.finalizers(service)
        protected = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
        told = protected != finalizers or key in self._asked_anew
        if told:
            self._recorder.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
            self._asked_anew.discard(key)
        written = protected != finalizers or wanted != _ingress_ips(service)
        if written:
            self._given[key] = wanted
            await self._write(service, protected, wanted)
        if (told or written) and not missing:
            self._recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        if not missing:
            self._waiting.discard(key)
            return None
        self._waiting.add(key)
        self._recorder.event(service, "Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {missing}")
        return _FULL_AGAIN_SECONDS

    def _choose(self, key: str, service: Object) -> tuple[list[str], str]:
        """The addresses it should have, those that it has if they are good, and what is missing."""
        versions = self._versions(service["spec"])
        asked = service["spec"].get("loadBalancerIP") or ""
        taken = self._taken_by_others(key)
        chosen: list[str] = []
        for version in versions:
            address, problem = self._address(version, service, asked, taken)
            if problem:
                return chosen, problem
            chosen.append(address)
        return chosen, ""

    def _versions(self, spec: Object) -> list[int]:
        """Of the families to be served. A second one that is only preferred is done without where the pool lacks it."""
        asked = [6 if family == "IPv6" else 4 for family in spec.get("ipFamilies") or ["IPv4"]]
        had = [version for version in asked if self._pool.has(version)]
        return had if had and spec.get("ipFamilyPolicy") == "PreferDualStack" else asked

    def _address(self, version: int, service: Object, asked: str, taken: set[str]) -> tuple[str, str]:
        if asked and (":" in asked) == (version == 6):
            if asked not in self._pool:
                return "", f"loadBalancerIP {asked} is not an address of the pool {self._pool}"
            return ("", f"loadBalancerIP {asked} belongs to another Service") if asked in taken else (asked, "")
        for address in (*_ingress_ips(service), *self._given.get(meta.key(service), ())):
            if (":" in address) == (version == 6) and address in self._pool and address not in taken:
                return address, ""
        found = self._pool.first_free(version, taken)
        if found:
            return found, ""
        if not self._pool.has(version):
            return "", f"the pool {self._pool} has no range of IPv{version}"
        return "", f"no free IPv{version} address is left in the pool {self._pool}"

    def _taken_by_others(self, key: str) -> set[str]:
        taken = {address for other, given in self._given.items() if other != key for address in given}
        for other in self._services.list():
            if meta.key(other) != key:
                taken.update(_ingress_ips(other))
        return taken

    # ------------------------------------------------------------------ taking back
    async def _clean_up(self, key: str, service: Object) -> None:
        self._recorder.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        await self._write(service, [one for one in meta.finalizers(service) if one != FINALIZER], [])
        self._given.pop(key, None)
        self._asked_anew.discard(key)
        self._recorder.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        self._let_others_try()

    async def _write(self, service: Object, finalizers: list[str], addresses: list[str]) -> None:
        """Finalizers, too, by way of the status: that is what the controller's role allows."""
        ingress = [{"ip": address, "ipMode": "VIP"} for address in addresses]
        patch = {
            "metadata": {"finalizers": finalizers or None, "resourceVersion": meta.resource_version(service)},
            "status": {"loadBalancer": {"ingress": ingress or None}},
        }
        name, namespace = meta.name(service), meta.namespace(service)
        await self.client.patch("services", name, patch, namespace, patch_type="merge", subresource="status")


def _is_balanced(service: Object) -> bool:
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") in (None, "", CLASS)


def _wants(service: Object) -> bool:
    return _is_balanced(service) and not meta.is_deleting(service)


def _ingress_ips(service: Object) -> list[str]:
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return [one["ip"] for one in balancer.get("ingress") or () if one.get("ip")]
