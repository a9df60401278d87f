"""What a killed kubelet has left running of its pods, and how the next one takes it up.

Containers, their sandboxes, addresses and logs are the runtimes' and are found there. What was said of them is the
API's: counts of restarts, and, as upstream has it (gate ChangeContainerStatusOnKubeletRestart off), what is started and
ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubecore.kubelet.pods.records import ContainerRecord
from kubecore.kubelet.runtime.interface import (
    ContainerState,
    ContainerStatus,
    Runtime,
    RuntimeFailure,
    SandboxStatus,
)


@dataclass(frozen=True, slots=True)
class Left:
    """Of one pod: its newest sandbox, if it has any, and those before."""

    runtime: Runtime
    sandbox: SandboxStatus
    former: tuple[str, ...] = ()

    def containers(self) -> list[ContainerStatus]:
        """The newest of each name, as they are now."""
        found: dict[str, ContainerStatus] = {}
        for status in self.runtime.list_containers(self.sandbox.id):
            known = found.get(status.name)
            order = (status.attempt, status.created_at)
            if status.state is not ContainerState.CREATED and (
                known is None or (known.attempt, known.created_at) < order
            ):
                found[status.name] = status
        return list(found.values())

    def alive(self, container_id: str) -> bool:
        """Whether the runtime still knows of it, be it that it has ended."""
        return any(one.id == container_id for one in self.containers())


@dataclass
class LeftPods:
    """By the pod's uid; each is taken once."""

    _pods: dict[str, Left] = field(default_factory=dict)

    def find(self, runtimes: Iterable[Runtime]) -> None:
        """Before anything is started."""
        for runtime in runtimes:
            for sandbox in runtime.list_pod_sandboxes():
                known = self._pods.get(sandbox.uid)
                former = (*known.former, known.sandbox.id) if known is not None else ()
                self._pods[sandbox.uid] = Left(runtime, sandbox, former)

    def take(self, uid: str) -> Left | None:
        return self._pods.pop(uid, None)

    async def remove_others(self, wanted: set[str]) -> None:
        """Of pods that went while no kubelet ran; `wanted`: the uids of those that did not."""
        for uid in [uid for uid in self._pods if uid not in wanted]:
            await remove(self._pods.pop(uid))


async def remove(left: Left) -> None:
    """All of it."""
    await remove_former(left)
    await left.runtime.remove_pod_sandbox(left.sandbox.id)


async def remove_former(left: Left) -> None:
    """Sandboxes that another one has taken the place of."""
    for sandbox_id in left.former:
        await left.runtime.remove_pod_sandbox(sandbox_id)


def sandbox_runs(runtime: Runtime, sandbox_id: str) -> bool:
    try:
        return runtime.pod_sandbox_status(sandbox_id).running
    except RuntimeFailure:
        return False


def take_up(record: ContainerRecord, status: ContainerStatus) -> bool:
    """The record of the container tells what runs. True if that has ended and the API has not heard of it."""
    if record.id == status.id:
        record.started_at = status.started_at or record.started_at
    elif _is_known_to_have_ended(record, status):
        record.id = status.id
        return False
    else:  # the kubelet did not get to report the attempt
        record.run(status.id, status.started_at or status.created_at)
        record.restart_count = status.attempt
    record.user = status.user
    return status.state is ContainerState.EXITED and record.state == "running"


def _is_known_to_have_ended(record: ContainerRecord, status: ContainerStatus) -> bool:
    return any(
        ended is not None and ended.container_id.endswith(status.id) for ended in (record.termination, record.last)
    )


def find_logs(records: Mapping[str, ContainerRecord], statuses: Iterable[ContainerStatus], folder: Path) -> None:
    """Of the present or last attempt of each container, and of the one before. `folder`: the pod's logs."""
    own = {status.name: status.log_path for status in statuses}
    for record in records.values():
        newest = own.get(record.name)
        numbers = _attempts(folder / record.name)
        if newest is None and numbers:
            newest = folder / record.name / f"{numbers[-1]}.log"
        record.log_path = newest
        before = [one for one in numbers if newest is not None and one < _number(newest)]
        record.previous_log_path = folder / record.name / f"{before[-1]}.log" if before else None


def _attempts(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(_number(one) for one in folder.iterdir() if one.suffix == ".log" and one.stem.isdecimal())


def _number(log: Path) -> int:
    return int(log.stem)
