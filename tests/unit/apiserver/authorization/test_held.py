"""Reviews of rights that are held: how often, how many questions at once, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kubecore._native import UserInfo
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.authorizer import Decision, Unanswered
from kubecore.apiserver.authorization.held import HeldRight, HeldRights
from kubecore.clock import VirtualClock

JANE, JOE = UserInfo("jane", "", []), UserInfo("joe", "", [])
ALLOWED, REFUSED = Decision(True), Decision(False)


class Seen:
    current = True


@dataclass
class World:
    """An authorizer that allows Joe at once as long as nobody takes it from him, and has to ask for others."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    changed: Callable[[], None] | None = None
    joe: Decision = ALLOWED
    asks_webhooks: bool = True
    reviews: int = 0
    asking: int = 0
    most_asking: int = 0
    asked: int = 0
    answer: asyncio.Future[Decision] | None = None

    # --- as the native one

    def policy(self) -> Seen:
        return Seen()

    def review(self) -> list[Any]:
        self.reviews += 1
        return []

    # --- as Python's

    def changes_unseen(self, user: UserInfo, attributes: Attributes) -> bool:
        return True

    def allows(self, user: UserInfo, attributes: Attributes) -> bool:
        return user == JOE and self.joe.allowed

    def authorize(self, user: UserInfo, attributes: Attributes) -> Decision:
        if user == JOE:
            return self.joe
        raise Unanswered(0, user, attributes)

    async def decide(self, user: UserInfo, attributes: Attributes) -> Decision:
        self.asked += 1
        self.asking += 1
        self.most_asking = max(self.most_asking, self.asking)
        try:
            return await asyncio.shield(self.answer) if self.answer is not None else ALLOWED
        finally:
            self.asking -= 1


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def rights(world: World) -> HeldRights:
    return HeldRights(world, world, world.clock)  # type: ignore[arg-type]


def hold(rights: HeldRights, user: UserInfo, name: str = "") -> list[HeldRight]:
    """What has lapsed, as a list that grows."""
    lapsed: list[HeldRight] = []
    right = rights.of(user, Attributes("watch", "", "v1", "configmaps", "", "default", name))
    rights.hold(right, lambda: lapsed.append(right))
    return lapsed


async def test_all_is_looked_at_once_a_minute(world: World, rights: HeldRights) -> None:
    joes = hold(rights, JOE)
    await world.clock.advance(59)
    assert world.reviews == 0
    world.joe = REFUSED
    await world.clock.advance(1)
    assert (world.reviews, len(joes)) == (1, 1)


async def test_many_changes_at_once_are_one_review_now_and_one_a_second_later(world: World, rights: HeldRights) -> None:
    for _ in range(100):
        rights.changed()
        await world.clock.settle()
    assert world.reviews == 1
    await world.clock.advance(30)
    assert world.reviews == 2


async def test_a_webhook_that_does_not_answer_is_asked_little_and_holds_up_nobody_else(
    world: World, rights: HeldRights
) -> None:
    world.answer = asyncio.get_running_loop().create_future()
    of_jane = [hold(rights, JANE, f"m{number}") for number in range(1000)]
    joes = hold(rights, JOE)
    rights.changed()
    await world.clock.advance(1)
    assert (world.asked, world.most_asking) == (16, 16)
    world.joe = REFUSED
    rights.changed()
    await world.clock.advance(1)
    assert (world.asked, len(joes)) == (16, 1)
    world.answer.set_result(Decision(False, error="no answer"))
    await world.clock.advance(0)
    assert (world.asked, world.most_asking) == (1000, 16)
    assert not any(of_jane)


async def test_what_many_watch_is_asked_once(world: World, rights: HeldRights) -> None:
    world.answer = asyncio.get_running_loop().create_future()
    of_jane = [hold(rights, JANE) for _ in range(1000)]
    await world.clock.advance(60)
    assert world.asked == 1
    world.answer.set_result(REFUSED)
    await world.clock.advance(0)
    assert all(of_jane)


async def test_what_is_let_go_is_not_asked_for(world: World, rights: HeldRights) -> None:
    right = rights.of(JANE, Attributes("watch", "", "v1", "configmaps"))
    rights.hold(right, lambda: None)
    rights.release(right)
    await world.clock.advance(60)
    assert (world.reviews, world.asked) == (1, 0)


async def test_nothing_is_looked_at_when_all_is_closed(world: World, rights: HeldRights) -> None:
    rights.changed()
    rights.close()
    rights.changed()
    await world.clock.advance(600)
    assert world.reviews == 0
