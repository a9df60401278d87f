"""The default store: one LMDB file, one writer thread, group commit.

The writer takes whatever queued up during its previous commit, applies it in one transaction, syncs, publishes, and
answers in one call to the loop. There is no timer: under load the batches grow by themselves, and a lone write goes at
once. Reads run in the same thread, between transactions, so that no reader is ever open while the map grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb

from kubecore.apiserver.storage import layout, reading
from kubecore.apiserver.storage.compaction import Compaction
from kubecore.apiserver.storage.interface import (
    DELETE,
    PUT,
    Compacted,
    DataDirError,
    Event,
    EventSink,
    KeyExists,
    KeyMissing,
    Page,
    RevisionConflict,
    StorageClosed,
    StorageError,
    Stored,
    Template,
)
from kubecore.apiserver.storage.pending import Pending
from kubecore.held_directory import DirectoryInUse, HeldDirectory

if TYPE_CHECKING:
    from kubecore.clock import Clock

log = logging.getLogger(__name__)

_MAX_BATCH = 1024
_FIRST_MAP_BYTES = 64 << 20
_NO_ROOM_BYTES = 1 << 20
"""With less left on the file system, a write that failed has failed for want of room."""
_CREATE, _UPDATE, _DELETE, _READ, _STOP = range(5)


@dataclass(frozen=True, slots=True)
class LMDBConfig:
    """How much history is kept: at most `max_events` writes, and of those older than `max_age` seconds none beyond
    the newest `min_events`. `sync` may be False only where nothing needs to survive (tests that say so)."""

    max_events: int = 100_000
    min_events: int = 10_000
    max_age: float = 600.0
    sync: bool = True


class Operation(Pending[Any]):
    """A queued write or read; its awaitable is itself."""

    __slots__ = ("expected", "head", "key", "kind", "read", "tail")

    kind: int
    key: str
    head: bytes
    tail: bytes
    expected: int
    read: reading.Read | None


Result = tuple[Operation, Any, BaseException | None]
Results = list[Result]
Operations = list[Operation]
Events = list[Event]


class LMDBStorage:
    """`Storage` on LMDB. Opened on the event loop's thread; the directory is locked for this process."""

    def __init__(self, directory: Path, clock: Clock, sink: EventSink, config: LMDBConfig | None = None) -> None:
        self._config = config or LMDBConfig()
        self._clock = clock
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._held = _hold(directory)
        try:
            self._env, self._dbs = _open(directory, self._config.sync)
            self._current, self._log, self._meta = (self._dbs[name] for name in layout.DATABASES)
            self.revision, self.compacted = self._read_meta(directory)
        except BaseException:
            self._held.release()
            raise
        self._compaction: Compaction | None = None
        self._last_check = self.revision
        self._queue: queue.SimpleQueue[Operation] = queue.SimpleQueue()
        self._closed = False
        self._unanswered = 0
        clock.heed(lambda: self._unanswered > 0)
        self.failure: StorageError | None = None
        self._thread = threading.Thread(target=self._run, name="lmdb-writer", daemon=True)
        self._thread.start()

    # --- the protocol, on the loop's thread

    def create(self, key: str, value: Template) -> Operation:
        return self._submit(_CREATE, key, value, 0)

    def update(self, key: str, value: Template, *, expected: int) -> Operation:
        return self._submit(_UPDATE, key, value, expected)

    def delete(self, key: str, last: Template, *, expected: int) -> Operation:
        return self._submit(_DELETE, key, last, expected)

    def get(self, key: str) -> Pending[Stored | None]:
        return self._read(reading.Get(key))

    def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Pending[Page]:
        return self._read(reading.List(prefix, start, limit, revision))

    def events(self, since: int, *, limit: int = 0) -> Pending[Sequence[Event]]:
        return self._read(reading.Events(since, limit))

    def compact(self, revision: int) -> Pending[None]:
        return self._read(reading.Compact(revision))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            stop = self._operation(_STOP)
            self._unanswered += 1
            self._queue.put(stop)
            await stop
            self._thread.join()
            self._env.close()
            self._held.release()

    def _operation(self, kind: int) -> Operation:
        operation = Operation(self._loop)
        operation.kind = kind
        return operation

    def _submit(self, kind: int, key: str, value: Template, expected: int) -> Operation:
        operation = Operation(self._loop)
        operation.kind = kind
        operation.key = key
        operation.head, operation.tail = value
        operation.expected = expected
        self._enqueue(operation)
        return operation

    def _read(self, read: reading.Read) -> Operation:
        operation = self._operation(_READ)
        operation.read = read
        self._enqueue(operation)
        return operation

    def _enqueue(self, operation: Operation) -> None:
        if self._closed or self.failure is not None:
            operation.resolve(None, self.failure or StorageClosed("the store is shutting down"))
        else:
            self._unanswered += 1
            self._queue.put(operation)

    def _deliver(self, results: Results) -> None:
        for operation, result, error in results:
            self._unanswered -= 1
            try:
                operation.resolve(result, error)
            except Exception:  # one waiter's failure must not cost the others their answers
                log.exception("the waiter of a write failed")

    # --- the writer thread

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            stop = next((one for one in batch if one.kind == _STOP), None)
            results = self._process([one for one in batch if one is not stop]) if batch else []
            if stop is not None:
                results.append((stop, None, None))
            try:
                if results:
                    self._loop.call_soon_threadsafe(self._deliver, results)
            except RuntimeError:  # the loop is closed: nobody is left to answer
                return
            if stop is not None:
                return
            self._tend_history()

    def _next_batch(self) -> Operations:
        """What is queued; waits for something unless a compaction has slices left to do."""
        take = self._queue.get_nowait
        batch: Operations = []
        try:
            if self._compaction is None:
                batch.append(self._queue.get())
            while len(batch) < _MAX_BATCH:
                batch.append(take())
        except queue.Empty:
            pass
        return batch

    def _process(self, batch: Operations) -> Results:
        """Everything in queue order: runs of writes share a transaction, a read sees the writes before it."""
        results: Results = []
        writes: Operations = []
        for operation in batch:
            if operation.kind == _READ:
                if writes:
                    results += self._write(writes)
                    writes = []
                results.append(self._perform(operation))
            else:
                writes.append(operation)
        if writes:
            results += self._write(writes)
        return results

    def _write(self, writes: Operations) -> Results:
        """One durable transaction for all of them; a failed precondition fails its own operation only."""
        if self.failure is not None:
            return [(one, None, self.failure) for one in writes]
        try:
            while True:
                try:
                    results, events, revision = self._apply(writes)
                    break
                except lmdb.MapFullError:
                    self._grow()
        except (lmdb.Error, OSError, OverflowError) as error:
            return self._failed(writes, error)
        if events:
            self.revision = revision
            try:
                self._sink.publish(revision, events)
            except Exception as error:
                # Durable but unseen: readers would miss it for ever, so the store takes no more writes.
                log.exception("publishing revision %d failed", revision)
                self.failure = StorageError(f"the watch cache failed: {error}")
        return results

    def _failed(self, writes: Operations, error: Exception) -> Results:
        failure = _failure(error, self._directory)
        log.error("%d writes failed: %s", len(writes), failure)
        if len(writes) > 1:  # one of them may be the culprit: the others deserve a transaction of their own
            return [result for one in writes for result in self._write([one])]
        return [(writes[0], None, failure)]

    def _apply(self, writes: Operations) -> tuple[Results, Events, int]:
        now = int(self._clock.now().timestamp())
        revision = self.revision
        compacted = self.compacted
        results: Results = []
        events: Events = []
        current, history, needed = self._current, self._log, None
        if self._compaction is not None:
            needed = self._compaction.needed
        with self._env.begin(write=True, buffers=True) as txn:
            get, put = txn.get, txn.put
            for operation in writes:
                key = operation.key
                raw_key = key.encode()
                if len(raw_key) > layout.MAX_KEY_BYTES:
                    results.append((operation, None, StorageError(f"key too long: {key}")))
                    continue
                kind = operation.kind
                raw = get(raw_key, db=current)
                previous, created = layout.decode_current_header(raw) if raw is not None else (0, 0)
                error = _precondition(kind, key, operation.expected, previous)
                if error is not None:
                    results.append((operation, None, error))
                    continue
                revision += 1
                value = b"%b%d%b" % (operation.head, revision, operation.tail)
                if needed is not None:
                    needed.add(previous)
                if raw is not None and previous <= compacted:
                    # Compaction took or may take the replaced value's record: reads in the window need it.
                    kept = layout.encode_log(PUT, 0, 0, raw_key, layout.decode_current_value(raw))
                    put(layout.encode_number(previous), kept, db=history)
                if kind == _DELETE:
                    txn.delete(raw_key, db=current)
                else:
                    header = layout.encode_current_header(revision, created or revision)
                    put(raw_key, header + value, db=current)
                event_type = DELETE if kind == _DELETE else PUT
                record = layout.encode_log(event_type, now, previous, raw_key, value)
                put(layout.encode_number(revision), record, db=history, append=True)
                events.append(Event(event_type, key, revision, value, previous))
                results.append((operation, Stored(revision, value), None))
            if events:
                put(layout.META_REVISION, layout.encode_number(revision), db=self._meta)
        return results, events, revision

    def _perform(self, operation: Operation) -> Result:
        read = operation.read
        try:
            if isinstance(read, reading.Compact):
                return self._start_compaction(operation, read.revision)
            assert read is not None
            with self._env.begin(buffers=True) as txn:
                return operation, read.run(txn, self._dbs, self.revision, self.compacted), None
        except StorageError as error:
            return operation, None, error
        except (lmdb.Error, OSError) as error:
            return operation, None, _failure(error, self._directory)

    def _grow(self) -> None:
        size = self._env.info()["map_size"]
        larger = size * 2 if size < 1 << 30 else size + (1 << 30)
        log.info("storage: growing the map to %d MiB", larger >> 20)
        self._env.set_mapsize(larger)

    # --- history

    def _start_compaction(self, operation: Operation, revision: int) -> Result:
        if revision > self.revision:
            return operation, None, StorageError(f"revision {revision} is yet to come, last is {self.revision}")
        if revision <= self.compacted:
            return operation, None, Compacted(revision, self.compacted)
        self._finish_compaction()
        self._compaction = Compaction(revision, self._dbs)
        self._finish_compaction()
        return operation, None, None

    def _finish_compaction(self) -> None:
        while self._compaction is not None:
            self._compaction_slice()

    def _tend_history(self) -> None:
        """After each batch: one slice of a compaction under way, or now and then a look whether one is due."""
        if self._compaction is not None:
            self._compaction_slice()
        elif self.revision - self._last_check >= 1000:
            self._last_check = self.revision
            with self._env.begin(buffers=True) as txn:
                target = reading.compaction_target(
                    txn, self._dbs, self._config, self._clock.now().timestamp(), self.revision, self.compacted
                )
            if target > self.compacted:
                self._compaction = Compaction(target, self._dbs)

    def _compaction_slice(self) -> None:
        compaction = self._compaction
        assert compaction is not None
        try:
            finished = compaction.slice(self._env, self.revision)
        except (lmdb.Error, OSError) as error:
            log.error("storage: compaction stopped: %s", error)
            self._compaction = None
            if isinstance(error, lmdb.MapFullError):
                self._grow()
            return
        if compaction.marked and self.compacted < compaction.revision:
            self.compacted = compaction.revision
            self._sink.compacted(self.compacted)
        if finished:
            self._compaction = None

    def _read_meta(self, directory: Path) -> tuple[int, int]:
        with self._env.begin(buffers=True) as txn:
            found = txn.get(layout.META_FORMAT, db=self._meta)
            if found is None:
                if txn.stat(self._current)["entries"] or txn.stat(self._log)["entries"]:
                    raise DataDirError(f"{directory} holds a database without kubecore's format mark")
            elif bytes(found) != layout.FORMAT:
                raise DataDirError(
                    f"{directory} is of format {bytes(found).decode('utf-8', 'replace')!r}, "
                    f"this kubecore reads {layout.FORMAT.decode()!r}"
                )
            numbers = [txn.get(name, db=self._meta) for name in (layout.META_REVISION, layout.META_COMPACTED)]
            revision, compacted = (0 if raw is None else layout.decode_number(raw) for raw in numbers)
        if found is None:
            with self._env.begin(write=True) as txn:
                txn.put(layout.META_FORMAT, layout.FORMAT, db=self._meta)
        return revision, compacted


