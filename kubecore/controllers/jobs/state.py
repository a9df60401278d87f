"""What one sync of a Job knows, and the questions asked about Jobs and their pods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import conditions, pods
from kubecore.controllers.conditions import Condition
from kubecore.controllers.jobs.backoff import Backoff, finished_at
from kubecore.controllers.jobs.indexes import (
    UNKNOWN,
    Indexes,
    all_failures_before,
    failures_before,
    has_valid_index,
    index_of,
    indexes_of,
)
from kubecore.controllers.jobs.policies import judge_failure

JOBS = "jobs.batch"
JOB_API, JOB_KIND = "batch/v1", "Job"
TRACKING = "batch.kubernetes.io/job-tracking"
_CONTROLLER = "kubernetes.io/job-controller"
FAILED_INDEXES = "failed indexes"


# ------------------------------------------------------------------ about a Job
def finished_condition(job: Object) -> str:
    """Complete or Failed; "" for a Job that still goes on."""
    for type in ("Complete", "Failed"):
        if conditions.is_true(job, type):
            return type
    return ""


def managed_elsewhere(job: Object) -> bool:
    """Another controller has claimed the Job by `spec.managedBy`."""
    return job["spec"].get("managedBy") not in (None, _CONTROLLER)


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def counts_per_index(job: Object) -> bool:
    return job["spec"].get("backoffLimitPerIndex") is not None


def replaces_only_failed(job: Object) -> bool:
    """A pod on its way out is replaced only once it has ended."""
    return job["spec"].get("podReplacementPolicy") == "Failed" or job["spec"].get("podFailurePolicy") is not None


def make_condition(type: str, reason: str, message: str, now: datetime, *, status: str = "True") -> Condition:
    made = conditions.make(type, status, meta.format_time(now), reason, message)
    return {**made, "lastProbeTime": made["lastTransitionTime"]}


def put_condition(status: Object, new: Condition) -> bool:
    """Set a condition; whether that changed anything. One that was never there is not set to False."""
    listed = status.setdefault("conditions", [])
    for index, old in enumerate(listed):
        if old["type"] == new["type"]:
            if all(old.get(name) == new.get(name) for name in ("status", "reason", "message")):
                return False
            listed[index] = new
            return True
    if new["status"] == "False":
        return False
    listed.append(new)
    return True


# ------------------------------------------------------------------ about a pod
def is_tracked(pod: Object) -> bool:
    """The pod is held until it has been counted."""
    return TRACKING in meta.finalizers(pod)


def has_failed(pod: Object, job: Object) -> bool:
    """Failed, or, where that counts as failing, deleted before it could succeed."""
    phase = pods.phase(pod)
    if phase == "Failed":
        return True
    return not replaces_only_failed(job) and meta.is_deleting(pod) and phase != "Succeeded"


def past_restart_limit(job: Object, mine: list[Object]) -> bool:
    """With restartPolicy OnFailure it is the containers that are restarted, and their restarts that are limited."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = 0
    for pod in mine:
        if pods.phase(pod) in ("Running", "Pending"):
            status = pod.get("status") or {}
            for name in ("initContainerStatuses", "containerStatuses"):
                restarts += sum(one.get("restartCount") or 0 for one in status.get(name) or ())
    limit = job["spec"].get("backoffLimit", 6)
    return restarts > 0 if limit == 0 else restarts >= limit


