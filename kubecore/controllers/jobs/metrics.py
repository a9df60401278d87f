"""What is told of Jobs and CronJobs, under upstream's names.

(kubernetes `pkg/controller/job/metrics`, `pkg/controller/cronjob/metrics`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubecore.client.client import Object
from kubecore.controllers import pods
from kubecore.controllers.conditions import Condition
from kubecore.controllers.jobs.state import FAILED_INDEXES, counts_per_index, is_indexed, is_tracked
from kubecore.metrics import Counter, Histogram, Metric, Named, exponential

RECONCILING, TRACKING, CREATED, DELETED = "reconciling", "tracking", "pods_created", "pods_deleted"


_HANDLED = (
    "The number of failed Pods handled by failure policy with respect to the failure policy action applied based on "
    "the matched rule. Possible values of the action label correspond to the possible values for the failure policy "
    'rule action, which are: "FailJob", "Ignore" and "Count".'
)
_HELD = (
    "The number of terminated pods (phase=Failed|Succeeded) that have the finalizer batch.kubernetes.io/job-tracking. "
    'The event label can be "add" or "delete".'
)
_INDEXES = (
    'The number of finished indexes. Possible values for the status label are: "succeeded", "failed". Possible values '
    'for the backoffLimit label are: "perIndex" and "global"'
)
_CREATIONS = (
    "The number of Pods created by the Job controller labelled with a reason for the Pod creation. This metric also "
    "distinguishes between Pods created using different PodReplacementPolicy settings. Possible values of the reason "
    'label are: "new", "recreate_terminating_or_failed", "recreate_failed". Possible values of the status label are: '
    '"succeeded", "failed".'
)


def _named(name: str, told: str, *labels: str, stability: str = "STABLE") -> Named:
    return Named(f"job_controller_{name}", f"[{stability}] {told}", labels)


def _alpha(name: str, told: str, *labels: str) -> Counter:
    return Counter(_named(name, told, *labels, stability="ALPHA"))


class JobMetrics:
    def __init__(self) -> None:
        of_sync = ("completion_mode", "result", "action")
        self._durations = Histogram(
            _named("job_sync_duration_seconds", "The time it took to sync a job", *of_sync), exponential(0.004, 2, 15)
        )
        self._syncs = Counter(_named("job_syncs_total", "The number of job syncs", *of_sync))
        self._finished = Counter(
            _named("jobs_finished_total", "The number of finished jobs", "completion_mode", "result", "reason")
        )
        self._pods = Counter(
            _named(
                "job_pods_finished_total",
                "The number of finished Pods that are fully tracked",
                "completion_mode",
                "result",
            )
        )
        self._elsewhere = _alpha(
            "jobs_by_external_controller_total",
            "The number of Jobs managed by an external controller",
            "controller_name",
        )
        self._handled = _alpha("pod_failures_handled_by_failure_policy_total", _HANDLED, "action")
        self._held = _alpha("terminated_pods_tracking_finalizer_total", _HELD, "event")
        self._indexes = _alpha("job_finished_indexes_total", _INDEXES, "status", "backoffLimit")
        self._creations = _alpha("job_pods_creation_total", _CREATIONS, "reason", "status")
        stable = (self._durations, self._syncs, self._finished, self._pods)
        self.all: tuple[Metric, ...] = (
            *stable,
            self._elsewhere,
            self._handled,
            self._held,
            self._indexes,
            self._creations,
        )

    def synced(self, job: Object, seconds: float, *, result: str, action: str) -> None:
        labels = (_mode(job), result, action)
        self._durations.observe(seconds, *labels)
        self._syncs.count(labels)

    def counted(self, job: Object, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        """A status has been stored that counts so many pods, by how they ended; under FAILED_INDEXES, how many indexes
        have failed."""
        for result in ("succeeded", "failed"):
            if now[result] > before[result]:
                self._pods.add(_mode(job), result, by=now[result] - before[result])
        if is_indexed(job):
            per = "perIndex" if counts_per_index(job) else "global"
            for status, name in (("succeeded", "succeeded"), ("failed", FAILED_INDEXES)):
                if now[name] > before[name]:
                    self._indexes.add(status, per, by=now[name] - before[name])

    def handled(self, actions: Iterable[str]) -> None:
        """Failed pods are counted, or not, as rules of a podFailurePolicy say, whose actions these are."""
        for action in actions:
            self._handled.add(action)

    def seen(self, old: Object | None, new: Object | None) -> None:
        """A pod, which was `old`, is `new`; None where there is none."""
        before, now = _is_held(old), _is_held(new)
        if before != now:
            self._held.add("add" if now else "delete")

    def made(self, job: Object, *, tried: int, done: int, failed: int, terminating: int) -> None:
        """Pods, for a Job of whose others so many have failed or are on their way out."""
        reason = "new"
        if failed and job["spec"].get("podReplacementPolicy") == "Failed":
            reason = "recreate_failed"
        elif failed or terminating:
            reason = "recreate_terminating_or_failed"
        for status, count in (("succeeded", done), ("failed", tried - done)):
            if count:
                self._creations.add(reason, status, by=count)

    def left_to(self, controller: str) -> None:
        """A Job has come that another controller manages."""
        self._elsewhere.add(controller)

    def ended(self, job: Object, why: Condition) -> None:
        result = "succeeded" if why["type"] == "Complete" else "failed"
        self._finished.add(_mode(job), result, why.get("reason", ""))


def creation_skew() -> Histogram:
    """Of CronJobs, in seconds."""
    named = Named(
        "cronjob_controller_job_creation_skew_duration_seconds",
        "[STABLE] Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    )
    return Histogram(named, exponential(1, 2, 10))


def _is_held(pod: Object | None) -> bool:
    return pod is not None and pods.is_finished(pod) and is_tracked(pod)


def _mode(job: Object) -> str:
    return "Indexed" if is_indexed(job) else "NonIndexed"
