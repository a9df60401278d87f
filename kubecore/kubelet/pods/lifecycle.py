"""Decides what to do next for a pod, from what is known of its containers. Pure: no I/O, no clock.

After upstream `pkg/kubelet/kuberuntime/kuberuntime_manager.go` (computePodActions, computeInitContainerActions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import durations, meta
from kubecore.kubelet.pods.records import ContainerRecord

Object = dict[str, Any]
Records = Mapping[str, ContainerRecord]


@dataclass
class Actions:
    """`start`: containers to start now. `back_off`: containers that must wait, and how long still.
    `finished`: no container will run any more (the pod's phase is final; sidecars are to be stopped).
    """

    start: list[str] = field(default_factory=list)
    back_off: dict[str, timedelta] = field(default_factory=dict)
    finished: bool = False


def next_actions(pod: Object, records: Records, now: datetime) -> Actions:
    actions = Actions()
    if is_finished(pod, records):
        actions.finished = True
        return actions
    # Once, whatever the others do.
    waiting = [one for one in records.values() if one.kind == "ephemeral" and not one.attempted]
    actions.start += [record.name for record in waiting]
    mains = [record for record in records.values() if record.kind == "main"]
    begun = any(record.attempted and record.in_sandbox for record in mains if record.state != "waiting")
    initialized = begun or is_initialized(records)
    for record in records.values():
        if record.kind == "sidecar":
            _start_unless_running(pod, record, now, actions)
            if not initialized and not record.started:
                return actions
        elif record.kind == "init" and not initialized and not _completed(record):
            _start_unless_running(pod, record, now, actions)
            return actions
    for record in mains:
        _start_unless_running(pod, record, now, actions)
    return actions


def _start_unless_running(pod: Object, record: ContainerRecord, now: datetime, actions: Actions) -> None:
    if record.state == "running":
        return
    ended = record.latest
    if record.kind == "init" and not record.in_sandbox:
        ended = None
    if ended is not None and not restarts(pod, record):
        return
    counted = record.counted_end
    if ended is not None and counted is not None and counted.finished_at is not None:
        remaining = record.back_off.remaining(counted.finished_at, now)
        if remaining > timedelta(0):
            if ended.finished_at is not None:
                remaining = record.back_off.remaining(ended.finished_at, now)
            actions.back_off[record.name] = remaining
            return
    actions.start.append(record.name)


def hold_back(pod: Object, record: ContainerRecord) -> str:
    """Let a container wait that must not be restarted yet. What its event says, empty when it waits already."""
    if record.waiting_reason == "CrashLoopBackOff":
        return ""
    named = f"{meta.name(pod)}_{meta.namespace(pod)}({meta.uid(pod)})"
    delay = durations.text(record.back_off.delay.total_seconds())
    record.wait("CrashLoopBackOff", f"back-off {delay} restarting failed container={record.name} pod={named}")
    return f"Back-off restarting failed container {record.name} in pod {named}"


def restarts(pod: Object, record: ContainerRecord) -> bool:
    """Whether a container that ended is to be started again."""
    ended = record.latest
    if ended is None or record.changed:
        return True
    for rule in record.spec.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        inside = ended.exit_code in codes.get("values", [])
        if rule.get("action") == "Restart" and inside == (codes.get("operator") == "In"):
            return True
    policy = record.spec.get("restartPolicy") or pod["spec"].get("restartPolicy", "Always")
    if (ended.interrupted or ended.reason == "ContainerStatusUnknown") and policy != "Never":
        return True
    if policy == "Always" and record.kind != "init":
        return True
    return policy != "Never" and ended.failed


def restarts_after_a_probe(pod: Object, record: ContainerRecord) -> bool:
    """Whether a container that is ended since a probe failed is to be started again: however it ends."""
    policy: str = record.spec.get("restartPolicy") or pod["spec"].get("restartPolicy", "Always")
    return policy != "Never"


def _completed(record: ContainerRecord) -> bool:
    return record.termination is not None and not record.termination.failed


def is_initialized(records: Records) -> bool:
    """Every init container has completed and every sidecar has started."""
    return all(
        _completed(record) if record.kind == "init" else record.started
        for record in records.values()
        if record.kind in ("init", "sidecar")
    )


def is_finished(pod: Object, records: Records) -> bool:
    """Nothing is left to do: an init container failed for good, or every main one ended and stays so."""
    for record in records.values():
        if record.kind == "init" and record.state == "terminated" and not _completed(record):
            return not restarts(pod, record)
    mains = [record for record in records.values() if record.kind == "main"]
    return all(record.state != "running" and not restarts(pod, record) for record in mains)


def phase(pod: Object, records: Records, *, ended: bool = False) -> str:
    """Pending, Running, Succeeded or Failed (upstream `getPhase` in `pkg/kubelet/kubelet_pods.go`).

    `ended`: nothing will be started any more, whatever the policy, and what was not has failed (upstream
    `TerminatePod`): who waits for the pod's end, as a Job does, would wait for ever.
    """
    found = _phase(pod, records, ended=ended)
    return "Failed" if ended and found == "Pending" else found


def _phase(pod: Object, records: Records, *, ended: bool) -> str:
    failed_init = any(
        record.kind == "init" and record.state == "terminated" and not _completed(record) and not restarts(pod, record)
        for record in records.values()
    )
    if failed_init:
        return "Failed"
    mains = [record for record in records.values() if record.kind == "main"]
    if not any(record.attempted for record in mains) and not is_initialized(records):
        return "Pending"
    if any(record.state == "waiting" and record.last is None for record in mains):
        return "Pending"
    if any(record.state == "running" or (not ended and restarts(pod, record)) for record in mains):
        return "Running"
    return "Failed" if any(record.latest is not None and record.latest.failed for record in mains) else "Succeeded"