# ------------------------------------------------------------------ one sync
@dataclass(slots=True)
class JobSync:
    """`job` is a copy that the sync changes; the counts are those that would be true once all pods are counted."""

    job: Object
    pods: list[Object]
    released: set[str]
    """Uids of pods whose finalizer was removed, while the cache does not show it yet."""
    backoff: Backoff = field(default_factory=Backoff)
    active: list[Object] = field(init=False)
    active_count: int = field(init=False)
    ready: int = field(init=False)
    terminating: int = field(init=False)
    succeeded: int = 0
    failed: int = 0
    uncounted_succeeded: frozenset[str] = field(init=False)
    uncounted_failed: frozenset[str] = field(init=False)
    finished: Condition | None = None
    """The condition the Job ends with, or an interim one that leads to it."""
    known_indexes: Indexes = field(default_factory=Indexes)
    """Those that `status.completedIndexes` had."""
    succeeded_indexes: Indexes = field(default_factory=Indexes)
    failed_indexes: Indexes | None = None
    held_per_index: dict[int, Object] = field(default_factory=dict)
    """Failed pods kept until their replacement has taken over the count of failures."""
    stored: dict[str, int] = field(init=False)
    """How many pods the stored status counts, by how they ended, and how many FAILED_INDEXES."""
    again: float | None = None
    """Seconds until something is due that no event will tell."""

    def __post_init__(self) -> None:
        self.active = [pod for pod in self.pods if pods.is_active(pod)]
        self.active_count = len(self.active)
        self.ready = sum(1 for pod in self.active if pods.is_ready(pod))
        self.terminating = sum(1 for pod in self.pods if meta.is_deleting(pod) and not pods.is_finished(pod))
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self.uncounted_succeeded = frozenset(uncounted.get("succeeded") or ())
        self.uncounted_failed = frozenset(uncounted.get("failed") or ())
        self.stored = self.counted()

    def counted(self) -> dict[str, int]:
        counts = {ending: self.status.get(ending) or 0 for ending in ("succeeded", "failed")}
        failed = self.status.get("failedIndexes")
        return {**counts, FAILED_INDEXES: len(Indexes.parse(failed, self.completions)) if failed else 0}

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.job["spec"]
        return found

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.job.setdefault("status", {})
        return found

    @property
    def completions(self) -> int:
        """Of an Indexed Job, which always has some."""
        found: int = self.spec.get("completions") or 0
        return found

    def wake_in(self, seconds: float) -> None:
        self.again = seconds if self.again is None else min(self.again, seconds)

    def is_uncounted(self, pod: Object) -> bool:
        """Still held by the finalizer, as far as we know."""
        return is_tracked(pod) and meta.uid(pod) not in self.released

    def newly_finished(self, backoff: Backoff) -> None:
        """Count what has ended since the status was written."""
        done = self._new(self.uncounted_succeeded, lambda pod: pods.phase(pod) == "Succeeded")
        failed = self._new(self.uncounted_failed, lambda pod: has_failed(pod, self.job))
        policy = self.spec.get("podFailurePolicy")
        counting = [pod for pod in failed if judge_failure(policy, pod).counts]
        self.succeeded = (self.status.get("succeeded") or 0) + len(done) + len(self.uncounted_succeeded)
        self.failed = (self.status.get("failed") or 0) + len(counting) + len(self.uncounted_failed)
        self.backoff = backoff.after(done, failed)

    def _new(self, uncounted: frozenset[str], ended: Callable[[Object], bool]) -> list[Object]:
        return [
            pod
            for pod in self.pods
            if self.is_uncounted(pod)
            and meta.uid(pod) not in uncounted
            and (not is_indexed(self.job) or has_valid_index(pod, self.completions))
            and ended(pod)
        ]

    # ------------------------------------------------------------------ indexes
    def judge_indexes(self) -> None:
        self.known_indexes = Indexes.parse(self.status.get("completedIndexes") or "", self.completions)
        tracked = [pod for pod in self.pods if is_tracked(pod) and has_valid_index(pod, self.completions)]
        done = [index_of(pod) for pod in tracked if pods.phase(pod) == "Succeeded"]
        self.succeeded_indexes = self.known_indexes.with_indexes(done)
        self.succeeded = len(self.succeeded_indexes)
        if counts_per_index(self.job):
            before = Indexes.parse(self.status.get("failedIndexes") or "", self.completions)
            self.failed_indexes = before.with_indexes(index_of(pod) for pod in tracked if self._fails_index(pod))

    def _fails_index(self, pod: Object) -> bool:
        if not has_failed(pod, self.job):
            return False
        verdict = judge_failure(self.spec.get("podFailurePolicy"), pod)
        if verdict.action == "FailIndex":
            return True
        limit: int = self.spec["backoffLimitPerIndex"]
        return verdict.counts and failures_before(pod) >= limit

    def hold_failed_pods(self) -> None:
        """Find, per index that goes on, the last failed pod."""
        active = indexes_of(self.active)
        for pod in self._new(frozenset(), lambda pod: has_failed(pod, self.job)):
            index = index_of(pod)
            if index in self.succeeded_indexes or index in (self.failed_indexes or ()) or index in active:
                continue
            other = self.held_per_index.get(index)
            if other is None or (
                all_failures_before(other) <= all_failures_before(pod) and finished_at(pod) >= finished_at(other)
            ):
                self.held_per_index[index] = pod

    def pending_indexes(self, count: int) -> list[int]:
        """The first `count` indexes that need a pod."""
        taken = self.succeeded_indexes.with_indexes(indexes_of(self.active))
        if replaces_only_failed(self.job):
            leaving = [pod for pod in self.pods if meta.is_deleting(pod) and not pods.is_finished(pod)]
            taken = taken.with_indexes(indexes_of(leaving))
        if self.failed_indexes is not None:
            taken = taken.union(self.failed_indexes)
        return taken.missing(self.completions, count)

    def is_held(self, pod: Object) -> bool:
        index = index_of(pod)
        held = self.held_per_index.get(index) if index != UNKNOWN else None
        return held is not None and meta.uid(held) == meta.uid(pod)
