"""When a Job may make pods again after some have failed: 10 s, doubled with each failure in a row, up to 10 minutes.

(kubernetes `pkg/controller/job/backoff_utils.go`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import conditions
from kubecore.controllers.jobs.indexes import all_failures_before

_FIRST_SECONDS = 10.0
_LONGEST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures since the last success, and when the last of them was."""

    failures: int = 0
    last_failure: datetime | None = None

    def after(self, succeeded: list[Object], failed: list[Object]) -> Backoff:
        """The record once these pods, counted for the first time, have been seen to end."""
        failure_times = sorted(finished_at(pod) for pod in failed)
        if succeeded:
            last_success = max(finished_at(pod) for pod in succeeded)
            failure_times = [when for when in failure_times if when > last_success]
            return Backoff(len(failure_times), failure_times[-1] if failure_times else None)
        if not failure_times:
            return self
        return Backoff(self.failures + len(failure_times), failure_times[-1])

    def remaining(self, now: datetime) -> float:
        """Seconds until the next pod may be made."""
        if self.last_failure is None or self.failures == 0:
            return 0.0
        wait = min(_FIRST_SECONDS * 2.0 ** min(self.failures - 1, 60), _LONGEST_SECONDS)
        return max(0.0, wait - (now - self.last_failure).total_seconds())


def remaining_for_index(last_failed: Object | None, now: datetime) -> float:
    """The same for one index of a Job that counts failures per index; the pod carries the count of those before it."""
    if last_failed is None:
        return 0.0
    return Backoff(all_failures_before(last_failed) + 1, finished_at(last_failed)).remaining(now)


def finished_at(pod: Object) -> datetime:
    """When the pod ended: by its containers, else by when it became unready, else by its deletion, else by its age."""
    found = _containers_finished_at(pod)
    if found is not None:
        return found
    ready = conditions.find(pod, "Ready")
    if ready is not None and ready["status"] == "False" and ready.get("lastTransitionTime"):
        return meta.parse_time(ready["lastTransitionTime"])
    if meta.is_deleting(pod):
        grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
        return meta.parse_time(meta.deletion_timestamp(pod)) - timedelta(seconds=grace)
    created = meta.creation_timestamp(pod)
    assert created is not None  # every stored object has one
    return created


def _containers_finished_at(pod: Object) -> datetime | None:
    """The latest end of all containers and sidecars; None unless all have ended."""
    status = pod.get("status") or {}
    sidecars = {one["name"] for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"}
    statuses = [
        *(status.get("containerStatuses") or ()),
        *(one for one in status.get("initContainerStatuses") or () if one["name"] in sidecars),
    ]
    ends = [((one.get("state") or {}).get("terminated") or {}).get("finishedAt") or "" for one in statuses]
    if not ends or not all(ends):
        return None
    return max(meta.parse_time(end) for end in ends)
