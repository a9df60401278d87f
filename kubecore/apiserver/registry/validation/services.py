"""Services: ports, types, addresses, traffic policies.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateService.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import addresses, names
from kubecore.apiserver.registry.validation.metadata import validate_labels
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
NONE = "None"
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_MAX_AFFINITY_SECONDS = 86400


def is_headless(spec: JSON) -> bool:
    return spec.get("clusterIP") == NONE or (spec.get("clusterIPs") or [""])[0] == NONE


def is_external(spec: JSON) -> bool:
    """Reachable from outside the cluster."""
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def has_health_port(spec: JSON) -> bool:
    """Where a node tells whether it has endpoints."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def validate_service(spec: JSON, *, families: tuple[str, ...]) -> Problems:
    """What is wrong with a Service's spec; `families` are the ones the cluster has addresses of."""
    problems = Problems()
    kind = spec.get("type")
    if not spec.get("ports") and not is_headless(spec) and kind != "ExternalName":
        problems.required("spec.ports")
    problems.one_of("spec.type", kind, TYPES, required=True)
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        problems.invalid("spec.clusterIPs[0]", NONE, f"may not be set to 'None' for {kind} services")
    if kind == "ExternalName":
        _external_name(problems, spec)
    if spec.get("ports"):
        _ports(problems, spec)
    if selector := spec.get("selector"):
        validate_labels(problems, selector, "spec.selector")
    _session_affinity(problems, spec)
    _policies(problems, spec)
    _load_balancer(problems, spec)
    _addresses(problems, spec)
    if kind != "ExternalName":
        _families(problems, spec, families)
    return problems


def _external_name(problems: Problems, spec: JSON) -> None:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            problems.forbidden(f"spec.{field}", "may not be set for ExternalName services")
    name = spec.get("externalName")
    if not name:
        problems.required("spec.externalName")
    else:
        problems.check("spec.externalName", name.removesuffix("."), names.dns_subdomain)


def _ports(problems: Problems, spec: JSON) -> None:
    ports: list[JSON] = spec["ports"]
    names_taken: set[str] = set()
    numbers_taken: set[tuple[str, int]] = set()
    node_ports_taken: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        name, number, protocol = port.get("name"), port.get("port", 0), port.get("protocol", "")
        if not name:
            if len(ports) > 1:
                problems.required(f"{where}.name")
        else:
            problems.check(f"{where}.name", name, names.dns_label)
            if name in names_taken:
                problems.duplicate(f"{where}.name", name)
            names_taken.add(name)
        problems.port(f"{where}.port", number)
        problems.one_of(f"{where}.protocol", protocol, _PROTOCOLS, required=True)
        _target_port(problems, port.get("targetPort"), f"{where}.targetPort")
        if port.get("appProtocol") is not None:
            problems.check(f"{where}.appProtocol", port["appProtocol"], names.qualified_name)
        if (protocol, number) in numbers_taken:
            problems.duplicate(where, {"protocol": protocol, "port": number})
        numbers_taken.add((protocol, number))
        node_port = port.get("nodePort")
        if not node_port:
            continue
        if spec.get("type") in ("ClusterIP", "ExternalName"):
            problems.forbidden(f"{where}.nodePort", f"may not be used when `type` is '{spec['type']}'")
        if (protocol, node_port) in node_ports_taken:
            problems.duplicate(f"{where}.nodePort", node_port)
        node_ports_taken.add((protocol, node_port))


def _target_port(problems: Problems, target: object, path: str) -> None:
    if isinstance(target, str):
        problems.check(path, target, names.port_name)
    elif isinstance(target, int):
        problems.port(path, target)


def _session_affinity(problems: Problems, spec: JSON) -> None:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    problems.one_of("spec.sessionAffinity", affinity, ("ClientIP", NONE), required=True)
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        if seconds is None:
            problems.required(path)
        elif not 0 < seconds <= _MAX_AFFINITY_SECONDS:
            problems.invalid(path, seconds, f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}")
    elif affinity == NONE and config is not None:
        problems.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None")


