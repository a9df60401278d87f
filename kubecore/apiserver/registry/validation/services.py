"""Services: ports, types, addresses, traffic policies, and what of them stays.

After kubernetes `pkg/apis/core/validation/validation.go`, validateService and ValidateServiceUpdate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.apiserver.registry.validation import addresses, names
from kubecore.apiserver.registry.validation.endpoints import validate_address
from kubecore.apiserver.registry.validation.metadata import validate_labels
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.service_addresses import (
    NONE,
    is_headless,
    validate_address_changes,
    validate_cluster_ips,
)

JSON = dict[str, Any]

EXTERNAL_NAME = "ExternalName"
TYPES = ("ClusterIP", EXTERNAL_NAME, "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_IP_MODES = ("Proxy", "VIP")
_MAX_AFFINITY_SECONDS = 86400
_HINTS = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_ONLY_BALANCED = "may only be used when `type` is 'LoadBalancer'"


def is_external(spec: JSON) -> bool:
    """Reachable from outside the cluster."""
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def has_health_port(spec: JSON) -> bool:
    """Where a node tells whether it has endpoints."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def validate_service(problems: Problems, service: JSON, old: JSON | None = None) -> None:
    """`old` is what an update replaces: values that were taken once may stay."""
    spec, before = service["spec"], (old or {}).get("spec") or {}
    notes, notes_before = (((one or {}).get("metadata") or {}).get("annotations") or {} for one in (service, old))
    _hints(problems, notes)
    kind = spec.get("type")
    if not spec.get("ports") and not is_headless(spec) and kind != EXTERNAL_NAME:
        problems.required("spec.ports")
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        problems.invalid("spec.clusterIPs[0]", NONE, f"may not be set to 'None' for {kind} services")
    if kind == EXTERNAL_NAME:
        _external_name(problems, spec)
    _ports(problems, spec)
    if selector := spec.get("selector"):
        validate_labels(problems, selector, "spec.selector")
    _session_affinity(problems, spec)
    validate_cluster_ips(problems, spec, before)
    _external_ips(problems, spec.get("externalIPs") or [], before.get("externalIPs") or [])
    problems.one_of("spec.type", kind, TYPES, required=True)
    _source_ranges(problems, spec, before.get("loadBalancerSourceRanges") or [], notes, notes_before)
    _load_balancer(problems, spec)
    _external_policy(problems, spec)
    internal = spec.get("internalTrafficPolicy")
    if internal is None and kind in TYPES and kind != EXTERNAL_NAME:
        problems.required("spec.internalTrafficPolicy")
    problems.one_of_if_given("spec.internalTrafficPolicy", internal, _POLICIES)
    problems.one_of_if_given("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def validate_service_change(problems: Problems, spec: JSON, old: JSON) -> None:
    """What a change of a Service may not change."""
    validate_address_changes(problems, spec, old)
    if spec.get("type") == old.get("type") == "LoadBalancer":
        wanted = spec.get("loadBalancerClass")
        if wanted != old.get("loadBalancerClass"):
            problems.invalid("spec.loadBalancerClass", wanted, "may not change once set")
    ports = [one.get("healthCheckNodePort") or 0 for one in (spec, old)]
    if has_health_port(spec) and has_health_port(old) and ports[0] != ports[1]:
        problems.forbidden("spec.healthCheckNodePort", "field is immutable")


def _hints(problems: Problems, notes: JSON) -> None:
    old, new = _HINTS
    if old in notes and new in notes and notes[old] != notes[new]:
        detail = f"must match annotations[{old}] when both are specified"
        problems.invalid(f"metadata.annotations[{new}]", notes[new], detail)


def _external_name(problems: Problems, spec: JSON) -> None:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            problems.forbidden(f"spec.{field}", "may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    problems.check_needed("spec.externalName", name, names.dns_subdomain)


# --- ports


def _ports(problems: Problems, spec: JSON) -> None:
    ports: list[JSON] = spec.get("ports") or []
    taken: tuple[set[str], set[tuple[str, int]], set[tuple[str, int]]] = (set(), set(), set())
    names_taken, numbers_taken, node_ports_taken = taken
    for index, port in enumerate(ports):
        where, number, protocol = f"spec.ports[{index}]", port.get("port") or 0, port.get("protocol") or ""
        _port_name(problems, port.get("name") or "", f"{where}.name", names_taken, needed=len(ports) > 1)
        problems.port(f"{where}.port", number)
        problems.one_of(f"{where}.protocol", protocol, _PROTOCOLS, required=True)
        _target_port(problems, port.get("targetPort"), f"{where}.targetPort")
        if port.get("appProtocol") is not None:
            problems.check(f"{where}.appProtocol", port["appProtocol"], names.qualified_name)
        if (protocol, number) in numbers_taken:
            problems.duplicate(where, {"protocol": protocol, "port": number})
        numbers_taken.add((protocol, number))
        node_port = port.get("nodePort") or 0
        if node_port:
            if spec.get("type") == "ClusterIP":
                problems.forbidden(f"{where}.nodePort", "may not be used when `type` is 'ClusterIP'")
            if (protocol, node_port) in node_ports_taken:
                problems.duplicate(f"{where}.nodePort", node_port)
            node_ports_taken.add((protocol, node_port))


def _port_name(problems: Problems, name: str, path: str, taken: set[str], *, needed: bool) -> None:
    if not name:
        if needed:
            problems.required(path)
        return
    problems.check(path, name, names.dns_label)
    if name in taken:
        problems.duplicate(path, name)
    taken.add(name)


def _target_port(problems: Problems, target: object, path: str) -> None:
    if isinstance(target, str):
        problems.check(path, target, names.port_name)
    elif isinstance(target, int):
        problems.port(path, target)


# --- who reaches it, and how


def _session_affinity(problems: Problems, spec: JSON) -> None:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    problems.one_of("spec.sessionAffinity", affinity, ("ClientIP", NONE), required=True)
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        if seconds is None:
            problems.required(path, "when session affinity type is ClientIP")
        elif not 0 < seconds <= _MAX_AFFINITY_SECONDS:
            problems.invalid(path, seconds, f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}")
    elif affinity == NONE and config is not None:
        problems.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None")


def _external_policy(problems: Problems, spec: JSON) -> None:
    external, path = spec.get("externalTrafficPolicy"), "spec.externalTrafficPolicy"
    if is_external(spec):
        problems.one_of(path, external, _POLICIES, required=True)
    elif external:
        problems.invalid(path, external, "may only be set for externally-accessible services")
    health, path = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if not has_health_port(spec):
        if health:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            problems.invalid(path, health, detail)
    elif not health:
        problems.required(path)
    else:
        problems.port(path, health)


def _external_ips(problems: Problems, given: Sequence[str], before: Sequence[str]) -> None:
    for index, address in enumerate(given):
        path = f"spec.externalIPs[{index}]"
        errors = [] if address in before else addresses.ip(address)
        if errors:
            problems.invalid(path, address, errors[0])
        else:
            validate_address(problems, address, path, loopback=False)


def _source_ranges(problems: Problems, spec: JSON, before: Sequence[str], notes: JSON, notes_before: JSON) -> None:
    """From where a load balancer may be reached: a field, or the annotation it was once."""
    balanced = spec.get("type") == "LoadBalancer"
    if given := spec.get("loadBalancerSourceRanges"):
        # Upstream spells it so.
        path, held = "spec.LoadBalancerSourceRanges", [one.strip() for one in before]
        if not balanced:
            problems.forbidden(path, _ONLY_BALANCED)
        for index, text in enumerate(given):
            if text.strip() not in held:
                problems.check(f"{path}[{index}]", text.strip(), addresses.cidr)
    elif _SOURCE_RANGES in notes:
        path, listed = f"metadata.annotations[{_SOURCE_RANGES}]", notes[_SOURCE_RANGES]
        if not balanced:
            problems.forbidden(path, _ONLY_BALANCED)
        if listed != notes_before.get(_SOURCE_RANGES) and listed.strip():
            for text in listed.split(","):
                problems.check(path, text.strip(), addresses.cidr)


def _load_balancer(problems: Problems, spec: JSON) -> None:
    balanced = spec.get("type") == "LoadBalancer"
    allocate, name = spec.get("allocateLoadBalancerNodePorts"), spec.get("loadBalancerClass")
    if not balanced:
        if allocate is not None:
            problems.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCED)
        if name is not None:
            problems.forbidden("spec.loadBalancerClass", _ONLY_BALANCED)
    elif name is not None:
        problems.check("spec.loadBalancerClass", name, names.qualified_name)


def validate_service_status(problems: Problems, service: JSON, old: JSON) -> None:
    """Only a load balancer has addresses of its own."""
    found, before = (
        ((one.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [] for one in (service, old)
    )
    path = "status.loadBalancer.ingress"
    if service["spec"].get("type") != "LoadBalancer" and found:
        problems.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    held = {one["ip"] for one in before if one.get("ip")}
    for index, one in enumerate(found):
        where, mode = f"{path}[{index}]", one.get("ipMode")
        if one.get("ip") and one["ip"] not in held:
            problems.check(f"{where}.ip", one["ip"], addresses.ip)
        if mode is not None and not one.get("ip"):
            problems.forbidden(f"{where}.ipMode", "may not be specified when `ip` is not set")
        elif mode is not None:
            problems.one_of_if_given(f"{where}.ipMode", mode, _IP_MODES)
        elif one.get("ip"):
            problems.required(f"{where}.ipMode", "must be specified when `ip` is set")
        if one.get("hostname"):
            problems.check(f"{where}.hostname", one["hostname"], names.dns_subdomain)
            if addresses.parse_old_ip(one["hostname"]) is not None:
                problems.invalid(f"{where}.hostname", one["hostname"], "must be a DNS name, not an IP address")
