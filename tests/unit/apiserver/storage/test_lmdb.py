"""What is particular to the LMDB store: its file, its growth, its history window."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import lmdb
import pytest

from kubecore.apiserver.storage import layout
from kubecore.apiserver.storage.interface import DataDirError, Event, StorageError, Template
from kubecore.apiserver.storage.lmdb import LMDBConfig, LMDBStorage
from kubecore.clock import RealClock, VirtualClock


class NullSink:
    def publish(self, revision: int, events: Sequence[Event]) -> None:
        pass

    def compacted(self, revision: int) -> None:
        pass


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


class Unwritable:
    """An environment whose every transaction fails so."""

    def __init__(self, told: str) -> None:
        self.told = told

    def begin(self, **_: object) -> None:
        raise lmdb.Error(self.told)


@pytest.mark.parametrize(
    ("told", "free", "says"),
    [
        ("mdb_txn_commit: No space left on device", 1 << 30, "no space left on the file system of {}"),
        ("mdb_txn_commit: Input/output error", 0, "no space left on the file system of {}"),
        ("mdb_txn_commit: Input/output error", 1 << 30, "mdb_txn_commit: Input/output error"),
    ],
)
async def test_a_full_disk_is_called_so_however_lmdb_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, free: int, says: str
) -> None:
    storage = LMDBStorage(tmp_path, RealClock(), NullSink())
    with monkeypatch.context() as patched:
        patched.setattr(storage, "_env", Unwritable(told))
        patched.setattr(os, "statvfs", lambda path: os.statvfs_result((1, 1, 9, free, free, 9, 9, 9, 0, 255)))
        with pytest.raises(StorageError) as failed:
            await storage.create("/registry/core/pods/ns/a", _value())
    assert str(failed.value) == "storage failed: " + says.format(tmp_path)
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
    with lmdb.open(str(tmp_path), max_dbs=3) as env, env.begin(write=True) as txn:
        txn.put(layout.META_FORMAT, b"kubecore/99", db=env.open_db(layout.META, txn=txn))
    with pytest.raises(DataDirError, match="kubecore/99"):
        LMDBStorage(tmp_path, RealClock(), NullSink())


async def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=3) as env, env.begin(write=True) as txn:
        txn.put(b"someone's", b"data", db=env.open_db(layout.CURRENT, txn=txn))
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


@pytest.mark.parametrize("number", [0, 1, 255, 2**40])
def test_numbers_decode_to_what_was_encoded(number: int) -> None:
    assert layout.decode_number(layout.encode_number(number)) == number


def test_log_records_decode_to_what_was_encoded() -> None:
    raw = layout.encode_log(1, 1700000000, 41, b"/registry/a", b"value")
    assert layout.decode_log(raw) == (1, 1700000000, 41, "/registry/a", b"value")
    assert layout.decode_log_header(raw) == (1, 1700000000, 41)
