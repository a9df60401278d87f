"""What a Deployment's status says, in Kubernetes' words: pure functions.

(kubernetes `pkg/controller/deployment/sync.go` and `progress.go`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import conditions
from kubecore.controllers.conditions import Condition
from kubecore.controllers.workloads.deployment_replicas import limits, replicas, status_count, total, total_of

Status = dict[str, Any]

# The API's default for progressDeadlineSeconds means "no deadline" where it is this value.
_NO_DEADLINE = 2**31 - 1


def progress_deadline(deployment: Object) -> int | None:
    """Seconds without progress after which a roll-out has failed; None for no deadline."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds == _NO_DEADLINE else int(seconds)


def set_condition(status: Status, type: str, value: str, reason: str, message: str, now: str) -> None:
    """Put a condition in place; one with the same status and reason stays as it is, message and times too."""
    found: list[Condition] = status.get("conditions") or []
    current = next((one for one in found if one["type"] == type), None)
    if current is not None and (current["status"], current.get("reason")) == (value, reason):
        return
    since = meta.transition_time(current, value, now)
    new = {
        "type": type,
        "status": value,
        "lastUpdateTime": now,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    status["conditions"] = [one for one in found if one["type"] != type] + [new]


def drop_condition(status: Status, type: str) -> None:
    status["conditions"] = [one for one in status.get("conditions") or () if one["type"] != type]


def base_status(deployment: Object, sets: Sequence[Object], new: Object | None, now: str) -> Status:
    """Counts, and whether the deployment is available."""
    available = total_of(sets, "availableReplicas")
    counts = {
        "replicas": total_of(sets, "replicas"),
        "updatedReplicas": status_count(new, "replicas") if new is not None else 0,
        "readyReplicas": total_of(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total(sets) - available),
    }
    old: Status = deployment.get("status") or {}
    status: Status = {"observedGeneration": meta.generation(deployment)}
    status |= {name: count for name, count in counts.items() if count}
    status["terminatingReplicas"] = total_of(sets, "terminatingReplicas")
    if "collisionCount" in old:
        status["collisionCount"] = old["collisionCount"]
    if old.get("conditions"):
        status["conditions"] = list(old["conditions"])
    if available >= replicas(deployment) - limits(deployment).unavailable:
        message = "Deployment has minimum availability."
        set_condition(status, "Available", "True", "MinimumReplicasAvailable", message, now)
    else:
        message = "Deployment does not have minimum availability."
        set_condition(status, "Available", "False", "MinimumReplicasUnavailable", message, now)
    return status


def rollout_status(deployment: Object, sets: Sequence[Object], new: Object | None, now: datetime) -> Status:
    """The status during and after a roll-out, with its progress."""
    written = meta.format_time(now)
    status = base_status(deployment, sets, new, written)
    current = conditions.find(deployment, "Progressing")
    if progress_deadline(deployment) is None:
        drop_condition(status, "Progressing")
    elif not _was_complete(status, current):
        _set_progress(deployment, status, new, current, now)
    failures = [one for one in (_failure(rs) for rs in ([new] if new is not None else [])) if one is not None]
    failures = failures or [one for one in (_failure(rs) for rs in sets) if one is not None]
    if failures:
        failure = failures[0]
        reason, message = failure.get("reason", ""), failure.get("message", "")
        set_condition(status, "ReplicaFailure", failure["status"], reason, message, failure["lastTransitionTime"])
    else:
        drop_condition(status, "ReplicaFailure")
    return status


def _was_complete(status: Status, progressing: Condition | None) -> bool:
    """A roll-out that ended well stays so while pods come and go; only a new template begins another."""
    same = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return same and progressing is not None and progressing.get("reason") == "NewReplicaSetAvailable"


def _set_progress(
    deployment: Object, status: Status, new: Object | None, current: Condition | None, now: datetime
) -> None:
    subject = f'ReplicaSet "{meta.name(new)}"' if new is not None else f'Deployment "{meta.name(deployment)}"'
    written = meta.format_time(now)
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        set_condition(status, "Progressing", "True", "NewReplicaSetAvailable", message, written)
    elif is_progressing(deployment, status):
        since = written
        if current is not None and current["status"] == "True":
            since = current["lastTransitionTime"]
        drop_condition(status, "Progressing")
        set_condition(status, "Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", written)
        status["conditions"][-1]["lastTransitionTime"] = since
    elif is_timed_out(deployment, current, now):
        message = f"{subject} has timed out progressing."
        set_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", message, written)


def _failure(replica_set: Object) -> Condition | None:
    return conditions.find(replica_set, "ReplicaFailure")


def is_complete(deployment: Object, status: Status) -> bool:
    wanted = replicas(deployment)
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    observed: int = status.get("observedGeneration") or 0
    return all((status.get(name) or 0) == wanted for name in counts) and observed >= meta.generation(deployment)


def is_progressing(deployment: Object, status: Status) -> bool:
    """More new, ready or available pods than were reported, or fewer old ones."""

    def old(name: str) -> int:
        return status_count(deployment, name)

    def now(name: str) -> int:
        return int(status.get(name) or 0)

    return (
        now("updatedReplicas") > old("updatedReplicas")
        or now("replicas") - now("updatedReplicas") < old("replicas") - old("updatedReplicas")
        or now("readyReplicas") > old("readyReplicas")
        or now("availableReplicas") > old("availableReplicas")
    )


def is_timed_out(deployment: Object, progressing: Condition | None, now: datetime) -> bool:
    deadline = progress_deadline(deployment)
    if deadline is None or progressing is None or progressing.get("reason") == "NewReplicaSetAvailable":
        return False
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return True
    return meta.parse_time(progressing["lastUpdateTime"]) + timedelta(seconds=deadline) < now


def stuck_in(deployment: Object, status: Status, now: datetime) -> float | None:
    """Seconds until a roll-out without progress is to be called failed, which no event will tell."""
    deadline = progress_deadline(deployment)
    progressing = conditions.find(deployment, "Progressing")
    if deadline is None or progressing is None or deployment["spec"].get("paused"):
        return None
    if is_complete(deployment, status) or progressing.get("reason") in (
        "ProgressDeadlineExceeded",
        "NewReplicaSetAvailable",
    ):
        return None
    passed = (now - meta.parse_time(progressing["lastUpdateTime"])).total_seconds()
    return max(1.0, deadline - passed + 1.0)
