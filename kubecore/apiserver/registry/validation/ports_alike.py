"""Ports of a pod with the same number and protocol: which of them are in each other's way.

After kubernetes `pkg/api/pod/warnings.go`, which compares each with each.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

# An answer has room for fewer warnings: nobody hears of more.
MOST_TOLD = 1_000

# When it came, where it is said.
_Port = tuple[int, str]


class PortsAlike:
    """The ports so far, by what makes them collide with another: each port looks only at those it collides with."""

    def __init__(self) -> None:
        self._count = 0
        self._all: list[_Port] = []
        self._off_host: list[_Port] = []
        self._same: defaultdict[tuple[int, str], list[_Port]] = defaultdict(list)
        # Host port, and whether it is of one address only.
        self._on_host: defaultdict[tuple[int, bool], list[_Port]] = defaultdict(list)

    def joined(self, where: str, address: str, on_host: int) -> list[str]:
        """Adds the port that `where` (a path) says; what is told of it, at most MOST_TOLD."""
        same = self._same[on_host, address]
        if on_host:
            groups = (
                ("duplicate", same),
                ("overlapping", self._off_host),
                ("dangerously ambiguous", self._on_host[on_host, not address]),
            )
            found = sorted((one, how) for how, ports in groups for one in islice(ports, MOST_TOLD))
        else:
            duplicates = set(same)
            found = [(one, "duplicate" if one in duplicates else "overlapping") for one in islice(self._all, MOST_TOLD)]
        told = [f"{where}: {how} port definition with {other}" for (_, other), how in found[:MOST_TOLD]]
        here = self._count, where
        self._count += 1
        same.append(here)
        self._all.append(here)
        if on_host:
            self._on_host[on_host, bool(address)].append(here)
        else:
            self._off_host.append(here)
        return told
