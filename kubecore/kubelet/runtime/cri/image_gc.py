"""Removes images of a container runtime that nothing uses, as `kubelet/image_gc.py` does those of kubecore's own.

A container runtime does not tell when an image was used last: that is noted here whenever it is looked (upstream
`pkg/kubelet/images/image_gc_manager.go`, detectImages).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubecore.clock import Clock
from kubecore.kubelet.image_gc import LOOK_SECONDS, ImageGcConfig, disk_used_percent
from kubecore.kubelet.runtime.interface import RuntimeFailure

log = logging.getLogger(__name__)


class Images(Protocol):
    """Of the runtime (`images.CriImages`). All raise RuntimeFailure and TimeoutError."""

    async def all(self) -> Sequence[Any]:
        """As it tells them (message `Image`)."""

    async def remove(self, image_id: str) -> None: ...

    async def disks(self) -> Sequence[Path]:
        """Where they are."""


@dataclass
class _Known:
    """Seconds of the clock: when it was found, and seen used."""

    since: float
    used: float = -math.inf

    @property
    def idle_since(self) -> float:
        return max(self.since, self.used)


class CriImageGarbage:
    """`in_use()`: what images containers have, by id or name, whoever's they are. `used_percent(root)`: of a disk."""

    def __init__(
        self,
        images: Images,
        in_use: Callable[[], Awaitable[set[str]]],
        clock: Clock,
        config: ImageGcConfig,
        *,
        used_percent: Callable[[Path], float] = disk_used_percent,
    ) -> None:
        self._images = images
        self._in_use = in_use
        self._clock = clock
        self._config = config
        self._used_percent = used_percent
        self._known: dict[str, _Known] = {}
        self._began = clock.monotonic()

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except (RuntimeFailure, TimeoutError, OSError) as error:
                log.warning("images of the container runtime: %s", error)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Note what is used, remove what is too old, and more where the disk is full."""
        unused = await self._unused()
        oldest, now = self._config.oldest_seconds, self._clock.monotonic()
        if oldest is not None and now - self._began > oldest:
            for image in [one for one in unused if now - self._known[one.id].idle_since > oldest]:
                await self._remove(image, "has not been used for long")
                unused.remove(image)
        if await self._disk_used() >= self._config.high_percent:
            await self._remove_until(self._config.low_percent, unused)

    async def remove_all(self) -> bool:
        """Every image that is not in use. True if there was one."""
        try:
            return await self._remove_until(0, await self._unused())
        except (RuntimeFailure, TimeoutError, OSError) as error:
            log.warning("images of the container runtime: %s", error)
            return False

    async def _remove_until(self, percent: float, unused: list[Any]) -> bool:
        removed, now = False, self._clock.monotonic()
        for image in unused:
            if now - self._known[image.id].since < self._config.youngest_seconds:
                continue
            if percent and await self._disk_used() < percent:
                break
            await self._remove(image, "frees disk space")
            removed = True
        return removed

    async def _unused(self) -> list[Any]:
        """Those first that were not used for longest; none that the runtime keeps for itself."""
        used = await self._in_use()
        images = await self._images.all()
        now = self._clock.monotonic()
        self._known = {one.id: self._known.get(one.id) or _Known(now) for one in images}
        unused = []
        for image in images:
            if used.isdisjoint(_names(image)):
                unused.append(image)
            else:
                self._known[image.id].used = now
        rest = [one for one in unused if not one.pinned]
        return sorted(rest, key=lambda one: (self._known[one.id].used, self._known[one.id].since))

    async def _disk_used(self) -> float:
        percents = [await asyncio.to_thread(self._used_percent, root) for root in await self._images.disks()]
        return max(percents, default=0.0)

    async def _remove(self, image: Any, reason: str) -> None:
        log.info("image %s of the container runtime is removed: it %s", next(_names(image)), reason)
        await self._images.remove(image.id)


def _names(image: Any) -> Iterator[str]:
    yield from (*image.repo_tags, *image.repo_digests, image.id)
