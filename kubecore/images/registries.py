"""Where registries are asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubecore.images.references import Reference

_HUB = ("docker.io", "https://registry-1.docker.io")


class PullError(Exception):
    """The text is for people, in containerd's words."""


@dataclass(frozen=True)
class Registries:
    """`mirrors`: by host, base URLs that are tried before it. `plain`: hosts (with port) that speak HTTP; those of this
    machine do."""

    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plain: frozenset[str] = frozenset()

    def addresses(self, reference: Reference) -> list[str]:
        host = reference.host
        own = _HUB[1] if host == _HUB[0] else f"{'http' if self._is_plain(host) else 'https'}://{host}"
        return [*(one.rstrip("/") for one in self.mirrors.get(host, ())), own]

    def _is_plain(self, host: str) -> bool:
        name = host.rpartition(":")[0] or host
        try:
            return host in self.plain or ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return name == "localhost"
