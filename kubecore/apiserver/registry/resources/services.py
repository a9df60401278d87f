"""Services: addresses and node ports are taken when a Service is written, and given back when it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubecore.api.errors import Cause, FieldError, StatusError, internal_error, invalid
from kubecore.apiserver.registry.allocation.cluster_ips import AllocationError, ClusterIPs
from kubecore.apiserver.registry.allocation.node_ports import NodePorts
from kubecore.apiserver.registry.strategy import Finish, RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.services import (
    NONE,
    has_health_port,
    is_external,
    is_headless,
    validate_cluster_ip_change,
    validate_fixed,
    validate_service,
    validate_service_status,
)

JSON = dict[str, Any]

_AFFINITY_SECONDS = 10800


class ServiceStrategy(Strategy):
    resource_key = "services"
    allow_unconditional_update = True
    tracks_generation = False
    returns_deleted = True
    name_errors = staticmethod(names.dns_1035_label)

    def __init__(self, cluster_ips: ClusterIPs, node_ports: NodePorts) -> None:
        self._ips = cluster_ips
        self._ports = node_ports

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        kind = spec["type"] = spec.get("type") or "ClusterIP"
        affinity = spec["sessionAffinity"] = spec.get("sessionAffinity") or NONE
        if affinity == NONE:
            spec.pop("sessionAffinityConfig", None)
        else:
            client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            client.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
        for port in spec.get("ports") or []:
            port["protocol"] = port.get("protocol") or "TCP"
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port")
        if kind != "ExternalName":
            spec.setdefault("internalTrafficPolicy", "Cluster")
        else:
            spec.pop("internalTrafficPolicy", None)
        if is_external(spec):
            spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        for one in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
            if kind == "LoadBalancer" and one.get("ip"):
                one.setdefault("ipMode", "VIP")

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        self._family_defaults(spec)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        spec, before = obj["spec"], old["spec"]
        _follow_cluster_ip(spec, before)
        _drop_what_the_type_has_not(spec, before)
        _keep_allocated(spec, before)
        self._family_defaults(spec)

    def _family_defaults(self, spec: JSON) -> None:
        """ipFamilies and ipFamilyPolicy as a cluster with one family of addresses fills them in."""
        if spec["type"] == "ExternalName":
            return
        if is_headless(spec) and not spec.get("selector"):
            # Whoever writes the endpoints of such a Service may use either family.
            policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack")
            families = spec.get("ipFamilies") or [self._ips.family]
            if policy != "SingleStack" and len(families) == 1:
                families = [*families, "IPv6" if families[0] == "IPv4" else "IPv4"]
            spec["ipFamilies"] = families
            return
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        spec["ipFamilies"] = spec.get("ipFamilies") or [self._ips.family]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        return validate_service(obj["spec"], families=(self._ips.family,))

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_cluster_ip_change(problems, obj["spec"], old["spec"])
        validate_fixed(problems, obj["spec"], old["spec"])
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_service_status(problems, obj)
        return problems

    # --- allocation

    def begin_create(self, ctx: RequestContext, obj: JSON) -> Finish | None:
        spec, taken = obj["spec"], _Taken()
        try:
            if _has_cluster_ip(spec):
                self._take_cluster_ip(ctx, spec, taken)
            if _has_node_ports(spec):
                self._take_node_ports(ctx, spec, set(), taken)
        except StatusError:
            taken.undo()
            raise
        return taken.finish

    def begin_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> Finish | None:
        spec, before, taken = obj["spec"], old["spec"], _Taken()
        held_ports = _node_ports(before)
        try:
            if _has_cluster_ip(spec) and not _has_cluster_ip(before):
                self._take_cluster_ip(ctx, spec, taken)
            if _has_node_ports(spec):
                self._take_node_ports(ctx, spec, held_ports, taken)
        except StatusError:
            taken.undo()
            raise
        released_ports = held_ports - _node_ports(spec)
        released_ips = [] if _has_cluster_ip(spec) else _cluster_ips(before)

        def finish(succeeded: bool) -> None:
            taken.finish(succeeded)
            if succeeded:
                self._give_back(released_ips, released_ports)

        return finish

    def _take_cluster_ip(self, ctx: RequestContext, spec: JSON, taken: _Taken) -> None:
        wanted = spec.get("clusterIP")
        try:
            if wanted:
                self._ips.take(wanted)
            else:
                wanted = self._ips.take_any()
        except AllocationError as error:
            if not wanted:
                raise internal_error(f"failed to allocate a serviceIP: {error}") from error
            detail = f"failed to allocate IP {wanted}: {error}"
            cause = FieldError.invalid("spec.clusterIPs", spec.get("clusterIPs") or [wanted], detail)
            raise invalid("Service", ctx.name, [cause]) from error
        taken.add(lambda: self._ips.give_back(wanted))
        spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]

    def _take_node_ports(self, ctx: RequestContext, spec: JSON, held: set[int], taken: _Taken) -> None:
        """Takes what is asked for and not held yet, then picks ports for those who ask for none."""
        mine = set(held)
        for index, port in enumerate(spec.get("ports") or []):
            wanted = port.get("nodePort")
            if not wanted or wanted in mine:
                continue
            try:
                self._ports.take(wanted)
            except AllocationError as error:
                cause = FieldError.invalid(f"spec.ports[{index}].nodePort", wanted, str(error))
                raise invalid("Service", ctx.name, [cause]) from error
            mine.add(wanted)
            taken.add(_giving_back(self._ports, wanted))
        if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            return
        by_number: dict[int, int] = {}
        for port in spec.get("ports") or []:
            if port.get("nodePort"):
                continue
            # TCP and UDP of one port share their node port, as DNS wants.
            shared = by_number.get(port["port"])
            if shared is None:
                try:
                    shared = self._ports.take_any()
                except AllocationError as error:
                    raise internal_error(f"failed to allocate a nodePort: {error}") from error
                taken.add(_giving_back(self._ports, shared))
                by_number[port["port"]] = shared
            port["nodePort"] = shared

    def after_delete(self, ctx: RequestContext, obj: JSON) -> None:
        self._give_back(_cluster_ips(obj["spec"]), _node_ports(obj["spec"]))

    def _give_back(self, addresses: Sequence[str], ports: set[int]) -> None:
        for address in addresses:
            self._ips.give_back(address)
        for port in ports:
            self._ports.give_back(port)

    def restore(self, entries: Sequence[JSON]) -> None:
        for service in entries:
            spec = service.get("spec") or {}
            for address in _cluster_ips(spec):
                self._ips.restore(address)
            for port in _node_ports(spec):
                self._ports.restore(port)


class _Taken:
    """What one request has taken, to be given back when it fails."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def add(self, undo: Callable[[], None]) -> None:
        self._undo.append(undo)

    def undo(self) -> None:
        for one in self._undo:
            one()

    def finish(self, succeeded: bool) -> None:
        if not succeeded:
            self.undo()


