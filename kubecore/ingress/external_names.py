"""Where the names lead that Services of type ExternalName stand for: the host's resolver is asked again and again."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from kubecore.clock import Clock

log = logging.getLogger(__name__)

AGAIN_SECONDS, AFTER_FAILURE_SECONDS = 30.0, 5.0

LookUp = Callable[[str], Awaitable[list[str]]]
"""Addresses of a name; OSError."""


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses that a name leads to, sorted, and what is wrong with it: with both, the addresses are of before."""

    addresses: tuple[str, ...] = ()
    problem: str = ""


class ExternalNames:
    """Follows names for as long as they are wanted; `changed` is called with a name that leads elsewhere now."""

    def __init__(self, clock: Clock, changed: Callable[[str], None], *, look_up: LookUp | None = None) -> None:
        self._clock = clock
        self._changed = changed
        self._look_up = look_up or ask_the_host
        self._found: dict[str, Found] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}

    def get(self, name: str) -> Found | None:
        """None: it is not known yet."""
        return self._found.get(name)

    def follow(self, names: set[str]) -> None:
        """These from now on, and no others."""
        for name in self._followers.keys() - names:
            self._followers.pop(name).cancel()
            self._found.pop(name, None)
        for name in names - self._followers.keys():
            self._followers[name] = asyncio.create_task(self._run(name), name=f"external name {name}")

    async def stop(self) -> None:
        followers = list(self._followers.values())
        self.follow(set())
        await asyncio.gather(*followers, return_exceptions=True)

    async def _run(self, name: str) -> None:
        while True:
            before = self._found.get(name)
            found = await self._find(name, before)
            if found != before:
                self._found[name] = found
                self._changed(name)
            await self._clock.sleep(AFTER_FAILURE_SECONDS if found.problem else AGAIN_SECONDS)

    async def _find(self, name: str, before: Found | None) -> Found:
        try:
            addresses = await self._look_up(name)
        except (OSError, UnicodeError) as error:
            # A resolver that is down takes nobody's backend.
            held = before.addresses if before is not None else ()
            return Found(held, f"{name} cannot be looked up: {getattr(error, 'strerror', None) or error}")
        return _allowed(name, addresses)


async def ask_the_host(name: str) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(one[4][0]) for one in found]


def _allowed(name: str, addresses: Iterable[str]) -> Found:
    """Who may write a Service is not to reach what listens on the proxy's own host alone. (Endpoints of a Service may
    not have such addresses either: kubernetes `pkg/apis/core/validation`, ValidateNonSpecialIP.)"""
    given = {_plain(one) for one in addresses}
    special = {one for one in given if one.is_loopback or one.is_link_local or one.is_unspecified or one.is_multicast}
    kept = tuple(str(one) for one in sorted(given - special, key=lambda one: (one.version, int(one))))
    if special and not kept:
        shown = ", ".join(sorted(map(str, special)))
        return Found((), f"{name} leads to {shown}, which no backend may have")
    return Found(kept)


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Without a scope, and of IPv4 where it is one in IPv6's clothes."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return (address.ipv4_mapped if address.version == 6 else None) or address
