"""Which start of a CronJob is due, and when to look again: pure functions.

(kubernetes `pkg/controller/cronjob/utils.go`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from kubecore.api import meta
from kubecore.api.cron import BadSchedule
from kubecore.client.client import Object
from kubecore.controllers.jobs.cron_schedule import Schedule

# Whoever missed more starts than this is told that a clock or the schedule is wrong.
_MANY = 100
# Clocks of several machines differ; a look a bit late never comes too early.
_PADDING = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Missed:
    """Starts that were due since the last one: the latest of them, and whether there were suspiciously many."""

    since: datetime
    latest: datetime | None = None
    count: int = 0

    @property
    def many(self) -> bool:
        return self.count > _MANY


def missed(cron_job: Object, schedule: Schedule, now: datetime, *, within_deadline: bool = True) -> Missed:
    """Raises BadSchedule for one that is never due. The count is an estimate from the distance of the first two."""
    since = _since(cron_job)
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if within_deadline and deadline is not None:
        since = max(since, now - timedelta(seconds=deadline))
    first = schedule.next(since)
    second = schedule.next(first) if first is not None else None
    if first is None or second is None:
        raise BadSchedule("time difference between two schedules is less than 1 second")
    if now < first:
        return Missed(since)
    if now < second:
        return Missed(since, first)
    interval = second - first
    count = int((now - first) / interval) + 1
    # starting from the estimate spares listing them all; it is a step short, since distances may vary
    latest: datetime | None = None
    candidate = schedule.next(first + (count - 2) * interval)
    while candidate is not None and candidate <= now:
        latest, candidate = candidate, schedule.next(candidate)
    return Missed(since, latest, count)


def until_next(cron_job: Object, schedule: Schedule, now: datetime) -> float | None:
    """Seconds until the next start."""
    try:
        found = missed(cron_job, schedule, now, within_deadline=False)
    except BadSchedule:
        found = Missed(now)
    after = found.latest or (now if found.count else found.since)
    due = schedule.next(after)
    return (due + _PADDING - now).total_seconds() if due is not None else None


def _since(cron_job: Object) -> datetime:
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    if last:
        return meta.parse_time(last)
    created = meta.creation_timestamp(cron_job)
    assert created is not None  # every stored object has one
    return created


def job_name(cron_job: Object, scheduled: datetime) -> str:
    """The same for the same start, so that none is made twice."""
    return f"{meta.name(cron_job)}-{int(scheduled.timestamp()) // 60}"


def shown_in(scheduled: datetime, zone: tzinfo) -> str:
    """RFC 3339 in the zone, UTC as Z."""
    local = scheduled.astimezone(zone)
    return local.isoformat(timespec="seconds") if local.utcoffset() else meta.format_time(scheduled)
