"""What the host must do for connections that its kernel carries to pods: forward, and know where cluster IPs are."""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kubecore.netlink import Netlink
from kubecore.proxy.data_plane import ModeUnavailable

log = logging.getLogger(__name__)

_SYSCTL = Path("/proc/sys/net")


def forward(link: str) -> None:
    """Let the kernel forward packets, and let 127.0.0.1 be reached through `link`: endpoints and node ports may be
    there, by whom, the table says. The settings stay: others may have come to rely on forwarding.

    Raises ModeUnavailable when that cannot be had."""
    settings = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
    if link:
        settings[f"ipv4/conf/{link}/route_localnet"] = "1"
    for name, wanted in settings.items():
        file = _SYSCTL / name
        try:
            if file.read_text().strip() != wanted:
                file.write_text(wanted)
                log.info("net.%s is %s now", name.replace("/", "."), wanted)
        except FileNotFoundError:
            if not name.startswith("ipv6"):
                raise ModeUnavailable(f"{file} is missing") from None
        except OSError as error:
            raise ModeUnavailable(f"{file} cannot be set to {wanted}: {error.strerror}") from error


def route(networks: Iterable[str], link: str) -> None:
    """Send what the node itself sends to these ranges to `link`, so that it has a source address pods can answer to."""
    with Netlink() as netlink:
        index = netlink.link_index(link)
        if index is None:
            raise OSError(errno.ENODEV, f"link {link} is gone")
        for one in networks:
            with suppress(FileExistsError):  # a killed run left it
                netlink.add_route(ipaddress.ip_network(one), index=index)
