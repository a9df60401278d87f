"""Removes images that nothing uses when the disk fills up, those first that were not used for longest.

After upstream `pkg/kubelet/images/image_gc_manager.go`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubecore.clock import Clock
from kubecore.images.store import Image, ImageStore

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ImageGcConfig:
    """From how much of the disk on images go, and down to how much. `youngest_seconds`: images that came later stay.
    `oldest_seconds`: those that nothing used for longer go in any case; None: they do not."""

    high_percent: int = 85
    low_percent: int = 80
    youngest_seconds: float = 120.0
    oldest_seconds: float | None = None


class ImageGarbage:
    """`used_percent(root)`: of the disk that the images are on."""

    def __init__(
        self,
        store: ImageStore,
        clock: Clock,
        config: ImageGcConfig | None = None,
        *,
        used_percent: Callable[[Path], float] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._config = config or ImageGcConfig()
        self._used_percent = used_percent or disk_used_percent

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if self._store.root.is_dir():
                await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Remove what is too old, and more where the disk is full."""
        if self._config.oldest_seconds is not None:
            for image in self._unused(self._config.oldest_seconds):
                self._remove(image, "has not been used for long")
        if self._used_percent(self._store.root) >= self._config.high_percent:
            self._remove_until(self._config.low_percent)

    async def remove_all(self) -> bool:
        """Every image that is not in use. True if there was one."""
        return await asyncio.to_thread(self._remove_until, 0)

    def _remove_until(self, percent: float) -> bool:
        removed = False
        for image in self._unused(self._config.youngest_seconds):
            if percent and self._used_percent(self._store.root) < percent:
                break
            self._remove(image, "frees disk space")
            removed = True
        return removed

    def _unused(self, seconds: float) -> list[Image]:
        """For so long, those first that nothing used for longest."""
        until = self._clock.now().timestamp() - seconds
        used = [(self._store.last_used(image.id), image) for image in self._store.images()]
        rest = [pair for pair in used if pair[0] <= until and not self._store.is_held(pair[1].id)]
        return [image for _, image in sorted(rest, key=lambda pair: pair[0])]

    def _remove(self, image: Image, reason: str) -> None:
        log.info("image %s is removed: it %s", image.names or image.id, reason)
        self._store.remove_image(image.id)


def disk_used_percent(root: Path) -> float:
    disk = os.statvfs(root)
    return 100.0 * (1 - disk.f_bavail / disk.f_blocks)
