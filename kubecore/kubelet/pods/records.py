"""What a pod worker knows of its containers: the state from which status is built and decisions are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from kubecore.api import meta
from kubecore.kubelet.pods.back_off import MAXIMUM, BackOff
from kubecore.kubelet.runtime.interface import ProcessUser

Object = dict[str, Any]
Kind = Literal["init", "sidecar", "main", "ephemeral"]
State = Literal["waiting", "running", "terminated"]

CREATING = "ContainerCreating"
INITIALIZING = "PodInitializing"
RESIZED: tuple[Kind, ...] = ("main", "sidecar")
"""Whose resources may be changed while they run."""
_SOON_SECONDS = 10.0
_FIELDS: dict[Kind, str] = {
    "init": "initContainers",
    "sidecar": "initContainers",
    "main": "containers",
    "ephemeral": "ephemeralContainers",
}


@dataclass(frozen=True, slots=True)
class Termination:
    """How one attempt ended."""

    exit_code: int
    reason: str
    container_id: str
    signal: int = 0
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    interrupted: bool = False
    """The kubelet ended it since it was to end itself: whatever the exit code says, it was not done."""

    @property
    def failed(self) -> bool:
        return self.exit_code != 0 or self.interrupted


@dataclass
class ContainerRecord:
    """One container of the pod, over all its attempts.

    `id`: the runtime's, of the present or last attempt. `termination`: of the present attempt once it ended; `last`: of
    the one before. `started`: it runs and its startup probe, if any, succeeded. `ready`: what its readiness says now.
    `spec`: as the API has it, but its resources are those that the node has granted.
    """

    name: str
    kind: Kind
    spec: Object
    in_force: Object = field(default_factory=dict)
    """The resources that its present or last attempt has: others than those granted while a resize goes on."""
    restart_count: int = 0
    id: str = ""
    image_id: str = ""
    image: str = ""
    """What was asked for when its present or last attempt was made."""
    user: ProcessUser | None = None
    """Who its present or last attempt ran as, where the runtime tells."""
    state: State = "waiting"
    waiting_reason: str = CREATING
    waiting_message: str = ""
    started_at: datetime | None = None
    termination: Termination | None = None
    last: Termination | None = None
    started: bool = False
    ready: bool = False
    in_sandbox: bool = True
    """Its present or last attempt was made in the pod's present sandbox."""
    changed: bool = False
    """It runs what is not wanted any more: it is started anew once it has ended, whatever its policy."""
    ordered: bool = False
    """Its present or last attempt was made for such a change: the one before was ended, and did not end by itself."""
    back_off: BackOff = field(default_factory=BackOff)
    log_path: Path | None = None
    previous_log_path: Path | None = None

    @property
    def attempted(self) -> bool:
        """Some attempt has been made, so that the next one is a restart."""
        return bool(self.id) or self.termination is not None or self.last is not None

    @property
    def next_attempt(self) -> int:
        """What `restart_count` is once it has been started again."""
        return self.restart_count + 1 if self.attempted else 0

    @property
    def granted(self) -> Object:
        """Its resources."""
        return self.spec.get("resources") or {}

    @property
    def to_resize(self) -> bool:
        """It runs with others than it was granted; what does not run gets them when it is started."""
        return self.kind in RESIZED and self.state == "running" and self.in_force != self.granted

    @property
    def ended_soon(self) -> bool:
        """The latest attempt that has ended did so by itself, after a short life."""
        last = None if self.changed or self.ordered else self.latest
        if last is None or last.started_at is None or last.finished_at is None or last.interrupted:
            return False
        return (last.finished_at - last.started_at).total_seconds() < _SOON_SECONDS

    @property
    def field_path(self) -> str:
        """By which events name it."""
        return f"spec.{_FIELDS[self.kind]}{{{self.name}}}"

    @property
    def latest(self) -> Termination | None:
        """How it ended last."""
        return self.termination or self.last

    @property
    def counted_end(self) -> Termination | None:
        """Where the wait for its next attempt begins. One that was ended to be started anew is started at once, unless
        the one before ended too short ago. (Upstream kills and starts it in one sync, by what it knew before that.)"""
        return self.last if self.changed and self.state == "terminated" else self.latest

    def wait(self, reason: str, message: str = "") -> None:
        """It does not run, and why; what ended before becomes the last state."""
        if self.termination is not None:
            self.last, self.termination = self.termination, None
        self.state = "waiting"
        self.waiting_reason, self.waiting_message = reason, message
        self.started = self.ready = False

    def run(self, container_id: str, now: datetime) -> None:
        if self.termination is not None:
            self.last, self.termination = self.termination, None
        self.id = container_id
        self.image = self.spec.get("image", "")
        self.in_force = self.granted
        self.changed, self.ordered = False, self.changed
        self.in_sandbox = True
        self.state = "running"
        self.waiting_reason = self.waiting_message = ""
        self.started_at = now
        self.started = "startupProbe" not in self.spec
        self.ready = False

    def leave_sandbox(self) -> None:
        """The pod gets another one, in which init containers run again: what they did for the old one is gone."""
        if self.attempted:
            self.in_sandbox = False
            if self.kind == "init":
                self.wait(INITIALIZING)

    def end(self, termination: Termination) -> None:
        self.termination = termination
        self.state = "terminated"
        self.waiting_reason = self.waiting_message = ""
        self.started = False
        self.ready = self.kind == "init" and not termination.failed


