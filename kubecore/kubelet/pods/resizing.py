"""Resizes pods in place: brings what their containers have to what they are to have since they were started.

After upstream `pkg/kubelet/allocation/allocation_manager.go` (KEP-1287).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from kubecore.api import meta
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.cgroups.interface import CgroupError, Limits
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods import allocations, memory_decrease
from kubecore.kubelet.pods.back_off import BackOff
from kubecore.kubelet.pods.operations import ContainerOperations
from kubecore.kubelet.pods.records import RESIZED, ContainerRecord
from kubecore.kubelet.pods.status import RESIZE_IN_PROGRESS, RESIZE_PENDING
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.serving import usage

Object = dict[str, Any]

_KINDS = ("requests", "limits")
_Told = tuple[str, str] | None


class Resizer:
    """Of one pod. `pending`: (reason, message) of a resize that the node cannot grant; `progress`: of one that it has
    granted and not carried out yet. Both as a former kubelet has told them, to begin with."""

    def __init__(self, pod: Object, services: NodeServices, operations: ContainerOperations) -> None:
        self._services = services
        self._operations = operations
        self.pending = _told(pod, RESIZE_PENDING)
        self.progress = _told(pod, RESIZE_IN_PROGRESS)
        self._unsure = self.progress is not None
        """Something has failed since all was in force, and nobody knows what is."""

    @property
    def stage(self) -> tuple[bool, str]:
        """Whether one is going on, and how one that waits does: deferred or infeasible."""
        return self.progress is not None, self.pending[0].lower() if self.pending else ""

    @property
    def unfinished(self) -> bool:
        """Worth another try later on."""
        return self.progress is not None or (self.pending is not None and self.pending[0] == "Deferred")

    async def resize(
        self, pod: Object, records: Mapping[str, ContainerRecord], publish: Callable[[], Awaitable[None]]
    ) -> None:
        """Grant what is asked for, if there is room, and carry out what is granted. StatusError, OSError."""
        resized = {name: one for name, one in records.items() if one.kind in RESIZED}
        if any(_differs(pod, one) for one in resized.values()):
            await self._ask(pod, resized)
        else:
            self.pending = None
        if self.progress is None and any(one.to_resize for one in resized.values()):
            self.progress = ("", "")
        if self.progress is None:
            return
        before, pod = self.progress, granted(pod, records)
        failure = await self._carry_out(pod, resized, publish)
        self.progress, self._unsure = ("Error", failure) if failure else None, bool(failure)
        if not failure:
            self._event(pod, "ResizeCompleted", "Pod resize completed")
        elif self.progress != before:
            self._event(pod, "ResizeError", "Pod resize error", failure, "Warning")

    async def _ask(self, pod: Object, records: Mapping[str, ContainerRecord]) -> None:
        pending = await self._services.admission.resize_refusal(pod)
        if pending is not None:
            if pending != self.pending:
                self._event(pod, f"Resize{pending[0]}", f"Pod resize {pending[0]}", pending[1], "Warning")
            self.pending = pending
            return
        for record in records.values():
            record.spec = {**record.spec, "resources": _asked(pod, record)}
        directory = self._services.pod_directory(meta.uid(pod))
        allocations.keep(directory, {name: one.granted for name, one in records.items()})
        self.pending, self.progress = None, ("", "")
        self._event(pod, "ResizeStarted", "Pod resize started")

    async def _carry_out(
        self, pod: Object, records: Mapping[str, ContainerRecord], publish: Callable[[], Awaitable[None]]
    ) -> str:
        """Why it could not be done, "" if it was."""
        if why_not := await self._refusal(pod, records):
            return why_not
        try:
            # The pod's own limits are raised first and lowered last: no container of it may have more than they allow.
            self._services.cgroups.widen(pod)
            await self._limit_sandbox(Limits())
            for record in records.values():
                if record.to_resize or (self._unsure and record.state == "running"):
                    await self._resize_one(record, publish)
            self._services.cgroups.limit(pod)
            await self._limit_sandbox(limits.of_pod(pod))
        except CgroupError as failure:
            return str(failure)
        except RuntimeFailure as failure:
            return failure.message
        return ""

    async def _refusal(self, pod: Object, records: Mapping[str, ContainerRecord]) -> str:
        changed = [one for one in records.values() if one.to_resize]
        restarted = {one.name for one in changed if _needs_restart(one.spec, one.in_force, one.granted)}
        running = usage.running_pod(pod, records.values(), self._operations.place)
        return await memory_decrease.refusal(pod, records, restarted, running, self._services.memory_use)

    async def _limit_sandbox(self, wanted: Limits) -> None:
        if (place := self._operations.place) is not None:
            await place.runtime.update_pod_sandbox_limits(place.sandbox_id, wanted)

    async def _resize_one(self, record: ContainerRecord, publish: Callable[[], Awaitable[None]]) -> None:
        place = self._operations.place
        if place is None:
            return
        if record.to_resize and _needs_restart(record.spec, record.in_force, record.granted):
            await publish()  # it may take a while to end
            record.back_off = BackOff(record.back_off.longest)
            await self._operations.stop_unless_leaving(record, f"Container {record.name} resize requires restart")
            return
        await place.runtime.update_container_limits(
            record.id, limits.of_container(record.spec, self._operations.pod["spec"])
        )
        record.in_force = record.granted

    def _event(self, pod: Object, reason: str, words: str, error: str = "", kind: str = "Normal") -> None:
        summary: Object = {}
        for field in ("initContainers", "containers"):
            if found := pod["spec"].get(field):
                summary[field] = [{"name": one["name"], "resources": one.get("resources") or {}} for one in found]
        summary["generation"] = meta.generation(pod)
        if error:
            summary["error"] = error
        self._services.recorder.event(pod, kind, reason, f"{words}: {orjson.dumps(summary).decode()}")


def granted(pod: Object, records: Mapping[str, ContainerRecord]) -> Object:
    """The pod with the resources that its containers were granted, whatever it asks for now."""
    spec = dict(pod["spec"])
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [_granted(one, records.get(one["name"])) for one in spec[field]]
    return {**pod, "spec": spec}


def _granted(container: Object, record: ContainerRecord | None) -> Object:
    if record is None or record.kind not in RESIZED:
        return container
    return {**container, "resources": record.granted}


def _told(pod: Object, condition: str) -> _Told:
    held = meta.condition(pod, condition)
    return None if held is None else (held.get("reason") or "", held.get("message") or "")


def _asked(pod: Object, record: ContainerRecord) -> Object:
    """The resources that are wanted now."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return next((one for one in containers if one["name"] == record.name), record.spec).get("resources") or {}


def _differs(pod: Object, record: ContainerRecord) -> bool:
    return _asked(pod, record) != record.granted


def _needs_restart(container: Object, old: Object, new: Object) -> bool:
    for rule in container.get("resizePolicy") or []:
        name = rule["resourceName"]
        changed = any((old.get(kind) or {}).get(name) != (new.get(kind) or {}).get(name) for kind in _KINDS)
        if changed and rule.get("restartPolicy") == "RestartContainer":
            return True
    return False