def _giving_back(ports: NodePorts, port: int) -> Callable[[], None]:
    return lambda: ports.give_back(port)


def _has_cluster_ip(spec: JSON) -> bool:
    return spec.get("type") != "ExternalName" and not is_headless(spec)


def _has_node_ports(spec: JSON) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _cluster_ips(spec: JSON) -> list[str]:
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [address for address in addresses if address and address != NONE]


def _node_ports(spec: JSON) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")}


def _follow_cluster_ip(spec: JSON, old: JSON) -> None:
    """clusterIP and clusterIPs[0] are one thing: whichever the client changed leads."""
    ip, ips = spec.get("clusterIP"), spec.get("clusterIPs")
    if ip != old.get("clusterIP") and ips == old.get("clusterIPs"):
        if ip:
            spec["clusterIPs"] = [ip, *(ips or [])[1:]]
        else:
            spec.pop("clusterIPs", None)
    elif ip and not ips:
        spec["clusterIPs"] = [ip]
    elif ips and not ip:
        spec["clusterIP"] = ips[0]


def _drop_what_the_type_has_not(spec: JSON, old: JSON) -> None:
    """What only the former type or policy had goes with it, if the client left it as it was."""
    for field, has in (("externalTrafficPolicy", is_external), ("healthCheckNodePort", has_health_port)):
        if has(old) and not has(spec) and spec.get(field) == old.get(field):
            spec.pop(field, None)
    if spec["type"] == old.get("type"):
        return
    if spec["type"] == "ExternalName":
        if spec.get("clusterIPs") == old.get("clusterIPs"):
            for field in ("clusterIP", "clusterIPs"):
                spec.pop(field, None)
        for field in ("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(field) == old.get(field):
                spec.pop(field, None)
    if not _has_node_ports(spec):
        held = _node_ports(old)
        for port in spec.get("ports") or []:
            if port.get("nodePort") in held:
                del port["nodePort"]
    if spec["type"] != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) == old.get(field):
                spec.pop(field, None)


def _keep_allocated(spec: JSON, old: JSON) -> None:
    """What the cluster gave a Service stays its own when a client writes the object without it."""
    inside = "ExternalName" not in (spec["type"], old.get("type"))
    if inside and not spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIP"], spec["clusterIPs"] = old.get("clusterIP"), list(old.get("clusterIPs") or [])
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if inside and field in old and field not in spec:
            spec[field] = old[field]
    health_port = old.get("healthCheckNodePort")
    if health_port and has_health_port(spec) and has_health_port(old) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = health_port
    if _has_node_ports(spec) and _has_node_ports(old):
        held = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in old.get("ports") or []}
        used = _node_ports(spec)
        for port in spec.get("ports") or []:
            kept = held.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and kept and kept not in used:
                port["nodePort"] = kept
