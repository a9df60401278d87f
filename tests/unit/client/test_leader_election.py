"""Of several candidates for a lease one works at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.client.leader_election import LeaderElection, LeadershipLost, LeaseTimes
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI

LEASES = "leases.coordination.k8s.io"


class Candidates:
    """Candidates by identity; `working` are those whose work runs now, `most` how many ever did at once."""

    def __init__(self, api: FakeAPI, clock: VirtualClock) -> None:
        self.api = api
        self.clock = clock
        self.working: list[str] = []
        self.most = 0
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, identity: str, times: LeaseTimes | None = None) -> None:
        election = LeaderElection(self.api.client(identity), self.clock, "boss", identity=identity, times=times)

        async def work() -> None:
            self.working.append(identity)
            self.most = max(self.most, len(self.working))
            try:
                await asyncio.Event().wait()
            finally:
                self.working.remove(identity)

        self.tasks[identity] = asyncio.create_task(election.run(work), name=identity)

    async def stop(self, identity: str) -> None:
        self.tasks[identity].cancel()
        await asyncio.wait([self.tasks[identity]])

    def lease(self) -> Object:
        found = self.api.get(LEASES, "boss", "kube-system")
        assert found is not None
        spec: Object = found["spec"]
        return spec

    def told(self) -> list[str]:
        found = sorted(self.api.all("events"), key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [event["message"] for event in found if event["reason"] == "LeaderElection"]


@pytest.fixture
async def candidates(api: FakeAPI, clock: VirtualClock) -> AsyncIterator[Candidates]:
    made = Candidates(api, clock)
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)


async def test_the_first_leads_and_renews_and_the_others_stand_by(candidates: Candidates, clock: VirtualClock) -> None:
    for identity in ("a", "b", "c"):
        candidates.start(identity)
        await clock.advance(0.1)
    await clock.advance(3600)
    assert candidates.working == ["a"]
    lease = candidates.lease()
    assert (lease["holderIdentity"], lease["leaseTransitions"], lease["leaseDurationSeconds"]) == ("a", 0, 15)
    assert lease["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert lease["renewTime"] > "2026-01-01T00:59:55"
    assert candidates.told() == ["a became leader"]


async def test_who_ends_gives_the_lease_back_and_the_next_begins_at_its_next_look(
    candidates: Candidates, clock: VirtualClock
) -> None:
    candidates.start("a")
    await clock.advance(1)
    candidates.start("b")
    await clock.advance(1)
    await candidates.stop("a")
    assert "holderIdentity" not in candidates.lease()
    await clock.advance(5)
    assert candidates.working == ["b"]
    assert candidates.lease()["leaseTransitions"] == 1
    assert candidates.told() == ["a became leader", "a stopped leading", "b became leader"]


async def test_a_holder_that_is_silent_is_waited_for_until_its_lease_has_run_out(
    candidates: Candidates, api: FakeAPI, clock: VirtualClock
) -> None:
    # what its clock says is nothing to us
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z"}
    api.add(LEASES, {"metadata": {"name": "boss"}, "spec": spec}, "kube-system")
    candidates.start("a")
    await clock.advance(14)
    assert candidates.working == []
    await clock.advance(6)
    assert candidates.working == ["a"]


async def test_an_identity_that_comes_back_goes_on_at_once(
    candidates: Candidates, api: FakeAPI, clock: VirtualClock
) -> None:
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 600, "leaseTransitions": 4}
    api.add(LEASES, {"metadata": {"name": "boss"}, "spec": spec}, "kube-system")
    candidates.start("a")
    await clock.advance(0.1)
    assert candidates.working == ["a"]
    assert candidates.lease()["leaseTransitions"] == 4


async def test_who_cannot_renew_stops_before_another_may_begin(
    candidates: Candidates, api: FakeAPI, clock: VirtualClock
) -> None:
    candidates.start("a")
    await clock.advance(1)
    candidates.start("b")
    for verb in ("update", "get"):
        api.react(f"{verb} {LEASES}", errors.service_unavailable("down"), times=10)
    await clock.advance(120)
    assert candidates.most == 1
    assert isinstance(candidates.tasks["a"].exception(), LeadershipLost)
    assert candidates.working == ["b"]


async def test_a_short_outage_changes_nothing(candidates: Candidates, api: FakeAPI, clock: VirtualClock) -> None:
    candidates.start("a")
    await clock.advance(1)
    api.react(f"update {LEASES}", errors.service_unavailable("down"), times=3)
    await clock.advance(60)
    assert candidates.working == ["a"]


async def test_who_was_held_up_until_the_deadline_asks_once_more(
    candidates: Candidates, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where something kept the loop busy: the time is up, and the lease is held by nobody else."""
    candidates.start("a")
    await clock.advance(1)
    write, held_up = LeaderElection._write, [11.0]

    async def late(election: LeaderElection, lease: Object | None) -> bool:
        if held_up:
            await clock.sleep(held_up.pop())
        return await write(election, lease)

    monkeypatch.setattr(LeaderElection, "_write", late)
    await clock.advance(60)
    assert (candidates.working, held_up) == (["a"], [])
    assert candidates.told() == ["a became leader"]


async def test_a_lease_that_somebody_took_away_ends_the_work(
    candidates: Candidates, api: FakeAPI, clock: VirtualClock
) -> None:
    candidates.start("a")
    await clock.advance(1)
    api.change(LEASES, "boss", "kube-system", spec={"holderIdentity": "thief", "leaseDurationSeconds": 3600})
    await clock.advance(20)
    assert candidates.working == []
    assert isinstance(candidates.tasks["a"].exception(), LeadershipLost)
    assert candidates.lease()["holderIdentity"] == "thief"


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ({"duration": 10.0}, "leaseDuration must be greater than renewDeadline"),
        ({"renew_deadline": 2.4}, "renewDeadline must be greater than retryPeriod*JitterFactor"),
        ({"retry_period": 0.0}, "retryPeriod must be greater than zero"),
    ],
)
def test_times_that_do_not_fit_together_are_refused(times: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("*", r"\*")):
        LeaseTimes(**times)
