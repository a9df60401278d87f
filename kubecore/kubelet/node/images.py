"""Which images a node has, as its status tells it, so that pods can be placed where their images are.

(kubernetes `pkg/kubelet/nodestatus/setters.go`, `pkg/kubelet/images/image_gc_manager.go`.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kubecore.clock import Clock
from kubecore.images.references import InvalidReference, Reference
from kubecore.images.store import ImageStore
from kubecore.kubelet.runtime.interface import RuntimeFailure, Written

log = logging.getLogger(__name__)

Object = dict[str, Any]

MOST = 50
LOOK_SECONDS = 30.0
_MOST_NAMES = 5


class KnownImage(NamedTuple):
    """`digests`: `REPOSITORY@DIGEST`. `size` in bytes."""

    digests: tuple[str, ...]
    names: tuple[str, ...]
    size: int


class ImageDisk(NamedTuple):
    """A folder of the file system that images are on, and what they take there."""

    root: Path
    used: Written


Source = Callable[[], Awaitable[Sequence[KnownImage]]]
"""Raises RuntimeFailure, TimeoutError or OSError."""


class StoredImages:
    """Those of kubecore's own runtimes. How large one is is found out once, and in a thread."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}
        self._stamp: object = None
        self._known: Sequence[KnownImage] = ()

    async def disk(self) -> ImageDisk:
        return ImageDisk(self._store.root, Written(sum(one.size for one in await self())))

    async def __call__(self) -> Sequence[KnownImage]:
        stamp = self._store.stamp()
        if stamp != self._stamp:
            self._known = await asyncio.to_thread(self._read)
            self._stamp = stamp
        return self._known

    def _read(self) -> Sequence[KnownImage]:
        images = self._store.images()
        self._sizes = {one.id: self._sizes.get(one.id) or one.size for one in images}
        return [KnownImage(one.digests, one.names, self._sizes[one.id]) for one in images]


class NodeImages:
    """`told` is what the status has to say; `changed` is called when that is something else. `most`: how many, -1 for
    all."""

    def __init__(
        self, sources: Iterable[Source], clock: Clock, changed: Callable[[], None], *, most: int = MOST
    ) -> None:
        self._sources = list(sources)
        self._clock = clock
        self._changed = changed
        self._most = most
        self._wakened = asyncio.Event()
        self.told: list[Object] = []

    def wake(self) -> None:
        """One has come."""
        self._wakened.set()

    async def run(self) -> None:
        while True:
            await self.look()
            with suppress(TimeoutError):
                async with self._clock.timeout(LOOK_SECONDS):
                    await self._wakened.wait()
            self._wakened.clear()

    async def look(self) -> None:
        try:
            found = [image for source in self._sources for image in await source()]
        except (RuntimeFailure, TimeoutError, OSError, ValueError, KeyError) as error:  # broken files, too
            log.warning("the node's images are not told: %s", error)
            return
        told = told_of(found, self._most)
        if told != self.told:
            self.told = told
            self._changed()


def told_of(images: Iterable[KnownImage], most: int) -> list[Object]:
    """The largest first."""
    largest = sorted(images, key=lambda one: (-one.size, one.digests, one.names))
    kept = largest if most < 0 else largest[:most]
    return [{"names": _names(one), "sizeBytes": one.size} for one in kept]


def _names(image: KnownImage) -> list[str]:
    """With those by which pods call it: the scheduler compares texts."""
    short = [text for name in image.names if (text := _short(name))]
    return list(dict.fromkeys([*image.digests, *image.names, *short]))[:_MOST_NAMES]


def _short(name: str) -> str:
    """Without the host that is known without, "" where there is another."""
    try:
        found = Reference.parse(name)
    except InvalidReference:
        return ""
    return found.short if found.short != str(found) else ""
