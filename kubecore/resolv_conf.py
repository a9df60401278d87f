"""How this host looks names up: resolv.conf(5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path("/etc/resolv.conf")
_MOST_SERVERS = 3


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What the file says, in its order. Domains have no dot at their end; an option without a value has None."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = PATH) -> ResolvConf:
        """Nothing when it cannot be read. The last `search` or `domain` counts."""
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            return cls()
        servers: list[str] = []
        searches: tuple[str, ...] = ()
        options: dict[str, str | None] = {}
        for line in lines:
            word, *rest = line.split("#", 1)[0].split() or [""]
            if word == "nameserver":
                servers += rest[:1]
            elif word in ("search", "domain"):
                searches = tuple(one.rstrip(".") for one in rest if one != ".")
            elif word == "options":
                for one in rest:
                    name, colon, value = one.partition(":")
                    options[name] = value if colon else None
        return cls(tuple(servers), searches, options)

    def resolvers(self) -> tuple[str, ...]:
        """Addresses of the servers that the C library would ask: each once, not those that need a zone."""
        found: dict[str, None] = {}
        for server in self.servers:
            try:
                address = ipaddress.ip_address(server)
            except ValueError:
                continue
            if "%" not in server:
                found[str(address)] = None
        return tuple(found)[:_MOST_SERVERS]
