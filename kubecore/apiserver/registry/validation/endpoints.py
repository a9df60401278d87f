"""Addresses that traffic is sent to (kubernetes `pkg/apis/core/validation/validation.go`, ValidateEndpointIP)."""

from __future__ import annotations

import ipaddress

from kubecore.apiserver.registry.validation.addresses import IP_ADDRESS, parse_old_ip
from kubecore.apiserver.registry.validation.problems import Problems

_LOCAL_MULTICAST = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def validate_address(problems: Problems, address: str, path: str, *, loopback: bool = True) -> None:
    """An address traffic can be sent to. `loopback` addresses are taken where in loopback mode pods have such."""
    parsed = parse_old_ip(address)
    if parsed is None:
        problems.invalid(path, address, IP_ADDRESS)
    elif parsed.is_unspecified:
        problems.invalid(path, address, f"may not be unspecified ({address})")
    elif parsed.is_loopback and not loopback:
        problems.invalid(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    elif parsed.is_link_local:
        problems.invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    elif parsed in _LOCAL_MULTICAST[parsed.version]:
        problems.invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
