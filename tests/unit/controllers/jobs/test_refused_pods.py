"""When a Job asks again for pods that were refused, as by a quota."""

from __future__ import annotations

from kubecore.api import errors
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

from .test_job import JOBS, active, finish, job, start


async def test_pods_that_are_refused_are_tried_again_after_a_second_and_then_ever_later(
    api: FakeAPI, running: Running
) -> None:
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota: q"), times=4)
    api.add(JOBS, job())
    await start(running)
    assert len(api.writes("create pods")) == 2, "at once, and when its status is written"
    await running.clock.advance(6)
    assert not active(api)
    await running.clock.advance(10)
    assert active(api)


async def test_when_a_pod_ends_those_that_were_refused_are_tried_soon(api: FakeAPI, running: Running) -> None:
    api.add(JOBS, job(completions=3, parallelism=2))
    await start(running)
    first, second = active(api)
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota: q"), times=8)
    finish(api, first)
    await running.clock.advance(40)
    assert active(api) == [second]
    finish(api, second)
    await running.clock.advance(4)
    assert active(api)
