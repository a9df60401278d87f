"""The default store: one LMDB file and one writer thread in Rust (native/store), bound to the event loop.

The writer takes whatever queued up during its previous commit, applies it in one transaction, syncs, publishes, and
answers all of it with one ring of an eventfd: it never needs the GIL, except for a sink in Python. What is written in
one turn of the loop reaches it together. There is no timer: under load the batches grow by themselves, and a lone write
goes at once. In virtual time nothing goes on while a write is under way: where that need not wait for a disk, there is
no thread.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore._native import Store
from kubecore.apiserver.storage.interface import DataDirError, Event, EventSink, Page, StorageError, Stored, Value
from kubecore.clock import VirtualClock, native_clock
from kubecore.held_directory import DirectoryInUse, HeldDirectory

if TYPE_CHECKING:
    from kubecore.apiserver.storage.encryption import Rule
    from kubecore.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LMDBConfig:
    """How much history is kept: at most `max_events` writes, and of those older than `max_age` seconds none beyond
    the newest `min_events`. `sync` may be False only where nothing needs to survive (tests that say so)."""

    max_events: int = 100_000
    min_events: int = 10_000
    max_age: float = 600.0
    sync: bool = True


_FILE = "data.mdb"
_LONGEST_WAIT_MILLISECONDS = 1
# What stat(2) counts in.
_BLOCK = 512


class LMDBStorage:
    """`Storage` on LMDB. Opened on the event loop's thread; the directory is locked for this process.

    Raises DataDirError. A sink that has a `feed` is fed in Rust, without the GIL; the methods of others are called in
    the writer thread.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        sink: EventSink,
        config: LMDBConfig | None = None,
        *,
        encryption: Sequence[Rule] = (),
    ) -> None:
        """`encryption` are prefixes of keys and the providers by which their values are sealed in the file."""
        limits = config or LMDBConfig()
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._held = _hold(directory)
        try:
            self._native = Store(
                directory,
                self._loop,
                getattr(sink, "feed", sink),
                clock=native_clock(clock),
                max_events=limits.max_events,
                min_events=limits.min_events,
                max_age=limits.max_age,
                sync=limits.sync,
                encryption=encryption,
                # The loop would wait for the writer anyway.
                own_thread=limits.sync or not isinstance(clock, VirtualClock),
            )
        except BaseException:
            self._held.release()
            raise
        self._closed = False
        bell = select.poll()
        bell.register(self._native.fileno(), select.POLLIN)
        clock.heed(self._native.busy, partial(bell.poll, _LONGEST_WAIT_MILLISECONDS))
        self._loop.add_reader(self._native.fileno(), self._drain)

    def allocated(self) -> int:
        """Bytes on disk that the file of all objects takes. Raises OSError."""
        return (self._directory / _FILE).stat().st_blocks * _BLOCK

    def create(self, key: str, value: Value) -> Awaitable[Stored]:
        return self._native.create(key, value)

    def update(self, key: str, value: Value, *, expected: int) -> Awaitable[Stored]:
        return self._native.update(key, value, expected=expected)

    def delete(self, key: str, last: Value, *, expected: int) -> Awaitable[Stored]:
        return self._native.delete(key, last, expected=expected)

    def get(self, key: str) -> Awaitable[Stored | None]:
        return self._native.get(key)

    def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Awaitable[Page]:
        return self._native.list(prefix, start=start, limit=limit, revision=revision)

    def events(self, since: int, *, limit: int = 0) -> Awaitable[Sequence[Event]]:
        return self._native.events(since, limit=limit)

    def compact(self, revision: int) -> Awaitable[None]:
        return self._native.compact(revision)

    def encrypt(self, encryption: Sequence[Rule]) -> Awaitable[None]:
        """Values are sealed so from now on; done when those that are there are, too. Raises StorageError."""
        return self._native.encrypt(encryption)

    def hold(self) -> None:
        self._native.hold()

    def hand_over(self) -> None:
        self._native.hand_over()

    @property
    def revision(self) -> int:
        return self._native.revision

    @property
    def compacted(self) -> int:
        return self._native.compacted

    @property
    def failure(self) -> StorageError | None:
        """Why the store takes no more work."""
        failure = self._native.failure
        return None if failure is None else StorageError(failure)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                await self._native.stop()
            finally:
                # Also when who closes it is cancelled: all that was handed over is answered, and the file closed.
                self._native.join()
                self._drain()
                self._loop.remove_reader(self._native.fileno())
                self._held.release()

    def _drain(self) -> None:
        """Answers what the writer has done."""
        for level, message, error in self._native.drain():
            log.log(level, "%s", message, exc_info=error)


def _hold(directory: Path) -> HeldDirectory:
    try:
        return HeldDirectory(directory)
    except DirectoryInUse as error:
        raise DataDirError(str(error)) from error
    except OSError as error:
        raise DataDirError(f"cannot use {directory}: {error}") from error
