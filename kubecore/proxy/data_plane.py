"""What a mode of the proxy offers: tables that carry connections, brought to what the Services ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal, Protocol

from kubecore.proxy.claims import Problem
from kubecore.proxy.virtual_servers import VirtualServer

Mode = Literal["userspace", "nftables", "ipvs"]

COUNTED = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")


class ModeUnavailable(Exception):
    """A mode cannot be had on this host; the text says why."""


class DataPlane(Protocol):
    """Methods never wait: each is a few system calls. What `apply` is told takes effect at `commit`, if not before."""

    mode: Mode
    restores: bool
    """Whether it makes anything that `restore` is to look after."""

    @property
    def unfinished(self) -> bool:
        """Something is left that only another `commit`, later on, can do."""

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        """Make `servers` all that is served for a Service (its key); none takes it out. `addresses` are held on the
        link for the sake of others who listen on them. Returns the problems, and other Services that have become the
        first to ask for something and should be applied again.
        """

    def commit(self) -> None:
        """Raises OSError when it could not be done, with nothing changed: to be tried again."""

    def restore(self) -> Collection[str] | None:
        """Whether somebody else has removed from the kernel what was made, as a reload of the host's own rules does.
        None: no. Else the next `commit` makes it again, once the Services that are
        named have been applied again. Raises OSError."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each virtual server, by address: `service`, `purpose`, `protocol`, `address`, `port`, `scheduler`,
        `persistence_seconds`, `listening`, and `destinations`, each once, with `address`, `port`, `weight`, `active`,
        `inactive`. Servers and destinations have those of `COUNTED` that are known, all since they are there (a mode
        may know those of open connections alone, and only by destination)."""

    def sweep(self) -> list[str]:
        """Remove addresses that a killed run left, once everything has been applied. Returns them; raises OSError."""

    def close(self) -> None:
        """Remove all that was made."""


def each_once(destinations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for an endpoint that stands there twice, since clients from inside are led on their own: what was counted
    is added up."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for one in destinations:
        same = found.setdefault((one["address"], one["port"]), one)
        if same is not one:
            for name in one.keys() - {"address", "port"}:
                same[name] = max(same[name], one[name]) if name in _NO_COUNTS else same[name] + one[name]
    return list(found.values())


def summed(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """What was counted of several, as far as it is known of all of them."""
    every = list(rows)
    return {name: sum(one[name] for one in every) for name in COUNTED if all(name in one for one in every)}


_NO_COUNTS = ("weight", "overloaded")
