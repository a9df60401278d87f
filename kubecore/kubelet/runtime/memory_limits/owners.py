"""Whose each process of the machine is: a container's are its first one, those that were started in it, and whatever
these start. As in a control group, a process stays its container's for as long as it lives, also when its parent ends.

A process that is first seen when its parent is gone already is known by its session, or by its mark (`leftovers`),
where no pid namespace has given it to its container's first process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kubecore.kubelet import proc_files
from kubecore.kubelet.runtime.leftovers import VARIABLE, environment

# Numbers come to stand for other processes: after so many looks all are looked at anew.
_ALL_ANEW = 32
_MARK = f"\0{VARIABLE}=".encode()


class Process(NamedTuple):
    """`began`: when it was started, in ticks since the machine was. No other process is the same in both."""

    pid: int
    began: int


class Told(NamedTuple):
    """What the kernel tells of a process. `flags`: proc(5)."""

    state: str
    parent: int
    session: int
    flags: int
    began: int


class _Seen(NamedTuple):
    began: int
    parent: int
    owner: str
    """ "" for nobody's."""


def told_of(pid: int, proc: Path | str = "/proc") -> Told | None:
    """None of a process that is gone."""
    try:
        fields = proc_files.stat_fields(f"{proc}/{pid}")
        return Told(fields[0], int(fields[1]), int(fields[3]), int(fields[6]), int(fields[19]))
    except (OSError, IndexError):
        return None


class Owners:
    """Not for the event loop: it reads a file of every process that is new, and of all now and then."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._seen: dict[int, _Seen] = {}
        self._looks = 0

    def look(self, roots: Mapping[Process, str], marks: Mapping[str, str]) -> dict[str, set[Process]]:
        """The living ones of each owner. `roots`: what was started for whom. `marks`: whose they are, by the value of
        VARIABLE, where there is no pid namespace."""
        numbers = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208  (a name is enough)
        fresh = self._fresh(numbers, roots)
        owned = self._with_owners(numbers, fresh, roots, marks)
        self._seen = {number: seen for number, seen in self._seen.items() if number in numbers} | owned
        found: dict[str, set[Process]] = {}
        wanted = {*roots.values()}
        for number, seen in self._seen.items():
            if seen.owner in wanted:
                found.setdefault(seen.owner, set()).add(Process(number, seen.began))
        return found

    def _fresh(self, numbers: set[int], roots: Iterable[Process]) -> dict[int, Told]:
        """Of whom it is not known yet whose they are, or not any more."""
        self._looks += 1
        known = ((self._seen.get(one.pid), one.began) for one in roots)
        mistaken = any(seen is not None and (not seen.owner or seen.began != began) for seen, began in known)
        everybody = mistaken or self._looks % _ALL_ANEW == 0
        owners = {number for number, seen in self._seen.items() if seen.owner}
        fresh = {}
        for number in numbers:
            seen = self._seen.get(number)
            if seen is None or everybody or (not seen.owner and seen.parent in owners):
                told = told_of(number, self._proc)
                if told is not None:
                    fresh[number] = told
        return fresh

    def _with_owners(
        self, numbers: set[int], fresh: Mapping[int, Told], roots: Mapping[Process, str], marks: Mapping[str, str]
    ) -> dict[int, _Seen]:
        known: dict[int, str] = {
            number: seen.owner
            for number, seen in self._seen.items()
            if number in numbers and (number not in fresh or (seen.owner and fresh[number].began == seen.began))
        }
        living = {one.pid: one for one in roots if one.pid in numbers}
        for number, root in living.items():
            if (told := fresh.get(number)) is not None and told.began == root.began:
                known[number] = roots[root]
        for number in fresh:
            line = _up_to_a_known_one(number, fresh, known)
            owner = known.get(fresh[line[-1]].parent, "") if line else ""
            for one in reversed(line):  # the oldest first
                owner = known[one] = owner or self._by_itself(one, fresh[one], known, living, marks)
        return {number: _Seen(told.began, told.parent, known[number]) for number, told in fresh.items()}

    def _by_itself(
        self,
        number: int,
        told: Told,
        known: Mapping[int, str],
        living: Mapping[int, Process],
        marks: Mapping[str, str],
    ) -> str:
        """Whose it is though its parent is not theirs."""
        if told.session in living and told.session != number and known.get(told.session):
            return known[told.session]
        before = self._seen.get(number)
        if not marks or (before is not None and before.began == told.began):
            return ""
        mark = environment(self._proc / str(number)).partition(_MARK)[2].partition(b"\0")[0]
        return marks.get(mark.decode(errors="replace"), "")


def _up_to_a_known_one(number: int, fresh: Mapping[int, Told], known: Mapping[int, str]) -> Sequence[int]:
    """A process, its parent, and so on, as far as they are new."""
    line: dict[int, None] = {}
    while number in fresh and number not in known and number not in line:
        line[number] = None
        number = fresh[number].parent
    return list(line)
