"""Whatever pods, users and a failing API do, and however often the controller restarts: a Job counts each pod once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kubecore.api import errors
from kubecore.clock import VirtualClock
from kubecore.controllers.jobs.job import JobController
from kubecore.controllers.jobs.orphans import JobOrphanController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running
from tests.unit.controllers.jobs.test_job import INDEX, JOBS, TRACKING, finish, indexed, job, status

WRITES = ("update jobs.batch/status", "patch pods", "create pods", "delete pods")
COMPLETIONS = 8


class World:
    """A Job, and a ledger of how its pods ended while they were tracked."""

    def __init__(self, api: FakeAPI, clock: VirtualClock, dice: random.Random, *, by_index: bool) -> None:
        self.api = api
        self.clock = clock
        self.dice = dice
        self.by_index = by_index
        self.succeeded: set[str] = set()
        self.failed = 0
        self.running: Running | None = None
        limits = {"backoffLimit": 10_000, "parallelism": 3}
        api.add(JOBS, indexed(COMPLETIONS, **limits) if by_index else job(completions=COMPLETIONS, **limits))

    async def restart(self) -> None:
        if self.running is not None:
            await self.running.stop()
        self.running = Running(self.api, self.clock)
        await self.running.start(JobController(self.running.context), JobOrphanController(self.running.context))

    def active(self) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self.api.all("pods")
            if pod["status"]["phase"] == "Pending"
            and TRACKING in pod["metadata"].get("finalizers", ())
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def end_one(self, phase: str) -> None:
        names = self.active()
        if not names or self.is_over():
            return
        name = self.dice.choice(names)
        pod = self.api.get("pods", name)
        assert pod is not None
        finish(self.api, name, phase, code=0 if phase == "Succeeded" else 1)
        if phase == "Succeeded":
            self.succeeded.add(pod["metadata"]["annotations"][INDEX] if self.by_index else name)
        else:
            self.failed += 1

    async def delete_one(self) -> None:
        names = self.active()
        if names and not self.is_over():
            assert self.running is not None
            await self.api.client("user").delete("pods", self.dice.choice(names), "default")
            self.failed += 1

    async def step(self) -> None:
        what = self.dice.choice(["succeed", "fail", "delete", "refuse", "restart", "scale", "wait", "wait"])
        if what == "succeed":
            self.end_one("Succeeded")
        elif what == "fail":
            self.end_one("Failed")
        elif what == "delete":
            await self.delete_one()
        elif what == "refuse":
            error = self.dice.choice([errors.internal_error("no"), errors.conflict("", "pods", "x"), OSError("gone")])
            self.api.react(self.dice.choice(WRITES[:3]), error, times=self.dice.randint(1, 4))
        elif what == "restart":
            await self.restart()
        elif what == "scale":
            self.api.change(JOBS, "work", spec={"parallelism": self.dice.randint(0, 4)})
        await self.clock.advance(self.dice.choice([0.01, 0.12, 1, 30, 700]))

    def is_over(self) -> bool:
        return any(one["type"] == "Complete" for one in self.told().get("conditions") or ())

    def told(self) -> dict[str, Any]:
        return status(self.api) if "status" in (self.api.get(JOBS, "work") or {}) else {}

    def check(self) -> None:
        told = self.told()
        uncounted = told.get("uncountedTerminatedPods") or {}
        assert (told.get("succeeded") or 0) + len(uncounted.get("succeeded") or ()) <= len(self.succeeded)
        assert (told.get("failed") or 0) + len(uncounted.get("failed") or ()) <= self.failed


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize("seed", range(15))
async def test_every_pod_is_counted_once(api: FakeAPI, clock: VirtualClock, seed: int, by_index: bool) -> None:
    world = World(api, clock, random.Random(seed), by_index=by_index)
    await world.restart()
    assert world.running is not None
    for _ in range(40):
        await world.step()
        world.check()
    api.change(JOBS, "work", spec={"parallelism": 3})
    for _ in range(COMPLETIONS + 2):
        await clock.advance(1200)
        while world.active() and not world.is_over() and len(world.succeeded) < COMPLETIONS:
            world.end_one("Succeeded")
    await clock.advance(1200)
    told = world.told()
    assert world.is_over()
    assert (told.get("succeeded"), told.get("failed") or 0) == (len(world.succeeded), world.failed)
    assert not [pod for pod in api.all("pods") if TRACKING in pod["metadata"].get("finalizers", ())]
    await world.running.stop()
