"""Ends containers that have more memory than they may, as the kernel would if it had a control group for each.

Nothing wakes us when a process takes memory, so that we look. The kernel tells for next to nothing what all processes
of the machine have together: by how much that has grown since a pod was looked at, the pod can have grown at most,
unless others have given up as much in the same moment. Whoever has more room than that need not be looked at, but now
and then. How often the machine is asked goes by who has least room, and by how fast memory can be taken.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Mapping, Sequence

from kubecore.clock import Clock, Timer
from kubecore.kubelet.runtime.memory_limits.judging import Judge, Members, Over, Pod, Reader, Watched
from kubecore.kubelet.runtime.memory_limits.owners import Process
from kubecore.kubelet.runtime.memory_limits.use import Folder

log = logging.getLogger(__name__)

# In a second: more than any machine that we know of hands out.
_FASTEST_BYTES = 8 << 30
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.05, 1.0
# After which a pod is looked at whatever the machine tells: one without any room, and one that has all of it; and where
# the machine tells nothing.
_CLOSE_SECONDS, _FAR_SECONDS, _BLIND_SECONDS = 1.0, 3.0, 0.25
# What comes and goes on any machine, and is no reason to look; and what is reason enough to look at once. For less a
# pod is looked at when it has not been for so long.
_NOISE_BYTES, _MUCH_BYTES = 4 << 20, 64 << 20
_REST_SECONDS = 0.5
# Of the time, for looking.
_SHARE = 0.1


class _Kept(Pod):
    """`floor`: the least that the machine had taken since the pod was looked at. `step`: once that has grown by it, the
    pod is looked at again, but for little not before `rested_at`. `due_at`: when it is anyway; inf while it is."""

    floor = 0
    step = 0
    rested_at = -math.inf
    due_at = -math.inf


class MemoryWatch:
    """Of the containers of all runtimes of a process. Nothing of it runs while none of them has a limit."""

    def __init__(self, clock: Clock, reader: Reader) -> None:
        self._clock = clock
        self._reader = reader
        self._judge = Judge(reader)
        self._pods: dict[str, _Kept] = {}
        self._limited: list[_Kept] = []
        """Those that are to be looked at."""
        self._least_room = 0
        self._next_due = -math.inf
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._looking: asyncio.Task[None] | None = None
        self._to_close: list[Folder] = []
        self._pause = 0.0
        self._told = False
        """The machine tells what is taken of it."""

    # ---- what there is

    def add_pod(self, sandbox: str, limit: int | None) -> None:
        """`limit`: of all its containers together, in bytes, None for none."""
        self._pods[sandbox] = _Kept(limit)

    def limit_pod(self, sandbox: str, limit: int | None) -> None:
        if (pod := self._pods.get(sandbox)) is not None:
            pod.limit = limit
            self._soon(pod)

    def remove_pod(self, sandbox: str) -> None:
        if (pod := self._pods.pop(sandbox, None)) is not None:
            for one in pod.containers.values():
                self._let_go(one)
        self._changed()

    def add(self, sandbox: str, container: Watched) -> None:
        """It has just been started."""
        pod = self._pods.setdefault(sandbox, _Kept(None))
        pod.containers[container.id] = container
        container.roots.add(container.process)
        for folder in container.folders:
            container.note(folder.device, self._reader.in_folder(folder))
        self._soon(pod)

    def started(self, sandbox: str, container: str, process: Process | None) -> None:
        """A further process has been, in a container that runs."""
        found = self._of(sandbox, container)
        if found is not None and process is not None:
            found.roots.add(process)

    def limit(self, sandbox: str, container: str, limit: int | None) -> None:
        if (found := self._of(sandbox, container)) is not None:
            found.limit = limit
            self._soon(self._pods[sandbox])

    def remove(self, sandbox: str, container: str) -> None:
        """It has ended."""
        pod = self._pods.get(sandbox)
        if pod is not None and (found := pod.containers.pop(container, None)) is not None:
            there = {one.device: self._reader.in_folder(one) for one in found.folders}
            for one in pod.containers.values():  # what that one has left in memory is not theirs
                for folder in one.folders:
                    if folder.device in there:
                        one.note(folder.device, there[folder.device])
            self._let_go(found)
        self._changed()

    def _of(self, sandbox: str, container: str) -> Watched | None:
        pod = self._pods.get(sandbox)
        return pod.containers.get(container) if pod is not None else None

    def _let_go(self, container: Watched) -> None:
        """The number of a closed descriptor is soon another's: not while somebody looks."""
        self._to_close += container.folders
        if self._looking is None:
            self._close_folders()

    def _close_folders(self) -> None:
        for one in self._to_close:
            os.close(one.descriptor)
        self._to_close.clear()

    # ---- when to look

    def _soon(self, pod: _Kept) -> None:
        pod.due_at = -math.inf
        self._changed()
        if pod in self._limited:
            self._arm(_SHORTEST_SECONDS)

    def _changed(self) -> None:
        self._limited = [pod for pod in self._pods.values() if pod.containers and pod.limits]
        self._least_room = min((pod.room for pod in self._limited), default=0)
        self._next_due = min((pod.due_at for pod in self._limited), default=math.inf)
        if self._timer is not None and not self._limited:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf

    def _arm(self, seconds: float) -> None:
        """Unless that is to be earlier anyway; never before the last look has been paid for."""
        if self._looking is not None:
            return
        seconds = max(seconds, self._pause)
        at = self._clock.monotonic() + seconds
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self._clock.call_later(seconds, self._tick), at

    def _arm_for_all(self) -> None:
        if self._limited:
            due = self._next_due - self._clock.monotonic()
            seconds = self._least_room / _FASTEST_BYTES if self._told else due
            self._arm(min(max(min(seconds, due), _SHORTEST_SECONDS), _LONGEST_SECONDS))

    def _tick(self) -> None:
        self._timer, self._timer_at, self._pause = None, math.inf, 0.0
        machine = self._reader.machine()
        self._told = machine is not None
        if due := self._due(machine.taken if machine is not None else 0):
            looking = self._look(due, machine.swapped if machine is not None else 0)
            self._looking = asyncio.create_task(looking, name="looking at containers' memory")
        else:
            self._arm_for_all()

    def _due(self, taken: int) -> list[_Kept]:
        now, due = self._clock.monotonic(), []
        for pod in self._limited:
            if taken < pod.floor:
                pod.floor = taken
            grown = taken - pod.floor
            if now >= pod.due_at or (grown >= pod.step and (grown >= _MUCH_BYTES or now >= pod.rested_at)):
                due.append(pod)
        for pod in due:
            pod.grown = taken - pod.floor >= pod.step
            pod.floor, pod.due_at = taken, math.inf
        return due

    def _until_next(self, pod: Pod) -> float:
        if not self._told:
            return _BLIND_SECONDS
        least = min(pod.limits, default=0)
        return max(_CLOSE_SECONDS, _FAR_SECONDS * min(pod.room / least, 1.0)) if least else _FAR_SECONDS

    # ---- looking

    async def _look(self, due: Sequence[_Kept], swapped: int) -> None:
        began = self._clock.monotonic()
        everybody = [one for pod in self._limited for one in pod.containers.values()]
        roots = {process: one.id for one in everybody for process in one.roots}
        marks = {one.mark: one.id for one in everybody if one.mark}
        looked = [(pod, tuple(pod.containers.values())) for pod in due]
        try:
            async with self._clock.outside(math.inf):
                members, over = await asyncio.to_thread(self._read, looked, roots, marks, swapped, began)
            for one in everybody:  # what was started in it and has ended goes
                living = members.get(one.id, ())
                one.roots = {root for root in one.roots if root not in roots or root in living or root == one.process}
            for found in over:
                self._end(found)
        except Exception:  # it has to go on
            log.exception("containers' memory could not be looked at")
        finally:
            self._looking = None
            self._close_folders()
        now = self._clock.monotonic()
        for pod in due:
            pod.step = max(pod.room, _NOISE_BYTES)
            pod.rested_at = now + _REST_SECONDS
            if pod.due_at == math.inf:
                pod.due_at = now + self._until_next(pod)
        self._changed()
        self._pause = (now - began) * (1 / _SHARE - 1)
        self._arm_for_all()

    def _read(
        self,
        looked: Sequence[tuple[_Kept, Sequence[Watched]]],
        roots: Mapping[Process, str],
        marks: Mapping[str, str],
        swapped: int,
        now: float,
    ) -> tuple[Members, list[Over]]:
        members = self._reader.processes(roots, marks)
        found: list[Over] = []
        for pod, containers in looked:
            found += self._judge.judge(pod, containers, members, swapped=swapped, now=now)
        return members, found

    def _end(self, over: Over) -> None:
        container, victim, used, limit, whose = over
        if container.ending or (victim is not None and victim == container.killed):
            return
        if container.end(victim):
            container.ending, container.killed = victim is None, victim
            what = f"process {victim.pid} of container" if victim is not None else "container"
            told = "%s %s is killed: %d bytes of memory are above the %s's limit of %d"
            log.warning(told, what, container.id, used, whose, limit)
