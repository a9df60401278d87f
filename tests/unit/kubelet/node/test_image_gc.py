"""Images that nothing uses: when they go, and which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.node.image_gc import LOOK_SECONDS, ImageGarbage, ImageGcConfig, ListedImage, Space
from kubecore.kubelet.runtime.interface import RuntimeFailure


class Kept:
    """Some images, of which containers use some. Each takes a tenth of the disk."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.pinned: set[str] = set()
        self.used: set[str] = set()
        self.stuck: set[str] = set()
        self.other_percent = 0.0
        self.failure = ""

    async def images(self) -> Sequence[ListedImage]:
        if self.failure:
            raise RuntimeFailure("ImageGCFailed", self.failure)
        return [ListedImage(one, one, one in self.used, one in self.pinned) for one in self.names]

    async def remove(self, image_id: str) -> None:
        if image_id in self.stuck:
            raise RuntimeFailure("ImageGCFailed", "it is busy")
        self.names.remove(image_id)

    async def space(self) -> Space:
        used = self.other_percent + 10.0 * len(self.names)
        return Space(2048, int(20.48 * (100 - used)))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def garbage(kept: Kept, clock: VirtualClock, **config: Any) -> ImageGarbage:
    return ImageGarbage(kept, clock, ImageGcConfig(**config))


Told = Callable[[Kept], Awaitable[list[tuple[str, str]]]]


@pytest.fixture
async def told(clock: VirtualClock) -> AsyncIterator[Told]:
    """Of the node's events, three looks after those images came."""
    works: list[asyncio.Task[None]] = []

    async def collect(kept: Kept) -> list[tuple[str, str]]:
        events: list[tuple[str, str]] = []
        collector = ImageGarbage(kept, clock, warn=lambda *event: events.append(event))
        works.append(asyncio.create_task(collector.run()))
        await clock.advance(2 * LOOK_SECONDS)
        return events

    yield collect
    for work in works:
        work.cancel()


async def test_a_disk_that_stays_full_is_told_of_the_node(told: Told) -> None:
    kept = Kept("used", "a")
    kept.used, kept.other_percent = {"used"}, 75.0
    young, freed, later = (told_of_a_full_disk(percent, bytes_) for percent, bytes_ in ((95, 0), (95, 205), (85, 0)))
    assert await told(kept) == [
        ("FreeDiskSpaceFailed", young),
        ("FreeDiskSpaceFailed", freed),
        ("ImageGCFailed", freed),
        ("FreeDiskSpaceFailed", later),
        ("ImageGCFailed", later),
    ]
    assert kept.names == ["used"]


def told_of_a_full_disk(percent: int, freed: int) -> str:
    return (
        f"Insufficient free disk space on the node's image filesystem ({percent}% of 2.0 KiB used). "
        f"Failed to free sufficient space by deleting unused images (freed {freed} bytes). "
        "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )


async def test_a_runtime_that_fails_once_is_not_told_and_one_that_goes_on_is(told: Told) -> None:
    kept = Kept("a")
    kept.failure = "the container runtime does not answer"
    assert await told(kept) == [("ImageGCFailed", kept.failure)] * 2


async def test_a_disk_that_is_full_of_other_things_is_not_told_where_there_are_no_images(told: Told) -> None:
    kept = Kept()
    kept.other_percent = 99.0
    assert await told(kept) == []


async def test_on_a_full_disk_those_go_first_that_were_not_used_for_longest(clock: VirtualClock) -> None:
    kept = Kept("a", "b", "c", "d")
    collector = garbage(kept, clock)
    kept.used = {"c", "b"}
    await collector.look()
    await clock.advance(300)
    kept.used = {"c"}
    kept.other_percent = 50.0
    await collector.look()
    assert kept.names == ["b", "c"]


async def test_what_is_used_or_pinned_or_has_just_come_stays(clock: VirtualClock) -> None:
    kept = Kept("used", "pinned", "old")
    kept.used, kept.pinned = {"used"}, {"pinned"}
    collector = garbage(kept, clock)
    await collector.look()
    await clock.advance(300)
    kept.names.append("new")
    assert await collector.remove_all()
    assert kept.names == ["used", "pinned", "new"]
    assert not await collector.remove_all()


async def test_nothing_goes_while_there_is_room(clock: VirtualClock) -> None:
    kept = Kept("a")
    collector = garbage(kept, clock)
    for _ in range(3):
        await collector.look()
        await clock.advance(3600)
    assert kept.names == ["a"]


async def test_what_nothing_used_for_too_long_goes_with_room_too(clock: VirtualClock) -> None:
    kept = Kept("idle", "busy")
    kept.used = {"busy"}
    collector = garbage(kept, clock, oldest_seconds=3600.0)
    for _ in range(12):
        await collector.look()
        await clock.advance(300)
    assert kept.names == ["idle", "busy"]
    await clock.advance(1)
    await collector.look()
    assert kept.names == ["busy"]


async def test_a_runtime_that_does_not_answer_loses_nothing(clock: VirtualClock) -> None:
    kept = Kept("a")
    collector = garbage(kept, clock)
    kept.failure = "the container runtime does not answer"
    assert not await collector.remove_all()
    assert kept.names == ["a"]


async def test_one_that_cannot_be_removed_keeps_no_other_one(clock: VirtualClock) -> None:
    kept = Kept("stuck", "a")
    kept.stuck, kept.other_percent = {"stuck"}, 70.0
    collector = garbage(kept, clock, oldest_seconds=3600.0)
    await collector.look()
    await clock.advance(120)
    assert await collector.remove_all()
    assert kept.names == ["stuck"]
    kept.names.append("b")
    await collector.look()
    await clock.advance(4000)
    await collector.look()
    assert kept.names == ["stuck"]


async def test_a_kubelet_that_has_just_begun_takes_nothing_for_old(clock: VirtualClock) -> None:
    kept = Kept("idle")
    await clock.advance(10_000)
    await garbage(kept, clock, oldest_seconds=3600.0).look()
    assert kept.names == ["idle"]


async def test_what_was_used_all_the_while_is_not_old_when_its_container_ends(clock: VirtualClock) -> None:
    kept = Kept("app")
    kept.used = {"app"}
    collector = garbage(kept, clock, oldest_seconds=600.0)
    for _ in range(5):
        await collector.look()
        await clock.advance(300)
    kept.used = set()
    await collector.look()
    assert kept.names == ["app"]


def test_a_disk_that_is_told_to_have_no_size_is_not_full() -> None:
    """As of some network file systems."""
    assert Space(0, 0).used_percent == 0.0
    assert Space(1000, 150).used_percent == 85.0
