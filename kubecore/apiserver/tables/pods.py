"""The pod table: one word for what a pod is doing, worked out from phase, conditions and container states.

Source of the rules: kubernetes `pkg/printers/internalversion/printers.go`, printPod; KEP-753 for sidecars.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kubecore.apiserver.tables.ages import age, human_duration, parse_time
from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    Column,
    Field,
    KindTable,
    Object,
    condition,
    condition_is_true,
    labels_at,
    part,
    template_columns,
    wide,
)

NODE_LOST = "NodeLost"


@dataclass(slots=True)
class _Restarts:
    """Restarts of some containers, and when the last of them ended."""

    count: int = 0
    last: datetime | None = field(default=None)

    def add(self, status: Object) -> None:
        self.count += status.get("restartCount", 0)
        finished = parse_time(part(status, "lastState", "terminated", "finishedAt"))
        if finished is not None and (self.last is None or finished > self.last):
            self.last = finished

    def shown(self, now: datetime) -> str:
        if not self.count or self.last is None:
            return str(self.count)
        return f"{self.count} ({human_duration(now - self.last)} ago)"


@dataclass(slots=True)
class PodSummary:
    """What the table says of a pod's containers."""

    reason: str
    ready: int
    total: int
    restarts: _Restarts

    @property
    def readiness(self) -> str:
        return f"{self.ready}/{self.total}"


def summarize(pod: Object) -> PodSummary:
    """The pod's one-word status with its container counts."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    if (condition(pod, "PodScheduled") or {}).get("reason") == "SchedulingGated":
        reason = "SchedulingGated"

    sidecars = [one.get("name") for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    summary = PodSummary(reason, 0, len(spec.get("containers") or []) + len(sidecars), _Restarts())
    sidecar_restarts = _Restarts()
    init_reason = _init_reason(pod, sidecars, summary, sidecar_restarts)
    if init_reason is not None:
        summary.reason = init_reason
    if init_reason is None or condition_is_true(pod, "Initialized"):
        summary.restarts = sidecar_restarts
        _main_containers(pod, summary)

    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == NODE_LOST:
            summary.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    return summary


def _init_reason(
    pod: Object, sidecars: list[str | None], summary: PodSummary, sidecar_restarts: _Restarts
) -> str | None:
    """`Init:...` while an init container is not through, None once all are; counts restarts and ready sidecars."""
    statuses = part(pod, "status", "initContainerStatuses") or []
    for index, container in enumerate(statuses):
        is_sidecar = container.get("name") in sidecars
        summary.restarts.add(container)
        if is_sidecar:
            sidecar_restarts.add(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if is_sidecar and container.get("started"):
            summary.ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            return "Init:" + _termination(terminated)
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(part(pod, 'spec', 'initContainers') or [])}"
    return None


def _main_containers(pod: Object, summary: PodSummary) -> None:
    """Lets the containers' states speak, the first container having the last word."""
    has_running, failure = False, ""
    for container in reversed(part(pod, "status", "containerStatuses") or []):
        summary.restarts.add(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif terminated is not None:
            summary.reason = _termination(terminated)
            if terminated.get("exitCode"):
                failure = summary.reason
        elif container.get("ready") and state.get("running") is not None:
            has_running = True
            summary.ready += 1
    if summary.reason == "Completed":
        # One container ended well: what the others do says more of the pod.
        if has_running and condition_is_true(pod, "Ready"):
            summary.reason = "Running"
        elif failure or has_running:
            summary.reason = failure or "NotReady"


def _termination(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _readiness_gates(pod: Object) -> str:
    gates = part(pod, "spec", "readinessGates") or []
    if not gates:
        return "<none>"
    passed = sum(condition_is_true(pod, gate.get("conditionType", "")) for gate in gates)
    return f"{passed}/{len(gates)}"


def _pod_ip(pod: Object) -> str:
    status = pod.get("status", {})
    ips = status.get("podIPs") or [{}]
    return status.get("podIP") or ips[0].get("ip") or "<none>"


def _cells(pod: Object, now: datetime) -> list[Cell]:
    summary = summarize(pod)
    return [
        pod["metadata"].get("name", ""),
        summary.readiness,
        summary.reason,
        summary.restarts.shown(now),
        age(pod, now),
        _pod_ip(pod),
        part(pod, "spec", "nodeName") or "<none>",
        part(pod, "status", "nominatedNodeName") or "<none>",
        _readiness_gates(pod),
    ]


def _conditions(pod: Object) -> list[Object]:
    phase = part(pod, "status", "phase")
    if phase == "Succeeded":
        message = "The pod has completed successfully."
    elif phase == "Failed":
        message = "The pod failed."
    else:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


PODS = KindTable(
    columns=(
        NAME,
        Column(
            "Ready",
            lambda pod, _: summarize(pod).readiness,
            "The aggregate readiness state of this pod for accepting traffic.",
        ),
        Column("Status", lambda pod, _: summarize(pod).reason, "The aggregate status of the containers in this pod."),
        Column(
            "Restarts",
            lambda pod, now: summarize(pod).restarts.shown(now),
            (
                "The number of times the containers in this pod have been restarted and when the last container "
                "in this pod has restarted."
            ),
        ),
        AGE,
        wide("IP", lambda pod, _: _pod_ip(pod), Field("core.v1.PodStatus", "podIP")),
        wide("Node", lambda pod, _: part(pod, "spec", "nodeName") or "<none>", Field("core.v1.PodSpec", "nodeName")),
        wide(
            "Nominated Node",
            lambda pod, _: part(pod, "status", "nominatedNodeName") or "<none>",
            Field("core.v1.PodStatus", "nominatedNodeName"),
        ),
        wide("Readiness Gates", lambda pod, _: _readiness_gates(pod), Field("core.v1.PodSpec", "readinessGates")),
    ),
    cells=_cells,
    conditions=_conditions,
)

POD_TEMPLATES = KindTable(
    (
        NAME,
        *template_columns("template", priority=0),
        Column("Pod Labels", labels_at("template", "metadata", "labels"), "The labels for the pod template."),
    )
)