def _precondition(kind: int, key: str, expected: int, found: int) -> StorageError | None:
    """Why the write may not happen; `found` is the key's revision, 0 when there is no such key."""
    if kind == _CREATE:
        return KeyExists(key) if found else None
    if not found:
        return KeyMissing(key)
    return RevisionConflict(key, expected, found) if found != expected else None


def _is_full(error: Exception, directory: Path) -> bool:
    """LMDB tells a disk without room, where it has written a part of what it wanted to, as an error of the device."""
    text = str(error)
    if os.strerror(errno.EIO) not in text:
        return os.strerror(errno.ENOSPC) in text
    with contextlib.suppress(OSError):
        disk = os.statvfs(directory)
        return disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES
    return False


def _failure(error: Exception, directory: Path) -> StorageError:
    problem = f"no space left on the file system of {directory}" if _is_full(error, directory) else str(error)
    return StorageError(f"storage failed: {problem}")


def _hold(directory: Path) -> HeldDirectory:
    try:
        return HeldDirectory(directory)
    except DirectoryInUse as error:
        raise DataDirError(str(error)) from error
    except OSError as error:
        raise DataDirError(f"cannot use {directory}: {error}") from error


def _open(directory: Path, sync: bool) -> tuple[lmdb.Environment, dict[bytes, Any]]:
    file = directory / "data.mdb"
    try:
        size = max(_FIRST_MAP_BYTES, file.stat().st_size * 2 if file.exists() else 0)
        env = lmdb.open(
            str(directory), map_size=size, max_dbs=len(layout.DATABASES), metasync=sync, sync=sync, mode=0o600
        )
        return env, {name: env.open_db(name) for name in layout.DATABASES}
    except (lmdb.Error, OSError) as error:
        if _is_full(error, directory):
            detail = f"no space left on the file system of {directory}: make room there, or choose another place"
            raise DataDirError(detail) from error
        raise DataDirError(f"{directory} is damaged or not a kubecore data directory: {error}") from error
