"""CronJobs in virtual time, which begins at midnight of 1 January 2026, UTC."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import errors, meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.jobs.cronjob import CronJobController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, names, template

CRON_JOBS, JOBS = "cronjobs.batch", "jobs.batch"
HOUR, DAY = 3600.0, 86400.0


def cron_job(schedule: str, **spec: Any) -> Object:
    job = {"metadata": {"labels": {"app": "night"}}, "spec": {"template": template()}}
    return {"metadata": {"name": "night"}, "spec": {"schedule": schedule, "jobTemplate": job, **spec}}


async def start(running: Running) -> None:
    await running.start(CronJobController(running.context))


def end(api: FakeAPI, name: str, condition: str = "Complete") -> None:
    now = meta.format_time(api.clock.now())
    status: dict[str, Any] = {"conditions": [{"type": condition, "status": "True"}], "startTime": now}
    if condition == "Complete":
        status["completionTime"] = now
    api.change(JOBS, name, status=status)


def status(api: FakeAPI) -> dict[str, Any]:
    told: dict[str, Any] = api.get(CRON_JOBS, "night")["status"]  # type: ignore[index]
    return told


def minute(clock: VirtualClock) -> int:
    return int(clock.now().timestamp()) // 60


class TestStarting:
    async def test_a_job_is_made_when_it_is_due(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        owner = api.add(CRON_JOBS, cron_job("0 3 * * *"))
        await start(running)
        await clock.advance(3 * HOUR - 2)
        assert not api.all(JOBS)
        await clock.advance(2)
        (job,) = api.all(JOBS)
        name = f"night-{minute(clock)}"
        assert job["metadata"]["name"] == name
        assert job["metadata"]["labels"] == {"app": "night"}
        scheduled = job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert scheduled == "2026-01-01T03:00:00Z"
        (reference,) = job["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["uid"]) == ("CronJob", owner["metadata"]["uid"])
        assert [entry["uid"] for entry in status(api)["active"]] == [job["metadata"]["uid"]]
        assert status(api)["lastScheduleTime"] == "2026-01-01T03:00:00Z"
        assert events(api, "SuccessfulCreate") == [f"Created job {name}"]

    async def test_a_day_passes_in_order(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        api.add(CRON_JOBS, cron_job("*/30 * * * *", successfulJobsHistoryLimit=3))
        await start(running)
        for _ in range(48):
            await clock.advance(HOUR / 2)
            for job in api.all(JOBS):
                if not job.get("status"):
                    end(api, job["metadata"]["name"])
            await running.clock.settle()
        assert len(api.writes("create jobs.batch")) == 48
        assert len(api.all(JOBS)) == 3
        assert status(api)["lastScheduleTime"] == "2026-01-02T00:00:00Z"

    async def test_the_time_zone_decides(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        api.add(CRON_JOBS, cron_job("0 3 * * *", timeZone="Europe/Berlin"))
        await start(running)
        await clock.advance(2 * HOUR + 1)
        (job,) = api.all(JOBS)
        scheduled = job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert scheduled == "2026-01-01T03:00:00+01:00"

    async def test_a_job_that_cannot_be_made_is_tried_again(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("0 3 * * *"))
        await start(running)
        api.react("create jobs.batch", errors.internal_error("no"))
        await clock.advance(3 * HOUR + 1)
        assert len(api.all(JOBS)) == 1
        assert len(events(api, "FailedCreate")) == 1

    async def test_a_restart_before_the_status_was_written_makes_no_second_job(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("0 3 * * *"))
        await start(running)
        api.react("update cronjobs.batch/status", errors.internal_error("no"), times=2)
        await clock.advance(3 * HOUR + 1)
        (job,) = api.all(JOBS)
        assert [entry["name"] for entry in status(api)["active"]] == names([job])

    async def test_nothing_starts_while_it_is_suspended(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("@hourly", suspend=True))
        await start(running)
        await clock.advance(DAY)
        assert not api.all(JOBS)
        api.change(CRON_JOBS, "night", spec={"suspend": False})
        await running.settle()
        # the last start that was missed is made up for
        assert len(api.all(JOBS)) == 1
        assert status(api)["lastScheduleTime"] == "2026-01-02T00:00:00Z"

    async def test_a_changed_schedule_counts_from_then_on(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("0 12 * * *"))
        await start(running)
        await clock.advance(5 * HOUR)
        api.change(CRON_JOBS, "night", spec={"schedule": "0 * * * *"})
        await running.settle()
        assert not api.all(JOBS)
        await clock.advance(HOUR)
        assert status(api)["lastScheduleTime"] == "2026-01-01T06:00:00Z"


class TestMissedStarts:
    async def test_the_latest_is_made_up_for(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        api.add(CRON_JOBS, cron_job("0 * * * *"))
        await clock.advance(5 * HOUR + 600)
        await start(running)
        assert len(api.all(JOBS)) == 1
        assert status(api)["lastScheduleTime"] == "2026-01-01T05:00:00Z"
        assert not events(api, "TooManyMissedTimes")

    async def test_too_many_are_told(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        api.add(CRON_JOBS, cron_job("* * * * *"))
        await clock.advance(5 * HOUR)
        await start(running)
        (message,) = events(api, "TooManyMissedTimes")
        assert message.startswith("too many missed start times. Set or decrease .spec.startingDeadlineSeconds")
        assert len(api.all(JOBS)) == 1

    async def test_beyond_the_deadline_none_is_made_up_for(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("0 * * * *", startingDeadlineSeconds=60))
        await clock.advance(HOUR + 600)
        await start(running)
        assert not api.all(JOBS)
        await clock.advance(HOUR)
        assert status(api)["lastScheduleTime"] == "2026-01-01T02:00:00Z"

    async def test_that_a_new_schedule_never_comes_is_told_at_once(self, api: FakeAPI, running: Running) -> None:
        api.add(CRON_JOBS, cron_job("0 3 * * *"))
        await start(running)
        api.change(CRON_JOBS, "night", spec={"schedule": "0 0 30 2 *"})
        await running.settle()
        expected = "invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second"
        assert events(api, "InvalidSchedule") == [expected]

    async def test_a_schedule_that_never_comes_is_told(self, api: FakeAPI, running: Running) -> None:
        api.add(CRON_JOBS, cron_job("59 23 31 2 *"))
        await start(running)
        expected = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second"
        assert events(api, "InvalidSchedule") == [expected]


class TestConcurrency:
    @pytest.mark.parametrize(("policy", "left"), [("Allow", 3), ("Forbid", 1), ("Replace", 1)])
    async def test_jobs_that_still_run(
        self, api: FakeAPI, running: Running, clock: VirtualClock, policy: str, left: int
    ) -> None:
        api.add(CRON_JOBS, cron_job("@hourly", concurrencyPolicy=policy))
        await start(running)
        await clock.advance(3 * HOUR + 1)
        assert len(api.all(JOBS)) == left
        assert len(status(api)["active"]) == left
        assert len(events(api, "SuccessfulDelete")) == (2 if policy == "Replace" else 0)
        first = "2026-01-01T01:00:00Z"
        assert status(api)["lastScheduleTime"] == (first if policy == "Forbid" else "2026-01-01T03:00:00Z")

    async def test_a_forbidden_start_is_told_and_made_up_for(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("@hourly", concurrencyPolicy="Forbid"))
        await start(running)
        await clock.advance(2 * HOUR + 600)
        expected = "Not starting job because prior execution is running and concurrency policy is Forbid"
        assert expected in events(api, "JobAlreadyActive")
        end(api, names(api.all(JOBS))[0])
        await running.settle()
        assert status(api)["lastScheduleTime"] == "2026-01-01T02:00:00Z"


class TestHistory:
    async def test_ended_jobs_leave_the_active_ones_and_the_oldest_are_deleted(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("@hourly", successfulJobsHistoryLimit=2, failedJobsHistoryLimit=1))
        await start(running)
        made = []
        for number in range(6):
            await clock.advance(HOUR)
            made.append(next(one["name"] for one in status(api)["active"]))
            end(api, made[-1], "Failed" if number % 2 else "Complete")
            await running.settle()
        assert names(api.all(JOBS)) == sorted([made[2], made[4], made[5]])
        assert "active" not in status(api)
        completed = api.get(JOBS, made[4])["status"]["completionTime"]  # type: ignore[index]
        assert status(api)["lastSuccessfulTime"] == completed
        assert f"Saw completed job: {made[0]}, condition: Complete" in events(api, "SawCompletedJob")
        assert len(events(api, "SuccessfulDelete")) == 3

    async def test_an_active_job_that_is_gone_is_forgotten(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(CRON_JOBS, cron_job("@hourly"))
        await start(running)
        await clock.advance(HOUR + 1)
        (name,) = names(api.all(JOBS))
        api.remove(JOBS, name)
        await running.settle()
        assert "active" not in status(api)
        assert events(api, "MissingJob") == [f"Active job went missing: {name}"]

    async def test_a_job_somebody_else_made_in_its_name_is_told_and_not_taken_for_a_start(
        self, api: FakeAPI, running: Running
    ) -> None:
        owner = api.add(CRON_JOBS, cron_job("@hourly"))
        await start(running)
        reference = meta.controller_reference(owner, "batch/v1", "CronJob")
        api.add(JOBS, {"metadata": {"name": "manual", "ownerReferences": [reference]}, "spec": {}})
        await running.settle()
        assert "active" not in (api.get(CRON_JOBS, "night") or {}).get("status", {})
        expected = "Saw a job that the controller did not create or forgot: manual"
        assert set(events(api, "UnexpectedJob")) == {expected}
