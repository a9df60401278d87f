"""Resizes pods in place: brings what their containers have to what they are to have since they were started.

After upstream `pkg/kubelet/allocation/allocation_manager.go` (KEP-1287).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from kubecore.api import meta
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.cgroups.interface import CgroupError
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods.back_off import BackOff
from kubecore.kubelet.pods.operations import ContainerOperations
from kubecore.kubelet.pods.records import ContainerRecord
from kubecore.kubelet.pods.status import RESIZE_IN_PROGRESS, RESIZE_PENDING
from kubecore.kubelet.runtime.interface import RuntimeFailure

Object = dict[str, Any]

_RESIZED = ("main", "sidecar")
_KINDS = ("requests", "limits")


class Resizer:
    """Of one pod. `pending`: (reason, message) of a resize that the node cannot grant; `error`: why one that it has
    granted could not be carried out. Both as a former kubelet has told them, to begin with."""

    def __init__(self, pod: Object, services: NodeServices, operations: ContainerOperations) -> None:
        self._services = services
        self._operations = operations
        held = meta.condition(pod, RESIZE_PENDING)
        self.pending: tuple[str, str] | None = (held.get("reason", ""), held.get("message", "")) if held else None
        self.error = (meta.condition(pod, RESIZE_IN_PROGRESS) or {}).get("message", "")

    @property
    def stage(self) -> tuple[bool, str]:
        """Whether one is going on, and how one that waits does: deferred or infeasible."""
        return bool(self.error), self.pending[0].lower() if self.pending else ""

    @property
    def unfinished(self) -> bool:
        """Worth another try later on."""
        return bool(self.error) or (self.pending is not None and self.pending[0] == "Deferred")

    async def resize(self, pod: Object, records: Mapping[str, ContainerRecord]) -> None:
        """What differs gets its resources if there is room. StatusError, OSError."""
        # After a failure nobody knows what is in force, of a resize that has been taken back as well.
        failed = bool(self.error)
        changed = [one for one in records.values() if one.kind in _RESIZED and (failed or _differs(pod, one))]
        if not changed:
            self.pending, self.error = None, ""
            return
        pending = await self._services.admission.resize_refusal(pod)
        if pending is not None:
            if pending != self.pending:
                self._event(pod, f"Resize{pending[0]}", f"Pod resize {pending[0]}", pending[1], "Warning")
            self.pending = pending
            return
        self.pending = None
        if not self.error:
            self._event(pod, "ResizeStarted", "Pod resize started")
        before, self.error = self.error, ""
        # The pod's own limits are raised first and lowered last: no container of it may have more than they allow.
        self._limit_pod(pod, self._services.cgroups.widen)
        for record in changed:
            if not self.error:
                await self._carry_out(pod, record)
        if not self.error:
            self._limit_pod(pod, self._services.cgroups.limit)
        if not self.error:
            self._event(pod, "ResizeCompleted", "Pod resize completed")
        elif self.error != before:
            self._event(pod, "ResizeError", "Pod resize error", self.error, "Warning")

    async def _carry_out(self, pod: Object, record: ContainerRecord) -> None:
        wanted = _spec(pod, record)
        old, new = record.spec.get("resources") or {}, wanted.get("resources") or {}
        place = self._operations.place
        if record.state == "running" and place is not None:
            try:
                await place.runtime.update_container_limits(record.id, limits.of_container(wanted))
            except RuntimeFailure as failure:
                self.error = failure.message
                return
        record.spec = {**record.spec, "resources": new}
        if record.state == "running" and _needs_restart(wanted, old, new):
            record.back_off = BackOff(record.back_off.longest)
            await self._operations.stop_unless_leaving(record, f"Container {record.name} resize requires restart")

    def _limit_pod(self, pod: Object, change: Callable[[Object], None]) -> None:
        try:
            change(pod)
        except CgroupError as failure:
            self.error = str(failure)

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
    if record is None or record.kind not in _RESIZED:
        return container
    return {**container, "resources": record.spec.get("resources") or {}}


def _spec(pod: Object, record: ContainerRecord) -> Object:
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return next((one for one in containers if one["name"] == record.name), record.spec)


def _differs(pod: Object, record: ContainerRecord) -> bool:
    return (_spec(pod, record).get("resources") or {}) != (record.spec.get("resources") or {})


def _needs_restart(container: Object, old: Object, new: Object) -> bool:
    for rule in container.get("resizePolicy") or []:
        name = rule["resourceName"]
        changed = any((old.get(kind) or {}).get(name) != (new.get(kind) or {}).get(name) for kind in _KINDS)
        if changed and rule.get("restartPolicy") == "RestartContainer":
            return True
    return False
