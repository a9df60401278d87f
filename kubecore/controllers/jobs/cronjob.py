"""Starts Jobs on a schedule. (kubernetes `pkg/controller/cronjob/cronjob_controllerv2.go`.)"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.cron import BadSchedule
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.client.events import reference
from kubecore.client.informer import Of
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.jobs import cron_schedule, cron_timing
from kubecore.controllers.jobs.cron_schedule import Schedule
from kubecore.controllers.jobs.metrics import creation_skew
from kubecore.controllers.jobs.state import JOBS, finished_condition
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, controller_uid

CRON_JOBS = "cronjobs.batch"
_API, _KIND = "batch/v1", "CronJob"
_SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronJobController(Controller):
    """Keys are CronJobs."""

    name = "cronjob-controller"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        histogram = creation_skew()
        self.metrics, self._skew = (histogram,), histogram.series()
        self._cron_jobs = self.informer(CRON_JOBS)
        self._jobs = self.informer(JOBS)
        self._jobs.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._cron_jobs.add_handler(self.enqueue, self._updated, self.enqueue)
        self.enqueue_on_change(self._jobs, self._owner_keys)

    # ------------------------------------------------------------------ books
    def _owner_keys(self, job: Object) -> list[str]:
        owner = meta.controller_of(job)
        if owner is None or owner["kind"] != _KIND:
            return []
        found = self._cron_jobs.get(f"{meta.namespace(job)}/{owner['name']}")
        return [meta.key(found)] if found is not None and meta.uid(found) == owner["uid"] else []

    def _updated(self, old: Object, new: Object) -> None:
        before, after = old["spec"], new["spec"]
        if all(before.get(name) == after.get(name) for name in ("schedule", "timeZone")):
            self.enqueue(new)
            return
        # by a new schedule nothing was missed yet: look again when it is due for the first time
        try:
            wait = cron_timing.until_next(new, _parse(new), self.clock.now())
        except BadSchedule:
            message = f"unparseable schedule for cronjob: {after['schedule']}"
            self._recorder.event(new, "Warning", "UnParseableCronJobSchedule", message)
            return
        # that a new schedule never comes is told at once
        self.queue.add_after(meta.key(new), wait or 0.0)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        cached = self._cron_jobs.get(key)
        if cached is None:
            return None
        cron_job = meta.deepcopy(cached)
        status = cron_job.setdefault("status", {})
        jobs = list(self._jobs.by_index(OWNER_INDEX, meta.uid(cron_job)))
        before = meta.deepcopy(status)
        again, failure = None, None
        try:
            await self._trim_history(cron_job, jobs)
            await self._see(cron_job, jobs)
            if not meta.is_deleting(cron_job):
                again = await self._start(cron_job)
        except StatusError as error:
            # what was done is told all the same
            failure = error
        if not status.get("active"):
            status.pop("active", None)
        if status != before:
            await self.client.update(CRON_JOBS, cron_job, subresource="status")
        if failure is not None:
            raise failure
        return again

    # ------------------------------------------------------------------ what has become of the Jobs
    async def _trim_history(self, cron_job: Object, jobs: list[Object]) -> None:
        limits = {"Complete": "successfulJobsHistoryLimit", "Failed": "failedJobsHistoryLimit"}
        for condition, field in limits.items():
            limit = cron_job["spec"].get(field)
            if limit is None:
                continue
            ended = sorted((job for job in jobs if finished_condition(job) == condition), key=_by_start)
            for job in ended[: max(0, len(ended) - limit)]:
                if not meta.is_deleting(job):
                    await self._delete(cron_job, job)

    async def _see(self, cron_job: Object, jobs: list[Object]) -> None:
        """Bring `status.active` and `status.lastSuccessfulTime` up to date."""
        status = cron_job["status"]
        for job in jobs:
            known = _active_index(status, meta.uid(job)) is not None
            ended = finished_condition(job)
            if not ended:
                if not known:
                    await self._see_unknown(cron_job, job)
                continue
            if known:
                _drop_active(status, meta.uid(job))
                message = f"Saw completed job: {meta.name(job)}, condition: {ended}"
                self._recorder.event(cron_job, "Normal", "SawCompletedJob", message)
            completed = (job.get("status") or {}).get("completionTime")
            last = status.get("lastSuccessfulTime")
            if ended == "Complete" and completed and (not last or _later(completed, last)):
                status["lastSuccessfulTime"] = completed
        there = {meta.uid(job) for job in jobs}
        for entry in list(status.get("active") or ()):
            if entry["uid"] in there:
                continue
            # the cache may be behind, and a start must not be forgotten for that
            if await self.client.find(JOBS, entry["name"], entry["namespace"]) is None:
                _drop_active(status, entry["uid"])
                self._recorder.event(cron_job, "Normal", "MissingJob", f"Active job went missing: {entry['name']}")

    async def _see_unknown(self, cron_job: Object, job: Object) -> None:
        fresh = await self.client.get(CRON_JOBS, meta.name(cron_job), meta.namespace(cron_job))
        told = fresh.get("status") or {}
        index = _active_index(told, meta.uid(job))
        if index is None:
            message = f"Saw a job that the controller did not create or forgot: {meta.name(job)}"
            self._recorder.event(cron_job, "Warning", "UnexpectedJob", message)
            return
        # our own status was not in the cache yet
        cron_job["metadata"] = fresh["metadata"]
        status = cron_job["status"]
        status.setdefault("active", []).append(told["active"][index])
        if told.get("lastScheduleTime"):
            status["lastScheduleTime"] = told["lastScheduleTime"]

    # ------------------------------------------------------------------ starting
    async def _start(self, cron_job: Object) -> float | None:
        """Start what is due. Returns in how many seconds to look again."""
        spec, now = cron_job["spec"], self.clock.now()
        try:
            cron_schedule.load_zone(spec.get("timeZone") or "")
        except BadSchedule as error:
            message = f'invalid timeZone: "{spec["timeZone"]}": {error}'
            self._recorder.event(cron_job, "Warning", "UnknownTimeZone", message)
            return None
        if spec.get("suspend"):
            return None
        if "TZ" in spec["schedule"]:
            message = (
                f'CRON_TZ or TZ used in schedule "{spec["schedule"]}" is not officially supported, see '
                "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            )
            self._recorder.event(cron_job, "Warning", "UnsupportedSchedule", message)
        try:
            schedule = _parse(cron_job)
        except BadSchedule as error:
            message = f'unparseable schedule: "{spec["schedule"]}" : {error}'
            self._recorder.event(cron_job, "Warning", "UnparseableSchedule", message)
            return None
        try:
            due = self._due(cron_job, schedule, now)
        except BadSchedule as error:
            message = f"invalid schedule: {spec['schedule']} : {error}"
            self._recorder.event(cron_job, "Warning", "InvalidSchedule", message)
            return None
        if due is not None and self._may_start(cron_job, due, now):
            await self._replace_active(cron_job)
            await self._create(cron_job, due)
        return cron_timing.until_next(cron_job, schedule, now)

    def _due(self, cron_job: Object, schedule: Schedule, now: datetime) -> datetime | None:
        found = cron_timing.missed(cron_job, schedule, now)
        if found.latest is not None and found.many:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self._recorder.event(cron_job, "Warning", "TooManyMissedTimes", message)
        return found.latest

    def _may_start(self, cron_job: Object, due: datetime, now: datetime) -> bool:
        spec, status = cron_job["spec"], cron_job["status"]
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None and (now - due).total_seconds() > deadline:
            message = f"Missed scheduled time to start a job: {due.strftime('%a, %d %b %Y %H:%M:%S +0000')}"
            self._recorder.event(cron_job, "Warning", "MissSchedule", message)
            return False
        name = cron_timing.job_name(cron_job, due)
        if any(entry["name"] == name for entry in status.get("active") or ()):
            return False
        if status.get("lastScheduleTime") and meta.parse_time(status["lastScheduleTime"]) == due:
            return False
        if spec.get("concurrencyPolicy") == "Forbid" and status.get("active"):
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._recorder.event(cron_job, "Normal", "JobAlreadyActive", message)
            return False
        return True

    async def _replace_active(self, cron_job: Object) -> None:
        if cron_job["spec"].get("concurrencyPolicy") != "Replace":
            return
        for entry in list(cron_job["status"].get("active") or ()):
            try:
                job = await self.client.get(JOBS, entry["name"], entry["namespace"])
            except StatusError as error:
                self._recorder.event(cron_job, "Warning", "FailedGet", f"Get job: {error.message}")
                raise
            await self._delete(cron_job, job)

    async def _create(self, cron_job: Object, due: datetime) -> None:
        wanted = job_of(cron_job, due)
        try:
            job = await self.client.create(JOBS, wanted, meta.namespace(cron_job))
        except StatusError as error:
            if not errors.is_already_exists(error):
                if not error.has_cause("NamespaceTerminating"):
                    message = f"Error creating job: {error.message}"
                    self._recorder.event(cron_job, "Warning", "FailedCreate", message)
                raise
            # made before, perhaps, by us, who did not come to write it down
            job = await self.client.get(JOBS, meta.name(wanted), meta.namespace(cron_job))
            known = _active_index(cron_job["status"], meta.uid(job)) is not None
            if not meta.is_controlled_by(job, cron_job) or known:
                return
        else:
            self._skew.observe((meta.parse_time(job["metadata"]["creationTimestamp"]) - due).total_seconds())
            self._recorder.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {meta.name(job)}")
        cron_job["status"].setdefault("active", []).append(reference(job))
        cron_job["status"]["lastScheduleTime"] = meta.format_time(due)

    async def _delete(self, cron_job: Object, job: Object) -> None:
        try:
            await self.client.delete(
                JOBS, meta.name(job), meta.namespace(job), uid=meta.uid(job), propagation_policy="Background"
            )
        except StatusError as error:
            if errors.is_not_found(error):
                return
            self._recorder.event(cron_job, "Warning", "FailedDelete", f"Deleted job: {error.message}")
            raise
        _drop_active(cron_job["status"], meta.uid(job))
        self._recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {meta.name(job)}")


def job_of(cron_job: Object, due: datetime) -> Object:
    """The Job for one start."""
    template = cron_job["spec"]["jobTemplate"]
    source = template.get("metadata") or {}
    zone = cron_schedule.load_zone(cron_job["spec"].get("timeZone") or "")
    metadata: Object = {
        "name": cron_timing.job_name(cron_job, due),
        "namespace": meta.namespace(cron_job),
        "annotations": {**(source.get("annotations") or {}), _SCHEDULED: cron_timing.shown_in(due, zone)},
        "ownerReferences": [meta.controller_reference(cron_job, _API, _KIND)],
    }
    if source.get("labels"):
        metadata["labels"] = dict(source["labels"])
    return {"apiVersion": _API, "kind": "Job", "metadata": metadata, "spec": meta.deepcopy(template["spec"])}


def _parse(cron_job: Object) -> Schedule:
    return cron_schedule.parse(cron_job["spec"]["schedule"], cron_job["spec"].get("timeZone") or "")


def _active_index(status: dict[str, Any], uid: str) -> int | None:
    listed = status.get("active") or ()
    return next((index for index, entry in enumerate(listed) if entry["uid"] == uid), None)


def _drop_active(status: dict[str, Any], uid: str) -> None:
    status["active"] = [entry for entry in status.get("active") or () if entry["uid"] != uid]


def _by_start(job: Object) -> tuple[bool, str, str]:
    """Oldest first, those that never started last."""
    started = (job.get("status") or {}).get("startTime") or ""
    return not started, started, meta.name(job)


def _later(one: str, other: str) -> bool:
    return meta.parse_time(one) > meta.parse_time(other)
