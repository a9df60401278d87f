"""What the API server is called: names and addresses that its certificate is for, and the one that clients are told."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore.apiserver.config import APIServerConfig

_ANY = ("0.0.0.0", "::")


def certified(config: APIServerConfig, service_ip: str) -> list[str]:
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{config.cluster_domain}", "localhost", socket.gethostname()]
    addresses = ["127.0.0.1", "::1", service_ip]
    if config.bind_address not in _ANY:
        addresses.append(config.bind_address)
    addresses += [one for one in (config.advertise_address, config.service_address) if one]
    return list(dict.fromkeys([*(name for name in names if name), *addresses, *config.extra_sans]))


def advertised(config: APIServerConfig, service_ip: str) -> str:
    if config.advertise_address:
        return config.advertise_address
    if config.bind_address not in _ANY:
        return config.bind_address
    return "::1" if ":" in service_ip and config.bind_address == "::" else "127.0.0.1"
