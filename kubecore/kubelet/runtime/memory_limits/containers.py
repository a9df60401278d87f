"""A runtime's containers, as they are watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.runtime import leftovers
from kubecore.kubelet.runtime.host_plans import Container, LaunchPlans, Sandbox
from kubecore.kubelet.runtime.interface import ContainerStatus
from kubecore.kubelet.runtime.memory_limits import use
from kubecore.kubelet.runtime.memory_limits.judging import Watched
from kubecore.kubelet.runtime.memory_limits.owners import Process
from kubecore.kubelet.runtime.memory_limits.watch import MemoryWatch
from kubecore.kubelet.runtime.processes import is_ending

_SHARED_MEMORY = "/dev/shm"
_KILLED = 137


class WatchedContainers:
    """Those of one runtime. Without a `watch`, which is to be set before the first sandbox, it does nothing."""

    def __init__(self) -> None:
        self.watch: MemoryWatch | None = None
        self.on_kill: Callable[[ContainerStatus], None] = lambda status: None
        """Hears of a container, or a process of it, that has just been killed."""

    def add_sandbox(self, sandbox: str, limits: Limits) -> None:
        if self.watch is not None:
            self.watch.add_pod(sandbox, limits.memory)

    def limit_sandbox(self, sandbox: str, limits: Limits) -> None:
        if self.watch is not None:
            self.watch.limit_pod(sandbox, limits.memory)

    def remove_sandbox(self, sandbox: str) -> None:
        if self.watch is not None:
            self.watch.remove_pod(sandbox)

    def add(self, plans: LaunchPlans, sandbox: Sandbox, container: Container) -> None:
        """It runs."""
        running = container.running
        process = use.process_of(running.pid) if running is not None and self.watch is not None else None
        if process is None or self.watch is None:
            return
        container.status = replace(container.status, memory_kills=0)
        own = plans.is_first(sandbox, container)
        watched = Watched(
            id=container.status.id,
            process=process,
            limit=container.config.limits.memory,
            end=partial(self._end, container),
            together=container.config.limits.together,
            mark="" if own else leftovers.container_mark(plans.node, container.status.id),
            folders=use.folders_of(process.pid, _in_memory(sandbox, container)) if plans.isolation.namespaces else (),
        )
        self.watch.add(container.status.sandbox_id, watched)

    def started(self, container: Container, pid: int) -> None:
        """A further process in it."""
        if self.watch is not None:
            self.watch.started(container.status.sandbox_id, container.status.id, use.process_of(pid))

    def limit(self, container: Container, limits: Limits) -> None:
        if self.watch is not None:
            self.watch.limit(container.status.sandbox_id, container.status.id, limits.memory)

    def remove(self, container: Container) -> None:
        """It has ended."""
        if self.watch is not None:
            self.watch.remove(container.status.sandbox_id, container.status.id)

    def _end(self, container: Container, victim: Process | None) -> bool:
        """Whatever else is in it ends with its first process."""
        running = container.running
        if running is None or is_ending(running.pid):
            return False
        if victim is None or victim.pid == running.pid:
            running.kill()
        elif not use.kill(victim):
            return False
        container.out_of_memory = True
        container.status = replace(container.status, memory_kills=(container.status.memory_kills or 0) + 1)
        self.on_kill(container.status)
        return True


def was_ended(container: Container, exit_code: int) -> bool:
    """Whether that is what it has ended of, or one of its processes. Who ended by itself just then was not killed."""
    return container.out_of_memory and (exit_code == _KILLED or not container.config.limits.together)


def _in_memory(sandbox: Sandbox, container: Container) -> list[str]:
    """Where it may write to memory."""
    found = [one.target for one in container.config.mounts if one.in_memory and not one.read_only]
    return [*found, _SHARED_MEMORY] if sandbox.shared_memory is not None else found
