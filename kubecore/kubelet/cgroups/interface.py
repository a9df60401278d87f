"""What a kubelet and its runtimes ask of the kernel's control groups, whichever version they are of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

CPU_PERIOD_MICROSECONDS = 100_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one group. `cpu_shares`: 2 to 262144, 1024 for one CPU, None for as many as any other group has. `cpu_quota`:
    microseconds in each CPU_PERIOD_MICROSECONDS. `memory`: bytes. `pids`: processes and threads. None: no limit.
    `swap`: beside the memory there may be as much of it as the machine has. `together`: where one of its processes is
    killed for want of memory, all are."""

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    memory: int | None = None
    pids: int | None = None
    swap: bool = False
    together: bool = True


@dataclass(frozen=True, slots=True)
class Places:
    """Where a node's groups are. `roots`: the node's own group, by controller (version 1) or under "" (version 2),
    where it is two levels below `base`."""

    version: str
    roots: dict[str, Path] = field(default_factory=dict)
    base: Path | None = None


class CgroupError(Exception):
    """A group cannot be made or changed; the text is for people."""


class Cgroups(Protocol):
    """The groups of one node. A path is relative to the node's own group: `burstable/podUID/CONTAINER`.

    Every call is a few writes to a file system in memory.
    """

    version: str
    """`v1` or `v2`."""

    @property
    def limits_memory(self) -> bool:
        """They have a controller for it; known once they were started or joined."""

    @property
    def places(self) -> Places:
        """By which another process finds them (`detection.at`)."""

    def join(self) -> None:
        """Use the groups that another process has started."""

    def start(self) -> None:
        """Make the node's group, after ending what a dead run left in it. Raises CgroupError where that is not ours to
        do."""

    def make(self, path: str, limits: Limits, *, inner: bool) -> None:
        """A group within one that exists; one that is there already gets the limits. `inner`: other groups are to be in
        it, and no process. Raises CgroupError."""

    def limit(self, path: str, limits: Limits) -> None:
        """Give a group other limits. Raises CgroupError."""

    def doors(self, path: str) -> list[int]:
        """Descriptors by which a process of one thread enters the group, writing "0"; the caller's to close. Raises
        CgroupError."""

    def out_of_memory_kills(self, path: str) -> int:
        """How many of the group's processes the kernel has killed for want of memory; 0 of a group that is gone."""

    def remove(self, path: str) -> None:
        """The group and those within it. One that is not empty yet goes later."""

    def close(self) -> None:
        """Remove all groups."""
