"""Removes images that nothing uses when the disk fills up, those first that were not used for longest.

After upstream `pkg/kubelet/images/image_gc_manager.go`. When an image came and when it was used last is noted at each
look, so that nothing goes for its age before the kubelet itself has run for so long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.runtime.interface import RuntimeFailure

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0
# The last two of a store whose files are broken.
_FAILURES = (RuntimeFailure, TimeoutError, OSError, ValueError, KeyError)


@dataclass(frozen=True, slots=True)
class ImageGcConfig:
    """From how much of the disk on images go, and down to how much. `youngest_seconds`: images that came later stay.
    `oldest_seconds`: those that nothing used for longer go in any case; None: they do not."""

    high_percent: int = 85
    low_percent: int = 80
    youngest_seconds: float = 120.0
    oldest_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ListedImage:
    """`is_pinned`: whoever keeps it wants it kept. `used_at`: tells those apart that nobody was seen to use."""

    id: str
    name: str
    is_used: bool
    is_pinned: bool = False
    used_at: float = 0.0


class Space(NamedTuple):
    """Bytes."""

    capacity: int
    available: int

    @property
    def used_percent(self) -> float:
        """0 of a disk that is told to have no size."""
        return 100.0 * (1 - self.available / self.capacity) if self.capacity else 0.0


class Images(Protocol):
    """Raises RuntimeFailure, TimeoutError or OSError."""

    async def images(self) -> Sequence[ListedImage]: ...

    async def remove(self, image_id: str) -> None: ...

    async def space(self) -> Space:
        """On the disk that they are on."""


@dataclass(slots=True)
class _Known:
    """Seconds of the clock: when it was found, and seen used."""

    since: float
    used: float = -math.inf

    @property
    def idle_since(self) -> float:
        return max(self.since, self.used)


class ImageGarbage:
    def __init__(
        self,
        images: Images,
        clock: Clock,
        config: ImageGcConfig | None = None,
        *,
        listed: Callable[[Collection[str], datetime], None] = lambda images, began: None,
        warn: Callable[[str, str], None] = lambda reason, message: None,
    ) -> None:
        """`listed`: called with the ids of all that there are, now and then, and when they began to be looked for.
        `warn`: of the node's events, with reason and message."""
        self._warn = warn
        self._listed = listed
        self._images = images
        self._clock = clock
        self._config = config or ImageGcConfig()
        self._known: dict[str, _Known] = {}
        self._began = clock.monotonic()

    async def run(self) -> None:
        """(Upstream `pkg/kubelet/kubelet.go`, StartGarbageCollection: who fails once may not have begun yet.)"""
        failed = False
        while True:
            try:
                trouble = await self.look()
            except _FAILURES as error:
                trouble = str(error) or type(error).__name__
            if trouble:
                log.warning("images are not collected: %s", trouble)
                if failed:
                    self._warn("ImageGCFailed", trouble)
            failed = bool(trouble)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> str:
        """Note what is used, remove what is too old, and more where the disk is full. What is told where that did not
        do, "" where it did."""
        unused = await self._unused()
        oldest, now = self._config.oldest_seconds, self._clock.monotonic()
        if oldest is not None and now - self._began > oldest:
            for image in [one for one in unused if now - self._known[one.id].idle_since > oldest]:
                await self._remove(image, "has not been used for long")
                unused.remove(image)
        if not self._known or (before := await self._images.space()).used_percent < self._config.high_percent:
            return ""
        await self._remove_until(self._config.low_percent, unused)
        return self._judged(before, await self._images.space())

    def _judged(self, before: Space, after: Space) -> str:
        freed = after.available - before.available
        if freed >= before.capacity * (100 - self._config.low_percent) // 100 - before.available:
            return ""
        text = (
            f"Insufficient free disk space on the node's image filesystem ({int(before.used_percent)}% of "
            f"{_size(before.capacity)} used). Failed to free sufficient space by deleting unused images "
            f"(freed {max(0, freed)} bytes). "
            "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
        )
        self._warn("FreeDiskSpaceFailed", text)
        return text

    async def remove_all(self) -> bool:
        """Every image that nothing uses and that has not just come. True if one went."""
        try:
            return await self._remove_until(0, await self._unused())
        except _FAILURES as error:
            log.warning("images are not collected: %s", error)
            return False

    async def _remove_until(self, percent: float, unused: Sequence[ListedImage]) -> bool:
        removed, now = False, self._clock.monotonic()
        for image in unused:
            if now - self._known[image.id].since < self._config.youngest_seconds:
                continue
            if percent and (await self._images.space()).used_percent < percent:
                break
            removed |= await self._remove(image, "frees disk space")
        return removed

    async def _unused(self) -> list[ListedImage]:
        """Those first that were not used for longest."""
        began = self._clock.now()
        images, now = await self._images.images(), self._clock.monotonic()
        self._listed([one.id for one in images], began)
        self._known = {one.id: self._known.get(one.id) or _Known(now) for one in images}
        for image in images:
            if image.is_used:
                self._known[image.id].used = now
        rest = [one for one in images if not (one.is_used or one.is_pinned)]
        return sorted(rest, key=lambda one: (self._known[one.id].used, self._known[one.id].since, one.used_at))

    async def _remove(self, image: ListedImage, reason: str) -> bool:
        """One that cannot be removed keeps no other one."""
        try:
            await self._images.remove(image.id)
        except _FAILURES as error:
            log.warning("image %s cannot be removed: %s", image.name, error)
            return False
        log.info("image %s is removed: it %s", image.name, reason)
        return True


class StoredImages:
    """kubecore's own."""

    def __init__(self, store: ImageStore, space: Callable[[Path], Space] | None = None) -> None:
        self._store = store
        self._space = space or disk_space

    async def images(self) -> Sequence[ListedImage]:
        return await asyncio.to_thread(self._listed)

    def _listed(self) -> list[ListedImage]:
        store = self._store
        return [
            ListedImage(
                image.id, ", ".join(image.names) or image.id, store.is_held(image.id), used_at=store.last_used(image.id)
            )
            for image in store.images()
        ]

    async def remove(self, image_id: str) -> None:
        await asyncio.to_thread(self._store.remove_image, image_id)

    async def space(self) -> Space:
        return await asyncio.to_thread(self._space, self._store.root)


def disk_space(root: Path) -> Space:
    disk = os.statvfs(root)
    return Space(disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize)


def _size(count: float) -> str:
    """As upstream shows it."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"
