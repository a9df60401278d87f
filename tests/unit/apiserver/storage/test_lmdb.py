"""What is particular to the LMDB store: its file, its growth, its history window."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubecore.apiserver.storage.interface import DELETE, PUT, DataDirError, Event, KeyExists, StorageError, Template
from kubecore.apiserver.storage.lmdb import LMDBConfig, LMDBStorage
from kubecore.clock import RealClock, VirtualClock
from kubecore.driving import drive
from tests.support import lmdb_file


class NullSink:
    def publish(self, revision: int, events: Sequence[Event]) -> None:
        pass

    def compacted(self, revision: int) -> None:
        pass


class RevisionsSink(NullSink):
    """The last revision of each batch that was published."""

    def __init__(self) -> None:
        self.revisions: list[int] = []

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        self.revisions.append(revision)


class FailingSink(NullSink):
    def publish(self, revision: int, events: Sequence[Event]) -> None:
        raise RuntimeError("no room")


def _value(size: int = 10) -> Template:
    return Template(b"<", b">" + b"x" * size)


async def test_the_map_grows_under_a_write_that_does_not_fit(tmp_path: Path) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    writes = [storage.create(f"/registry/core/pods/ns/{n}", _value(1 << 20)) for n in range(100)]
    await asyncio.gather(*writes)
    assert len((await storage.list("/registry/")).items) == 100
    await storage.close()


async def test_what_is_written_in_one_turn_of_the_loop_shares_a_transaction(tmp_path: Path) -> None:
    sink = RevisionsSink()
    storage = LMDBStorage(tmp_path, RealClock(), sink)
    await asyncio.gather(*(storage.create(f"/registry/a/{n}", _value()) for n in range(20)))
    assert sink.revisions == [20]
    await storage.close()


async def test_what_is_held_waits_and_shares_a_transaction(tmp_path: Path) -> None:
    sink = RevisionsSink()
    storage = LMDBStorage(tmp_path, RealClock(), sink)
    storage.hold()
    writes = [storage.create(f"/registry/a/{n}", _value()) for n in range(20)]
    assert storage.revision == 0
    storage.hand_over()
    await asyncio.gather(*writes)
    assert sink.revisions == [20]
    await storage.close()


async def test_the_writer_begins_with_a_part_of_many_writes(tmp_path: Path) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    storage.hold()
    writes = [storage.create(f"/registry/a/{n}", _value()) for n in range(100)]
    while storage.revision == 0:
        pass  # nobody hands over, and the loop does not turn: the writer has begun by itself
    storage.hand_over()
    assert [stored.revision for stored in await asyncio.gather(*writes)] == list(range(1, 101))
    await storage.close()


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    with pytest.raises(DataDirError, match="in use"):
        LMDBStorage(tmp_path, RealClock(), NullSink())
    await storage.close()


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"\0" * 8192])
async def test_a_torn_file_is_refused_with_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataDirError, match="damaged or not a kubecore"):
        LMDBStorage(tmp_path, RealClock(), NullSink())


async def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    lmdb_file.write(tmp_path, lmdb_file.Contents(meta={b"format": b"kubecore/99"}))
    with pytest.raises(DataDirError, match="kubecore/99"):
        LMDBStorage(tmp_path, RealClock(), NullSink())


async def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    record = lmdb_file.CurrentRecord(1, 1, b"data")
    lmdb_file.write(tmp_path, lmdb_file.Contents(current={"someone's": record}))
    with pytest.raises(DataDirError, match="without kubecore's format mark"):
        LMDBStorage(tmp_path, RealClock(), NullSink())


async def test_history_is_kept_by_count(tmp_path: Path) -> None:
    config = LMDBConfig(max_events=1000, min_events=100, max_age=1e9, sync=False)
    storage = LMDBStorage(tmp_path, RealClock(), NullSink(), config)
    for _ in range(5):
        await asyncio.gather(*(storage.create(f"/registry/a/{storage.revision}/{n}", _value()) for n in range(500)))
    while storage.compacted < 1000:
        await storage.get("/registry/none")
    assert len(await storage.events(storage.compacted)) <= 1500
    await storage.close()


async def test_history_is_kept_by_age(tmp_path: Path) -> None:
    config = LMDBConfig(max_events=10**9, min_events=100, max_age=600, sync=False)
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    storage = LMDBStorage(tmp_path, clock, NullSink(), config)
    await asyncio.gather(*(storage.create(f"/registry/a/{n}", _value()) for n in range(1500)))
    await storage.get("/registry/none")
    assert storage.compacted == 0
    await clock.advance(601)
    await asyncio.gather(*(storage.create(f"/registry/b/{n}", _value()) for n in range(1000)))
    while storage.compacted < 1400:
        await storage.get("/registry/none")
    await storage.close()


async def test_an_overlong_key_fails_alone(tmp_path: Path) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    bad = storage.create("/registry/" + "x" * 600, _value())
    good = storage.create("/registry/a", _value())
    with pytest.raises(StorageError, match="too long"):
        await bad
    assert (await good).revision == 1
    await storage.close()


async def test_a_store_whose_events_cannot_be_published_takes_no_more_writes(tmp_path: Path) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), FailingSink())
    await storage.create("/registry/a", _value())
    with pytest.raises(StorageError, match="watch cache failed"):
        await storage.create("/registry/b", _value())
    await storage.close()


def _threads() -> set[str]:
    return {thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")}


async def test_in_virtual_time_a_write_needs_no_thread_and_who_waits_for_it_goes_on_at_once(tmp_path: Path) -> None:
    done: list[str] = []
    storage = LMDBStorage(tmp_path, VirtualClock(), NullSink(), LMDBConfig(sync=False))

    async def write(name: str) -> None:
        first = await storage.create(f"/registry/{name}", _value())
        await storage.update(f"/registry/{name}", _value(), expected=first.revision)
        done.append(name)

    storage.hold()
    for name in ("a", "b"):
        drive(write(name), lambda *_: pytest.fail("it waits for something else"))
    storage.hand_over()
    assert done == ["a", "b"] and storage.revision == 4
    assert "lmdb-writer" not in _threads()
    await storage.close()


async def test_a_waiter_that_fails_is_told_of_and_costs_no_other_its_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, done = VirtualClock(), []
    storage = LMDBStorage(tmp_path, clock, NullSink(), LMDBConfig(sync=False))

    async def write(name: str) -> None:
        await storage.create(f"/registry/{name}", _value())
        done.append(name)
        if name == "a":
            raise ValueError("no good")

    for name in ("a", "b"):
        drive(write(name), lambda *_: pytest.fail("it waits for something else"))
    await clock.settle()
    assert done == ["a", "b"]
    await storage.close()
    assert [record.message for record in caplog.records] == ["the waiter of a write failed"]


async def test_the_file_is_what_another_reader_of_its_format_reads(tmp_path: Path) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    storage = LMDBStorage(tmp_path, clock, NullSink())
    a = await storage.create("/registry/a", _value())
    b = await storage.create("/registry/b", _value(5000))
    changed = await storage.update("/registry/a", Template(b"", b" times"), expected=a.revision)
    await storage.delete("/registry/b", _value(), expected=b.revision)
    await storage.close()
    found = lmdb_file.read(tmp_path)
    now = int(clock.now().timestamp())
    assert found.current == {"/registry/a": (3, 1, b"")}
    assert found.log == {
        1: (PUT, now, 0, "/registry/a", b"<1>" + b"x" * 10),
        2: (PUT, now, 0, "/registry/b", b"<2>" + b"x" * 5000),
        3: (PUT, now, 1, "/registry/a", changed.value),
        4: (DELETE, now, 2, "/registry/b", b"<4>" + b"x" * 10),
    }
    four = lmdb_file.number(4)
    assert found.meta == {b"format": b"kubecore/3", b"revision": four, b"indexed": four}


async def test_a_compaction_leaves_values_where_they_are_current(tmp_path: Path) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    lasting = await storage.create("/registry/a", _value(5000))
    changed = await storage.create("/registry/b", _value())
    changed = await storage.update("/registry/b", _value(3), expected=changed.revision)
    gone = await storage.create("/registry/c", _value())
    await storage.delete("/registry/c", _value(), expected=gone.revision)
    await storage.compact(4)
    await storage.close()
    found = lmdb_file.read(tmp_path)
    assert found.current == {"/registry/a": (1, 1, lasting.value), "/registry/b": (3, 2, changed.value)}
    # What the delete has replaced is still to be found as of revision 4.
    assert sorted(found.log) == [4, 5]
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    assert [key for key, _ in (await storage.list("/registry/", revision=4)).items] == [
        "/registry/a",
        "/registry/b",
        "/registry/c",
    ]
    await storage.close()


async def test_a_file_whose_index_lacks_the_last_writes_is_opened(tmp_path: Path) -> None:
    """As a crash leaves it: `current` stands at revision 2, after which `a` was changed, `b` deleted and `c` made."""
    contents = lmdb_file.Contents(
        current={"/registry/a": lmdb_file.CurrentRecord(1, 1, b""), "/registry/b": lmdb_file.CurrentRecord(2, 2, b"")},
        log={
            1: lmdb_file.LogRecord(PUT, 1700000000, 0, "/registry/a", b"a1"),
            2: lmdb_file.LogRecord(PUT, 1700000000, 0, "/registry/b", b"b2"),
            3: lmdb_file.LogRecord(PUT, 1700000001, 1, "/registry/a", b"a3"),
            4: lmdb_file.LogRecord(DELETE, 1700000001, 2, "/registry/b", b"b4"),
            5: lmdb_file.LogRecord(PUT, 1700000001, 0, "/registry/c", b"c5"),
        },
        meta={b"format": b"kubecore/3", b"revision": lmdb_file.number(5), b"indexed": lmdb_file.number(2)},
    )
    lmdb_file.write(tmp_path, contents)
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    page = await storage.list("/registry/")
    assert [(key, stored.revision, stored.value) for key, stored in page.items] == [
        ("/registry/a", 3, b"a3"),
        ("/registry/c", 5, b"c5"),
    ]
    assert await storage.get("/registry/b") is None
    with pytest.raises(KeyExists):
        await storage.create("/registry/c", _value())
    await storage.update("/registry/a", _value(), expected=3)
    await storage.close()
    found = lmdb_file.read(tmp_path)
    assert found.current == {"/registry/a": (6, 1, b""), "/registry/c": (5, 5, b"")}
    assert found.meta[b"indexed"] == lmdb_file.number(6)


@pytest.mark.parametrize("former", [b"kubecore/1", b"kubecore/2"])
async def test_a_file_of_a_former_format_is_opened(tmp_path: Path, former: bytes) -> None:
    """As a store of an earlier version left it: compacted to 2, whose record of `a` is kept since 3 has replaced it."""
    contents = lmdb_file.Contents(
        current={
            "/registry/a": lmdb_file.CurrentRecord(3, 1, b"a3"),
            "/registry/b": lmdb_file.CurrentRecord(2, 2, b"b2" + b"x" * 5000),
        },
        log={
            1: lmdb_file.LogRecord(PUT, 1700000000, 0, "/registry/a", b"a1"),
            3: lmdb_file.LogRecord(PUT, 1700000001, 1, "/registry/a", b"a3"),
        },
        meta={
            b"format": former,
            b"revision": lmdb_file.number(3),
            b"compacted": lmdb_file.number(2),
        },
    )
    lmdb_file.write(tmp_path, contents)
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    assert (storage.revision, storage.compacted) == (3, 2)
    assert await storage.events(2) == [Event(PUT, "/registry/a", 3, b"a3", 1)]
    before = {key: stored.value[:2] for key, stored in (await storage.list("/registry/", revision=2)).items}
    assert before == {"/registry/a": b"a1", "/registry/b": b"b2"}
    stored = await storage.update("/registry/b", _value(), expected=2)
    assert stored.revision == 4
    await storage.close()
    found = lmdb_file.read(tmp_path)
    assert found.meta[b"format"] == b"kubecore/3"
    assert found.current == {"/registry/a": (3, 1, b"a3"), "/registry/b": (4, 2, b"")}
    assert found.log[4].value == stored.value
    assert found.log[2] == (PUT, 0, 0, "/registry/b", b"b2" + b"x" * 5000)
