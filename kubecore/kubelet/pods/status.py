"""Builds a pod's status in Kubernetes' words from what the worker knows. Pure.

After upstream `pkg/kubelet/kubelet_pods.go` and `pkg/kubelet/status/generate.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.pods.lifecycle import is_initialized, phase
from kubecore.kubelet.pods.qos import qos_class
from kubecore.kubelet.pods.records import ContainerRecord, Termination

Object = dict[str, Any]

READY_TO_START = "PodReadyToStartContainers"
RESIZE_PENDING, RESIZE_IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
FINAL = ("Succeeded", "Failed")
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
# What all containers of a pod may say at their ends, together.
_MESSAGES_BYTES = 12 * 1024
PASSING = (RESIZE_PENDING, RESIZE_IN_PROGRESS)
"""Conditions that are there only while they hold."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is so beside the containers. Addresses: one of each family, the first one the pod's own. `failure`: (reason,
    message) of a pod the kubelet itself ended."""

    host_ips: tuple[str, ...]
    pod_ips: tuple[str, ...]
    start_time: datetime
    runtime: str
    sandbox_ready: bool
    failure: tuple[str, str] | None = None
    ended: bool = False
    """Every container has been stopped for good, whatever the restart policy: the pod is about to be removed."""
    disruption: str = ""
    """Why the kubelet ended it through no fault of its own; told once it is over."""
    resize_pending: tuple[str, str] | None = None
    resizing: tuple[str, str] | None = None
    """(reason, message) of a resize that the node has granted and that goes on; both empty while nothing is wrong."""
    doubted: frozenset[str] = frozenset()
    """Names of containers that run again and may end as soon as they did before: what was told of that end still is."""


def build_status(pod: Object, records: Mapping[str, ContainerRecord], facts: PodFacts, now: datetime) -> Object:
    """The whole status the kubelet vouches for; conditions it does not own are left out."""
    current_phase = "Failed" if facts.failure else phase(pod, records, ended=facts.ended)
    known = pod.get("status") or {}
    # It is not over while a sidecar, say, is still being stopped (upstream mergePodStatus in
    # `pkg/kubelet/status/status_manager.go`); conditions tell already that it will be.
    held = current_phase in FINAL and any(record.state == "running" for record in records.values())
    facts = replace(facts, disruption="") if held else facts
    status: Object = {
        "phase": known.get("phase") or "Pending" if held else current_phase,
        "conditions": _conditions(pod, records, facts, current_phase, now),
        "hostIP": facts.host_ips[0],
        "hostIPs": [{"ip": address} for address in facts.host_ips],
        "startTime": meta.format_time(facts.start_time),
        "qosClass": known.get("qosClass") or qos_class(pod),
    }
    if facts.failure and status["phase"] in FINAL:
        status["reason"], status["message"] = facts.failure
    if facts.pod_ips:
        status["podIP"] = facts.pod_ips[0]
        status["podIPs"] = [{"ip": address} for address in facts.pod_ips]
    generation = meta.generation(pod)
    if generation:
        status["observedGeneration"] = generation
    init = [_container_status(one, facts) for one in records.values() if one.kind in ("init", "sidecar")]
    if init:
        status["initContainerStatuses"] = init
    # Those that are declared in no order of their own are told by name.
    named = sorted(records.values(), key=lambda one: one.name)
    ephemeral = [_container_status(one, facts) for one in named if one.kind == "ephemeral"]
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    status["containerStatuses"] = [_container_status(one, facts) for one in named if one.kind == "main"]
    _shorten_messages([one for kind in _STATUSES for one in status.get(kind) or []])
    for kind in _STATUSES[:2] if facts.doubted else ():
        former = {one["name"]: one for one in known.get(kind) or [] if "running" not in (one.get("state") or {})}
        status[kind] = [
            former.get(one["name"], one) if one["name"] in facts.doubted else one for one in status.get(kind) or []
        ]
    return status


# ---- containers


def _container_status(record: ContainerRecord, facts: PodFacts) -> Object:
    status: Object = {
        "name": record.name,
        "ready": record.ready,
        "restartCount": record.restart_count,
        "image": record.image or record.spec.get("image", ""),
        "imageID": record.image_id,
        "state": _state(record, facts),
        "lastState": {"terminated": _terminated(record.last, facts)} if record.last else {},
        "started": record.started,
    }
    if mounts := record.spec.get("volumeMounts"):
        status["volumeMounts"] = [_volume_mount(one) for one in mounts]
    if record.id:
        status["containerID"] = f"{facts.runtime}://{record.id}"
    if record.id and (user := record.user) is not None:
        groups = {"supplementalGroups": list(user.groups)} if user.groups else {}
        status["user"] = {"linux": {"uid": user.uid, "gid": user.gid, **groups}}
    if record.granted or record.id:
        # Of one that was made even where nothing is limited: by it the API server knows a node that can resize pods.
        status["resources"] = record.in_force if record.state == "running" else record.granted
        if record.id and record.granted.get("requests"):
            # What the node has agreed to; what is asked for later is not carried out before.
            status["allocatedResources"] = record.granted["requests"]
    return status


def _shorten_messages(statuses: Sequence[Object]) -> None:
    for one in statuses:
        for ended in (one["state"].get("terminated"), one["lastState"].get("terminated")):
            if ended and (text := ended.get("message", "").encode())[_MESSAGES_BYTES // len(statuses) :]:
                ended["message"] = text[: _MESSAGES_BYTES // len(statuses)].decode("utf-8", "ignore")


def _volume_mount(mount: Object) -> Object:
    """As the container has it."""
    told: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        below = mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
        told |= {"readOnly": True, "recursiveReadOnly": "Enabled" if below else "Disabled"}
    return told


def _state(record: ContainerRecord, facts: PodFacts) -> Object:
    if record.state == "running" and record.started_at is not None:
        return {"running": {"startedAt": meta.format_time(record.started_at)}}
    if record.state == "terminated" and record.termination is not None:
        return {"terminated": _terminated(record.termination, facts)}
    waiting: Object = {"reason": record.waiting_reason}
    if record.waiting_message:
        waiting["message"] = record.waiting_message
    return {"waiting": waiting}


def _terminated(ended: Termination, facts: PodFacts) -> Object:
    state: Object = {"exitCode": ended.exit_code, "reason": ended.reason}
    if ended.signal:
        state["signal"] = ended.signal
    if ended.message:
        state["message"] = ended.message
    for key, when in (("startedAt", ended.started_at), ("finishedAt", ended.finished_at)):
        if when is not None:
            state[key] = meta.format_time(when)
    if ended.container_id:
        known = "://" in ended.container_id
        state["containerID"] = ended.container_id if known else f"{facts.runtime}://{ended.container_id}"
    return state


# ---- conditions


def refused_status(pod: Object, reason: str, message: str) -> Object:
    """Of a pod that the node never took."""
    told = f"Pod was rejected: {message}"
    return {"phase": "Failed", "reason": reason, "message": told, "qosClass": qos_class(pod)}


def _conditions(
    pod: Object, records: Mapping[str, ContainerRecord], facts: PodFacts, current_phase: str, now: datetime
) -> list[Object]:
    main_ready = _readiness(pod, records, current_phase)
    wanted = [
        (READY_TO_START, (facts.sandbox_ready, "", "")),
        ("Initialized", _initialized(records, current_phase)),
        ("Ready", _with_gates(pod, main_ready)),
        ("ContainersReady", main_ready),
        ("PodScheduled", (True, "", "")),
    ]
    if facts.disruption:
        wanted.append(("DisruptionTarget", (True, "TerminationByKubelet", facts.disruption)))
    if facts.resize_pending is not None:
        wanted.append((RESIZE_PENDING, (True, *facts.resize_pending)))
    if facts.resizing is not None:
        wanted.append((RESIZE_IN_PROGRESS, (True, *facts.resizing)))
    held = {one.get("type"): one for one in (pod.get("status") or {}).get("conditions") or []}
    told, generation = meta.format_time(now), meta.generation(pod)
    return [_condition(held.get(kind) or {}, kind, value, told, generation) for kind, value in wanted]


def _condition(old: Object, kind: str, verdict: Verdict, now: str, generation: int) -> Object:
    """With the old transition time where the status is the old one; absent texts are null, to remove old ones."""
    holds, reason, message = verdict
    state = "True" if holds else "False"
    condition: Object = {
        "type": kind,
        "status": state,
        "lastProbeTime": None,
        "lastTransitionTime": meta.transition_time(old, state, now),
        "reason": reason or None,
        "message": message or None,
    }
    if generation:
        condition["observedGeneration"] = generation
    return condition


Verdict = tuple[bool, str, str]
"""Holds, reason, message."""


def _initialized(records: Mapping[str, ContainerRecord], current_phase: str) -> Verdict:
    mains_ran = any(record.kind == "main" and record.attempted for record in records.values())
    if current_phase == "Succeeded":
        return True, "PodCompleted", ""
    if is_initialized(records) or mains_ran:
        return True, "", ""
    incomplete = [
        record.name
        for record in records.values()
        if (record.kind == "init" and not record.ready) or (record.kind == "sidecar" and not record.started)
    ]
    message = f"containers with incomplete status: {_go_list(incomplete)}"
    return False, "ContainersNotInitialized", message


def _readiness(pod: Object, records: Mapping[str, ContainerRecord], current_phase: str) -> Verdict:
    if current_phase == "Succeeded":
        return False, "PodCompleted", ""
    if current_phase == "Failed":
        return False, "PodFailed", ""
    unready = [record.name for record in records.values() if record.kind in ("sidecar", "main") and not record.ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: {_go_list(unready)}"
    return True, "", ""


def _with_gates(pod: Object, containers: Verdict) -> Verdict:
    if not containers[0]:
        return containers
    problems = []
    for gate in pod["spec"].get("readinessGates") or []:
        kind = gate["conditionType"]
        held = meta.condition(pod, kind)
        if held is None:
            problems.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif held.get("status") != "True":
            problems.append(f'the status of pod readiness gate "{kind}" is not "True", but {held.get("status")}')
    if problems:
        return False, "ReadinessGatesNotReady", ", ".join(problems)
    return True, "", ""


def _go_list(names: Sequence[str]) -> str:
    """As Go prints a slice of strings."""
    return f"[{' '.join(names)}]"