def _policies(problems: Problems, spec: JSON) -> None:
    external = spec.get("externalTrafficPolicy")
    if external:
        if not is_external(spec):
            detail = "may only be set for externally-accessible services"
            problems.invalid("spec.externalTrafficPolicy", external, detail)
        else:
            problems.one_of("spec.externalTrafficPolicy", external, _POLICIES)
    problems.one_of_if_given("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), _POLICIES)
    problems.one_of_if_given("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def _load_balancer(problems: Problems, spec: JSON) -> None:
    balanced = spec.get("type") == "LoadBalancer"
    # Upstream spells it so.
    path = "spec.LoadBalancerSourceRanges"
    if spec.get("loadBalancerSourceRanges") and not balanced:
        problems.forbidden(path, "may only be used when `type` is 'LoadBalancer'")
    elif balanced:
        for index, text in enumerate(spec.get("loadBalancerSourceRanges") or []):
            for error in addresses.cidr(text.strip()):
                problems.invalid(f"{path}[{index}]", text, error)
    health, path = spec.get("healthCheckNodePort"), "spec.healthCheckNodePort"
    if health and has_health_port(spec):
        problems.port(path, health)
    elif health:
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        problems.invalid(path, health, detail)
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if spec.get("type") != "LoadBalancer":
        if allocate is not None:
            path = "spec.allocateLoadBalancerNodePorts"
            problems.forbidden(path, "may only be used when `type` is 'LoadBalancer'")
        if spec.get("loadBalancerClass") is not None:
            problems.forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'")
    if spec.get("loadBalancerClass") is not None and balanced:
        problems.check("spec.loadBalancerClass", spec["loadBalancerClass"], names.qualified_name)


_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")


def _addresses(problems: Problems, spec: JSON) -> None:
    for index, address in enumerate(spec.get("externalIPs") or []):
        path, parsed = f"spec.externalIPs[{index}]", addresses.parse_ip(address)
        if parsed is None:
            problems.invalid(path, address, addresses.IP_ADDRESS)
        elif parsed.is_unspecified:
            problems.invalid(path, address, f"may not be unspecified ({address})")
        elif parsed.is_link_local:
            problems.invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if spec.get("type") == "ExternalName":
        return
    cluster_ip, cluster_ips = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if cluster_ips and not cluster_ip:
        problems.invalid("spec.clusterIPs", cluster_ips, "must be empty when `clusterIP` is not specified")
    elif cluster_ips and cluster_ips[0] != cluster_ip:
        problems.invalid("spec.clusterIPs", cluster_ips, "first value must match `clusterIP`")
    if len(cluster_ips) > 2:
        problems.invalid("spec.clusterIPs", cluster_ips, "may only hold up to 2 values")
    if NONE in cluster_ips[1:]:
        problems.invalid("spec.clusterIPs", cluster_ips, "'None' must be the first and only value")
    for index, address in enumerate(cluster_ips):
        if address != NONE:
            problems.check(f"spec.clusterIPs[{index}]", address, addresses.ip)


def _families(problems: Problems, spec: JSON, available: tuple[str, ...]) -> None:
    families, policy = spec.get("ipFamilies") or [], spec.get("ipFamilyPolicy")
    problems.one_of_if_given("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES)
    without_selector = is_headless(spec) and not spec.get("selector")
    for index, family in enumerate(families):
        path = f"spec.ipFamilies[{index}]"
        if family not in _FAMILIES:
            problems.unsupported(path, family, _FAMILIES)
        elif family in families[:index]:
            problems.duplicate(path, family)
        elif family not in available and not without_selector:
            problems.invalid(path, family, "not configured on this cluster")
    if policy == "RequireDualStack" and len(available) < 2 and not without_selector:
        problems.invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services")
    if policy == "SingleStack" and len(set(families)) > 1:
        detail = "may only hold up to 1 value when `ipFamilyPolicy` is 'SingleStack'"
        problems.invalid("spec.ipFamilies", families, detail)


def validate_cluster_ip_change(problems: Problems, spec: JSON, old: JSON) -> None:
    """The addresses of a Service stay, unless its type is or becomes ExternalName."""
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return
    new_ips, old_ips = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    if len(new_ips) < len(old_ips) and not new_ips:
        problems.invalid("spec.clusterIPs[0]", new_ips, "primary clusterIP can not be unset")
        return
    for index, address in enumerate(old_ips[: len(new_ips)]):
        wrong = new_ips[index] != NONE and addresses.ip(new_ips[index])
        if new_ips[index] != address and not wrong:
            problems.invalid(f"spec.clusterIPs[{index}]", new_ips, "may not change once set")


def validate_fixed(problems: Problems, spec: JSON, old: JSON) -> None:
    """Who balances a Service's load stays, and so does where its health is asked for."""
    ports = [one.get("healthCheckNodePort") or 0 for one in (spec, old)]
    if has_health_port(spec) and has_health_port(old) and ports[0] != ports[1]:
        problems.forbidden("spec.healthCheckNodePort", "field is immutable")
    if spec.get("type") == old.get("type") == "LoadBalancer":
        wanted = spec.get("loadBalancerClass")
        if wanted != old.get("loadBalancerClass"):
            problems.invalid("spec.loadBalancerClass", wanted, "may not change once set")


_IP_MODES = ("Proxy", "VIP")


def validate_service_status(problems: Problems, service: JSON) -> None:
    """Only a load balancer has addresses of its own."""
    found = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    path = "status.loadBalancer.ingress"
    if service["spec"].get("type") != "LoadBalancer" and found:
        problems.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    for index, one in enumerate(found):
        where, mode = f"{path}[{index}]", one.get("ipMode")
        if one.get("ip"):
            problems.check(f"{where}.ip", one["ip"], addresses.ip)
        if mode is not None and not one.get("ip"):
            problems.forbidden(f"{where}.ipMode", "may not be specified when `ip` is not set")
        elif mode is not None:
            problems.one_of_if_given(f"{where}.ipMode", mode, _IP_MODES)
        elif one.get("ip"):
            problems.required(f"{where}.ipMode", "must be specified when `ip` is set")
        if one.get("hostname"):
            problems.check(f"{where}.hostname", one["hostname"], names.dns_subdomain)
            if addresses.parse_ip(one["hostname"]) is not None:
                problems.invalid(f"{where}.hostname", one["hostname"], "must be a DNS name, not an IP address")
