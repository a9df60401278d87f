"""Services: addresses and node ports are taken when a Service is written, and given back when it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.allocation.ip_addresses import RESOURCE, address_of
from kubecore.apiserver.registry.allocation.node_ports import NodePorts
from kubecore.apiserver.registry.allocation.service_addresses import ServiceAddresses
from kubecore.apiserver.registry.allocation.service_needs import (
    ServiceNeeds,
    cluster_ips,
    node_ports,
    uses_cluster_ip,
    uses_node_ports,
)
from kubecore.apiserver.registry.strategy import Companion, Finish, RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.service_addresses import NONE
from kubecore.apiserver.registry.validation.services import (
    EXTERNAL_NAME,
    has_health_port,
    is_external,
    validate_service,
    validate_service_change,
    validate_service_status,
)

JSON = dict[str, Any]

_AFFINITY_SECONDS = 10800


class ServiceStrategy(Strategy):
    resource_key = "services"
    allow_create_on_update = True
    allow_unconditional_update = True
    tracks_generation = False
    returns_deleted = True
    name_errors = staticmethod(names.dns_1035_label)

    def __init__(self, addresses: ServiceAddresses, node_ports: NodePorts) -> None:
        self._needs = ServiceNeeds(addresses, node_ports)
        self._ips = addresses

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        kind = spec["type"] = spec.get("type") or "ClusterIP"
        affinity = spec["sessionAffinity"] = spec.get("sessionAffinity") or NONE
        if affinity == NONE:
            spec.pop("sessionAffinityConfig", None)
        elif affinity == "ClientIP":
            client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            client.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
        for port in spec.get("ports") or []:
            port["protocol"] = port.get("protocol") or "TCP"
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port")
        if kind == EXTERNAL_NAME:
            spec.pop("internalTrafficPolicy", None)
        elif kind in ("ClusterIP", "NodePort", "LoadBalancer"):
            spec.setdefault("internalTrafficPolicy", "Cluster")
        if is_external(spec):
            spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        for one in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
            if kind == "LoadBalancer" and one.get("ip"):
                one.setdefault("ipMode", "VIP")

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"loadBalancer": {}}

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        _drop_what_the_type_has_not(obj["spec"], old["spec"])
        if obj["spec"]["type"] != "LoadBalancer":
            obj["status"] = {**(obj.get("status") or {}), "loadBalancer": {}}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation != "UPDATE":
            validate_service(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_service_change(problems, obj["spec"], old["spec"])
        validate_service(problems, obj, old)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_service_status(problems, obj, old)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status":
            return advice.of_balancers(obj)
        return [] if ctx.subresource else advice.of_service(obj)

    # --- allocation

    def begin_create(self, ctx: RequestContext, obj: JSON) -> Finish | None:
        return self._needs.for_create(ctx, obj)

    def begin_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> Finish | None:
        return self._needs.for_update(ctx, obj, old)

    def companions(self, obj: JSON) -> list[Companion]:
        """An IPAddress for each address that is of a range, be it one that ends."""
        return [
            Companion(RESOURCE, address_of(address, obj["metadata"]))
            for address in cluster_ips(obj.get("spec") or {})
            if self._ips.contains(address) or self._ips.stands(address)
        ]

    def after_delete(self, ctx: RequestContext, obj: JSON) -> None:
        self._needs.release(obj["spec"])

    def restore(self, entries: Sequence[JSON]) -> None:
        for service in entries:
            self._needs.restore(service.get("spec") or {})


def _drop_what_the_type_has_not(spec: JSON, old: JSON) -> None:
    """What only the former type or policy had goes with it, if the client left it as it was."""
    if uses_cluster_ip(old) and not uses_cluster_ip(spec):
        if _same(spec, old, "clusterIP") and _same(spec, old, "clusterIPs"):
            _drop(spec, "clusterIP", "clusterIPs")
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if _same(spec, old, field):
                _drop(spec, field)
    if uses_node_ports(old) and not uses_node_ports(spec) and set(node_ports(old)) >= set(node_ports(spec)):
        for port in spec.get("ports") or []:
            port.pop("nodePort", None)
    if has_health_port(old) and not has_health_port(spec) and _same(spec, old, "healthCheckNodePort"):
        _drop(spec, "healthCheckNodePort")
    if old.get("type") == "LoadBalancer" != spec["type"]:
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if _same(spec, old, field):
                _drop(spec, field)
    if is_external(old) and not is_external(spec) and _same(spec, old, "externalTrafficPolicy"):
        _drop(spec, "externalTrafficPolicy")


def _same(spec: JSON, old: JSON, field: str) -> bool:
    return bool(spec.get(field) == old.get(field))


def _drop(spec: JSON, *fields: str) -> None:
    for field in fields:
        spec.pop(field, None)
