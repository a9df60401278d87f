"""Removes images that nothing uses when the disk fills up, those first that were not used for longest.

After upstream `pkg/kubelet/images/image_gc_manager.go`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from kubecore.clock import Clock
from kubecore.images.store import ImageStore

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0
HIGH_PERCENT, LOW_PERCENT = 85, 80


class ImageGarbage:
    """`used_percent(root)`: of the disk that the images are on."""

    def __init__(self, store: ImageStore, clock: Clock, *, used_percent: Callable[[Path], float] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._used_percent = used_percent or disk_used_percent

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if self._store.root.is_dir() and self._used_percent(self._store.root) >= HIGH_PERCENT:
                await asyncio.to_thread(self._remove_until, LOW_PERCENT)

    async def remove_all(self) -> bool:
        """Every image that is not in use. True if there was one."""
        return await asyncio.to_thread(self._remove_until, 0)

    def _remove_until(self, percent: float) -> bool:
        removed = False
        for image in sorted(self._store.images(), key=lambda one: self._store.last_used(one.id)):
            if percent and self._used_percent(self._store.root) < percent:
                break
            if not self._store.is_held(image.id):
                log.info("image %s is removed to free disk space", image.names or image.id)
                self._store.remove_image(image.id)
                removed = True
        return removed


def disk_used_percent(root: Path) -> float:
    disk = os.statvfs(root)
    return 100.0 * (1 - disk.f_bavail / disk.f_blocks)
