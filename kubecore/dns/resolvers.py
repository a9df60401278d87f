"""The resolvers this host asks."""

from __future__ import annotations

import ipaddress
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
_MOST_SERVERS = 3


def host_resolvers(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """Addresses of the name servers in a resolv.conf(5), as many as the C library would use; none when it cannot be
    read. Link-local ones that need a zone are left out."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    found: dict[str, None] = {}
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and "%" not in words[1]:
            try:
                found[str(ipaddress.ip_address(words[1]))] = None
            except ValueError:
                continue
    return tuple(found)[:_MOST_SERVERS]
