from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.jobs.ttl_after_finished import TTLAfterFinishedController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

DELETE = "delete jobs.batch"


def job(name: str, ttl: int | None, *, condition: str = "", at: str = "") -> Object:
    spec = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    made: Object = {"metadata": {"name": name}, "spec": spec}
    if condition:
        made["status"] = {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": at}]}
    return made


def deleted(api: FakeAPI) -> list[str]:
    """Jobs whose deletion was asked for; they stay until a garbage collector has seen to their dependents."""
    return sorted(request.name for request in api.writes(DELETE))


def now(clock: VirtualClock) -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_a_finished_job_goes_once_its_time_is_over(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    for name, condition in (("complete", "Complete"), ("failed", "Failed")):
        api.add("jobs.batch", job(name, 60, condition=condition, at=now(clock)), "default")
    await running.start(TTLAfterFinishedController(running.context))
    await clock.advance(50)
    assert deleted(api) == []
    await clock.advance(15)
    assert deleted(api) == ["complete", "failed"]
    for one in api.writes(DELETE):
        assert one.body["propagationPolicy"] == "Foreground"
        assert one.body["preconditions"] == {"uid": api.get("jobs.batch", one.name)["metadata"]["uid"]}  # type: ignore[index]


async def test_zero_seconds_are_at_once(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add("jobs.batch", job("done", 0, condition="Complete", at=now(clock)), "default")
    await running.start(TTLAfterFinishedController(running.context))
    assert deleted(api) == ["done"]


async def test_jobs_that_run_or_say_no_time_stay(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add("jobs.batch", job("runs", 0), "default")
    api.add("jobs.batch", job("suspended", 0, condition="Suspended", at=now(clock)), "default")
    api.add("jobs.batch", job("kept", None, condition="Complete", at=now(clock)), "default")
    await running.start(TTLAfterFinishedController(running.context))
    await clock.advance(100_000)
    assert deleted(api) == []


async def test_a_job_whose_time_is_prolonged_stays_for_the_new_one(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add("jobs.batch", job("done", 60, condition="Complete", at=now(clock)), "default")
    await running.start(TTLAfterFinishedController(running.context))
    await clock.advance(30)
    api.change("jobs.batch", "done", spec={"ttlSecondsAfterFinished": 120})
    await clock.advance(60)
    assert deleted(api) == []
    await clock.advance(60)
    assert deleted(api) == ["done"]
