"""Images of a container runtime that nothing uses: when they go, and which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.image_gc import ImageGcConfig
from kubecore.kubelet.runtime.cri.image_gc import CriImageGarbage
from kubecore.kubelet.runtime.interface import RuntimeFailure


class Runtime:
    """One with images, and containers that use some. Each image takes a tenth of the disk."""

    def __init__(self, *names: str) -> None:
        self.images = list(names)
        self.pinned: set[str] = set()
        self.used: set[str] = set()
        self.other_percent = 0.0
        self.failure = ""

    async def in_use(self) -> set[str]:
        return self.used

    async def all(self) -> Sequence[Any]:
        if self.failure:
            raise RuntimeFailure("ImageGCFailed", self.failure)
        return [
            SimpleNamespace(id=f"sha256:{one}", repo_tags=[one], repo_digests=[], pinned=one in self.pinned)
            for one in self.images
        ]

    async def remove(self, image_id: str) -> None:
        self.images.remove(image_id.removeprefix("sha256:"))

    async def disks(self) -> Sequence[Path]:
        return [Path("/images")]

    def used_percent(self, root: Path) -> float:
        assert root == Path("/images")
        return self.other_percent + 10.0 * len(self.images)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def garbage(runtime: Runtime, clock: VirtualClock, **config: Any) -> CriImageGarbage:
    made = ImageGcConfig(**config)
    return CriImageGarbage(runtime, runtime.in_use, clock, made, used_percent=runtime.used_percent)


async def test_on_a_full_disk_those_go_first_that_were_not_used_for_longest(clock: VirtualClock) -> None:
    runtime = Runtime("a", "b", "c", "d")
    collector = garbage(runtime, clock)
    runtime.used = {"sha256:c", "b"}
    await collector.look()
    await clock.advance(300)
    runtime.used = {"sha256:c"}
    runtime.other_percent = 50.0
    await collector.look()
    assert runtime.images == ["b", "c"]


async def test_what_is_used_or_pinned_or_has_just_come_stays(clock: VirtualClock) -> None:
    runtime = Runtime("used", "pinned", "old")
    runtime.used, runtime.pinned = {"used"}, {"pinned"}
    collector = garbage(runtime, clock)
    await collector.look()
    await clock.advance(300)
    runtime.images.append("new")
    assert await collector.remove_all()
    assert runtime.images == ["used", "pinned", "new"]
    assert not await collector.remove_all()


async def test_nothing_goes_while_there_is_room(clock: VirtualClock) -> None:
    runtime = Runtime("a")
    collector = garbage(runtime, clock)
    for _ in range(3):
        await collector.look()
        await clock.advance(3600)
    assert runtime.images == ["a"]


async def test_what_nothing_used_for_too_long_goes_with_room_too(clock: VirtualClock) -> None:
    runtime = Runtime("idle", "busy")
    runtime.used = {"busy"}
    collector = garbage(runtime, clock, oldest_seconds=3600.0)
    for _ in range(12):
        await collector.look()
        await clock.advance(300)
    assert runtime.images == ["idle", "busy"]
    await clock.advance(1)
    await collector.look()
    assert runtime.images == ["busy"]


async def test_a_runtime_that_does_not_answer_loses_nothing(clock: VirtualClock) -> None:
    runtime = Runtime("a")
    collector = garbage(runtime, clock)
    runtime.failure = "the container runtime does not answer"
    assert not await collector.remove_all()
    assert runtime.images == ["a"]
