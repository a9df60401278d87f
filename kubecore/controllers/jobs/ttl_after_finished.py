"""Deletes Jobs that have been finished for as long as they say (kubernetes `pkg/controller/ttlafterfinished`)."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.metrics import Histogram, Named, exponential

_JOBS = "jobs.batch"
_FINISHED = ("Complete", "Failed")
_LATE = Named(
    "ttl_after_finished_controller_job_deletion_duration_seconds",
    "[ALPHA] The time it took to delete the job since it became eligible for deletion",
)


class TTLAfterFinishedController(Controller):
    """Keys are Jobs."""

    name = "ttl-after-finished-controller"
    queue_name = "ttl_jobs_to_delete"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._late = Histogram(_LATE, exponential(0.1, 2, 14))
        self.metrics = (self._late,)
        self._jobs = self.informer(_JOBS)
        self._jobs.add_handler(self._seen, lambda _, new: self._seen(new))

    def _seen(self, job: Object) -> None:
        if _needs_cleanup(job):
            self.enqueue(job)

    async def sync(self, key: str) -> float | None:
        job = self._jobs.get(key)
        if job is None or not _needs_cleanup(job):
            return None
        left = self._seconds_left(job)
        if left > 0:
            return left
        # The cache may be behind a Job whose time was prolonged.
        fresh = await self.client.find(_JOBS, meta.name(job), meta.namespace(job))
        if fresh is None or not _needs_cleanup(fresh):
            return None
        left = self._seconds_left(fresh)
        if left > 0:
            return left
        await self.client.delete(
            _JOBS, meta.name(fresh), meta.namespace(fresh), uid=meta.uid(fresh), propagation_policy="Foreground"
        )
        self._late.observe(-left)
        return None

    def _seconds_left(self, job: Object) -> float:
        finished = next(one for kind in _FINISHED if (one := conditions.find(job, kind)) and one["status"] == "True")
        since = finished.get("lastTransitionTime")
        if not since:
            raise ValueError(f"unable to find the time when the Job {meta.key(job)} finished")
        elapsed = (self.clock.now() - meta.parse_time(since)).total_seconds()
        return float(job["spec"]["ttlSecondsAfterFinished"] - elapsed)


def _needs_cleanup(job: Object) -> bool:
    """It is finished and says for how long it stays."""
    if meta.is_deleting(job) or (job.get("spec") or {}).get("ttlSecondsAfterFinished") is None:
        return False
    return any(conditions.is_true(job, kind) for kind in _FINISHED)
