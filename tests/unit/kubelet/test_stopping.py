"""How the containers of a whole node end: all together, and with a runtime that does not answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from kubecore.clock import VirtualClock
from kubecore.kubelet.runtime.interface import ContainerState
from kubecore.kubelet.runtime.stopping import SHUTDOWN_GRACE_SECONDS, stop_running

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


class Stopped:
    """A runtime of some containers, which take some time of the clock to stop."""

    def __init__(self, clock: VirtualClock, takes: float, **states: ContainerState) -> None:
        self._clock, self._takes, self._states = clock, takes, states
        self.asked: dict[str, float] = {}

    def list_containers(self) -> list[Any]:
        return [SimpleNamespace(id=name, state=state) for name, state in self._states.items()]

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        self.asked[container_id] = grace_seconds
        await self._clock.sleep(self._takes)
        if container_id == "broken":
            raise OSError("cannot be stopped")


async def test_all_that_run_are_stopped_at_once_and_named_whether_or_not_they_could_be() -> None:
    clock = VirtualClock()
    runtimes = [Stopped(clock, 1, a=RUNNING, b=EXITED), Stopped(clock, 1, broken=RUNNING)]
    stopping = asyncio.ensure_future(stop_running(clock, cast(Any, runtimes), 1.5))
    await clock.advance(1)
    assert await stopping == {"a", "broken"}
    assert [one.asked for one in runtimes] == [{"a": 1.5}, {"broken": 1.5}]


async def test_a_runtime_that_does_not_answer_is_left_a_while_after_the_grace() -> None:
    clock = VirtualClock()
    silent = Stopped(clock, 3600, a=RUNNING)
    stopping = asyncio.ensure_future(stop_running(clock, cast(Any, [silent]), 0.5))
    await clock.advance(0.5 + SHUTDOWN_GRACE_SECONDS - 0.001)
    assert not stopping.done()
    await clock.advance(0.001)
    assert await stopping is None
