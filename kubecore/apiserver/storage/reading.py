"""Reads of the LMDB file, each one a small object run in the writer thread within a read transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kubecore.apiserver.storage import layout
from kubecore.apiserver.storage.interface import Compacted, Event, Page, StorageError, Stored

if TYPE_CHECKING:
    from kubecore.apiserver.storage.lmdb import LMDBConfig

Databases = Mapping[bytes, Any]


class Read(Protocol):
    def run(self, txn: Any, dbs: Databases, revision: int, compacted: int) -> object:
        """The answer, with the store at `revision` and history kept above `compacted`."""


@dataclass(frozen=True, slots=True)
class Get:
    key: str

    def run(self, txn: Any, dbs: Databases, revision: int, compacted: int) -> Stored | None:
        raw = txn.get(self.key.encode(), db=dbs[layout.CURRENT])
        return None if raw is None else _stored(raw)


@dataclass(frozen=True, slots=True)
class List:
    prefix: str
    start: str
    limit: int
    revision: int

    def run(self, txn: Any, dbs: Databases, revision: int, compacted: int) -> Page:
        at = self.revision or revision
        if at > revision:
            raise StorageError(f"revision {at} is yet to come, last is {revision}")
        if at < compacted:
            raise Compacted(at, compacted)
        replaced = {} if at == revision else _replaced_since(txn, dbs, at, self.prefix)
        merged = self._merged(txn, dbs, at, replaced)
        items: list[tuple[str, Stored]] = []
        for key, stored in merged:
            if self.limit and len(items) == self.limit:
                return Page(at, items, key)
            items.append((key, stored))
        return Page(at, items)

    def _merged(self, txn: Any, dbs: Databases, at: int, replaced: dict[str, int]) -> list[tuple[str, Stored]]:
        """Entries as of `at`, in key order: those untouched since, and what the touched ones were."""
        prefix = self.prefix.encode()
        begin = max(prefix, self.start.encode())
        found: list[tuple[str, Stored]] = []
        enough = self.limit + 1 if self.limit and not replaced else 0
        cursor = txn.cursor(db=dbs[layout.CURRENT])
        more = cursor.set_range(begin)
        while more:
            key = bytes(cursor.key())
            if not key.startswith(prefix):
                break
            stored = _stored(cursor.value())
            if stored.revision <= at:
                found.append((key.decode(), stored))
                if len(found) == enough:
                    break
            more = cursor.next()
        for text, previous in replaced.items():
            if previous and text.encode() >= begin:
                raw = txn.get(layout.encode_number(previous), db=dbs[layout.LOG])
                if raw is None:
                    raise StorageError(f"the log lacks revision {previous} of {text}")
                found.append((text, Stored(previous, layout.decode_log(raw).value)))
        if replaced:
            found.sort(key=lambda entry: entry[0].encode())
        return found


@dataclass(frozen=True, slots=True)
class Events:
    since: int
    limit: int

    def run(self, txn: Any, dbs: Databases, revision: int, compacted: int) -> list[Event]:
        if self.since < compacted:
            raise Compacted(self.since, compacted)
        events: list[Event] = []
        cursor = txn.cursor(db=dbs[layout.LOG])
        more = cursor.set_range(layout.encode_number(self.since + 1))
        while more and not (self.limit and len(events) == self.limit):
            record = layout.decode_log(cursor.value())
            number = layout.decode_number(cursor.key())
            events.append(Event(record.type, record.key, number, record.value, record.previous))
            more = cursor.next()
        return events


@dataclass(frozen=True, slots=True)
class Compact:
    """Not a read, but it waits in the same queue."""

    revision: int

    def run(self, txn: Any, dbs: Databases, revision: int, compacted: int) -> None:
        raise StorageError("compaction is done by the writer")


def _stored(raw: Any) -> Stored:
    mod, _ = layout.decode_current_header(raw)
    return Stored(mod, layout.decode_current_value(raw))


def _replaced_since(txn: Any, dbs: Databases, at: int, prefix: str) -> dict[str, int]:
    """Keys written after `at`, with the revision they had then (0: they did not exist)."""
    replaced: dict[str, int] = {}
    cursor = txn.cursor(db=dbs[layout.LOG])
    more = cursor.set_range(layout.encode_number(at + 1))
    while more:
        record = layout.decode_log(cursor.value())
        if record.key.startswith(prefix):
            replaced.setdefault(record.key, record.previous)
        more = cursor.next()
    return replaced


def compaction_target(txn: Any, dbs: Databases, config: LMDBConfig, now: float, revision: int, compacted: int) -> int:
    """Up to which revision history may go now; `compacted` or less when nothing is due.

    A quarter of slack keeps compactions rare and worth their scan."""
    kept = revision - compacted
    by_count = revision - config.max_events if kept > config.max_events * 1.25 else compacted
    by_age = compacted
    if kept > config.min_events * 1.25:
        by_age = _newest_before(txn, dbs, now - config.max_age, compacted, revision - config.min_events)
    return max(by_count, by_age)


def _newest_before(txn: Any, dbs: Databases, time: float, low: int, high: int) -> int:
    """The last revision in (low, high] committed before `time`, else `low`; times never fall along the log."""
    while low < high:
        middle = (low + high + 1) // 2
        raw = txn.get(layout.encode_number(middle), db=dbs[layout.LOG])
        if raw is not None and layout.decode_log_header(raw).time < time:
            low = middle
        else:
            high = middle - 1
    return low
