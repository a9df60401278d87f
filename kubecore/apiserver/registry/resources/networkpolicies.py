"""NetworkPolicies."""

from __future__ import annotations

import ipaddress
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICY_TYPES = ("Ingress", "Egress")
_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


class NetworkPolicyStrategy(Strategy):
    resource_key = "networkpolicies.networking.k8s.io"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction) or []:
                for port in rule.get("ports") or []:
                    if port.get("protocol") is None:
                        port["protocol"] = "TCP"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        validate_label_selector(problems, spec.get("podSelector"), "spec.podSelector")
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(spec.get(direction) or []):
                path = f"spec.{direction}[{index}]"
                for number, port in enumerate(rule.get("ports") or []):
                    _port(problems, port, f"{path}.ports[{number}]")
                for number, peer in enumerate(rule.get(peers) or []):
                    _peer(problems, peer, f"{path}.{peers}[{number}]")
        types = spec.get("policyTypes") or []
        if len(types) > 2:
            problems.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        else:
            for index, kind in enumerate(types):
                if kind not in _POLICY_TYPES:
                    problems.unsupported(f"spec.policyTypes[{index}]", kind, _POLICY_TYPES)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_network_policy(obj)


def _port(problems: Problems, port: JSON, path: str) -> None:
    if port.get("protocol") not in _PROTOCOLS:
        problems.unsupported(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    number, end = port.get("port"), port.get("endPort")
    if number is None:
        if end is not None:
            problems.invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified")
        return
    if isinstance(number, str):
        problems.check(f"{path}.port", number, names.port_name)
        if end is not None:
            problems.invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
        return
    problems.port(f"{path}.port", number)
    if end is not None:
        if end < number:
            # Upstream shows the port.
            problems.invalid(f"{path}.endPort", number, "must be greater than or equal to `port`")
        problems.port(f"{path}.endPort", end)


def _peer(problems: Problems, peer: JSON, path: str) -> None:
    given = [kind for kind in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(kind) is not None]
    for kind in ("podSelector", "namespaceSelector"):
        validate_label_selector(problems, peer.get(kind), f"{path}.{kind}")
    if not given:
        problems.required(path, "must specify a peer")
    elif "ipBlock" in given:
        if len(given) > 1:
            problems.forbidden(path, "may not specify both ipBlock and another peer")
        _ip_block(problems, peer["ipBlock"], f"{path}.ipBlock")


def _ip_block(problems: Problems, block: JSON, path: str) -> None:
    if not block.get("cidr"):
        problems.required(f"{path}.cidr")
        return
    whole = _network(problems, block["cidr"], f"{path}.cidr")
    if whole is None:
        return
    for index, text in enumerate(block.get("except") or []):
        where = f"{path}.except[{index}]"
        part = _network(problems, text, where)
        if part is None:
            continue
        inside = part.version == whole.version and part.network_address in whole and part.prefixlen > whole.prefixlen
        if not inside:
            detail = "must be a strict subset of `cidr`"
            problems.invalid(where, text, detail)


def _network(problems: Problems, text: str, path: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        problems.invalid(path, text, _CIDR)
        return None
