"""What is told of Jobs and CronJobs, under upstream's names.

(kubernetes `pkg/controller/job/metrics`, `pkg/controller/cronjob/metrics`.)
"""

from __future__ import annotations

from collections.abc import Mapping

from kubecore.client.client import Object
from kubecore.controllers.conditions import Condition
from kubecore.controllers.jobs.state import is_indexed
from kubecore.metrics import Counter, Histogram, Metric, Named, exponential

RECONCILING, TRACKING, CREATED, DELETED = "reconciling", "tracking", "pods_created", "pods_deleted"


def _named(name: str, told: str, *labels: str) -> Named:
    return Named(f"job_controller_{name}", f"[STABLE] {told}", labels)


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
        self.all: tuple[Metric, ...] = (self._durations, self._syncs, self._finished, self._pods)

    def synced(self, job: Object, seconds: float, *, result: str, action: str) -> None:
        labels = (_mode(job), result, action)
        self._durations.observe(seconds, *labels)
        self._syncs.count(labels)

    def counted(self, job: Object, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        """A status has been stored that counts so many pods, by how they ended."""
        for result, count in now.items():
            if count > before[result]:
                self._pods.add(_mode(job), result, by=count - before[result])

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


def _mode(job: Object) -> str:
    return "Indexed" if is_indexed(job) else "NonIndexed"