def nothing_alive(container_id: str) -> bool:
    """No container has outlived its kubelet."""
    return False


def records_of(
    pod: Object,
    *,
    alive: Callable[[str], bool] = nothing_alive,
    interrupted: Mapping[str, Termination] = MappingProxyType({}),
    granted: Mapping[str, Object] = MappingProxyType({}),
    longest_back_off: timedelta = MAXIMUM,
) -> dict[str, ContainerRecord]:
    """Fresh records in order: init containers and sidecars as declared, then the main ones, then ephemeral ones.

    What an earlier kubelet reported is carried over: its containers are gone with it, so the next start is a restart,
    unless they are `alive` still (asked for the container's id). `interrupted`: how those ended that it stopped when it
    ended itself, by id. `granted`: resources of containers that have been resized, by name.
    """
    spec = pod["spec"]
    records: dict[str, ContainerRecord] = {}
    waiting = INITIALIZING if spec.get("initContainers") else CREATING
    for container in spec.get("initContainers") or []:
        kind: Kind = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        records[container["name"]] = ContainerRecord(container["name"], kind, container, waiting_reason=waiting)
    for container in spec["containers"]:
        records[container["name"]] = ContainerRecord(container["name"], "main", container, waiting_reason=waiting)
    add_ephemeral(pod, records)
    for one in records.values():
        one.back_off.longest = longest_back_off
    status = pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    for reported in [one for kind in kinds for one in status.get(kind) or []]:
        record = records.get(reported.get("name", ""))
        if record is not None:
            if reported.get("containerID") and "resources" in reported:  # another kubelet does not grant it anew
                record.spec = {**record.spec, "resources": granted.get(record.name, reported["resources"])}
            _carry_over(record, reported, alive=alive, interrupted=interrupted)
    return records


def add_ephemeral(pod: Object, records: dict[str, ContainerRecord]) -> None:
    """Records of ephemeral containers that there were none of: they come while the pod runs, and never go."""
    for container in pod["spec"].get("ephemeralContainers") or []:
        name = container["name"]
        records.setdefault(name, ContainerRecord(name, "ephemeral", container))


def _carry_over(
    record: ContainerRecord,
    reported: Object,
    *,
    alive: Callable[[str], bool],
    interrupted: Mapping[str, Termination],
) -> None:
    state, last = reported.get("state") or {}, reported.get("lastState") or {}
    record.restart_count = reported.get("restartCount", 0)
    record.image_id = reported.get("imageID", "")
    if user := (reported.get("user") or {}).get("linux"):
        record.user = ProcessUser(user["uid"], user["gid"], tuple(user.get("supplementalGroups") or ()))
    started_at = _time((state.get("running") or {}).get("startedAt"))
    container_id = reported.get("containerID", "").rpartition("://")[2]
    if started_at is not None and alive(container_id):
        if reported.get("image"):  # it may have been changed since
            record.spec = {**record.spec, "image": reported["image"]}
        record.run(container_id, started_at)
        record.in_force = reported.get("resources") or {}
        record.started, record.ready = bool(reported.get("started")), bool(reported.get("ready"))
    elif "running" in state and container_id in interrupted:
        record.end(interrupted[container_id])
    elif "running" in state:
        record.last = Termination(
            exit_code=137,
            reason="ContainerStatusUnknown",
            container_id=reported.get("containerID", ""),
            message="The container could not be located when the kubelet started",
            started_at=started_at,
        )
    elif "terminated" in state:
        record.end(_termination(state["terminated"]))
    if "terminated" in last and record.last is None:
        told = _termination(last["terminated"])
        record.last = interrupted.get(told.container_id.rpartition("://")[2], told)


def _termination(state: Object) -> Termination:
    return Termination(
        exit_code=state.get("exitCode", 0),
        reason=state.get("reason", ""),
        container_id=state.get("containerID", ""),
        signal=state.get("signal", 0),
        message=state.get("message", ""),
        started_at=_time(state.get("startedAt")),
        finished_at=_time(state.get("finishedAt")),
    )


def _time(text: str | None) -> datetime | None:
    return meta.parse_time(text) if text else None
