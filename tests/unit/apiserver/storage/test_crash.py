"""kill -9 under load: no acknowledged write is lost, no write is half there."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubecore.apiserver.storage.interface import DELETE, Event
from kubecore.apiserver.storage.lmdb import LMDBStorage
from kubecore.clock import RealClock

WRITER = Path(__file__).with_name("crash_writer.py")


class NullSink:
    def publish(self, revision: int, events: Sequence[Event]) -> None:
        pass

    def compacted(self, revision: int) -> None:
        pass


async def _run_and_kill(directory: Path, acknowledgements: int) -> list[tuple[int, int, str]]:
    """What the writer acknowledged before it was killed at a moment of its load."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), str(directory), stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(acknowledgements)]
    process.kill()
    rest = (await process.stdout.read()).split(b"\n")
    await process.wait()
    texts = [line.decode() for line in [*lines, *rest[:-1]] if line.strip()]
    parts = [text.split() for text in texts]
    return [(int(revision), int(number), kind) for revision, number, kind in parts]


async def _check(directory: Path, acknowledged: list[tuple[int, int, str]]) -> int:
    storage = LMDBStorage(directory, RealClock(), NullSink())
    try:
        last = max(revision for revision, _, _ in acknowledged)
        assert storage.revision >= last
        current = {key: stored for key, stored in (await storage.list("/registry/")).items}
        for key, stored in current.items():
            number = int(key.rpartition("/")[2])
            assert stored.value == b"%d:%d:" % (number, stored.revision) + b"x" * (37 * number)
        events = await storage.events(storage.compacted)
        assert [event.revision for event in events] == list(range(storage.compacted + 1, storage.revision + 1))
        by_revision = {event.revision: event for event in events}
        newest: dict[int, tuple[int, str]] = {}
        for revision, number, kind in sorted(acknowledged):
            newest[number] = (revision, kind)
            if revision > storage.compacted:
                assert (by_revision[revision].type == DELETE) == (kind == "delete")
        for number, (revision, kind) in newest.items():
            key = f"/registry/core/pods/ns/{number}"
            later = [event for event in events if event.key == key and event.revision > revision]
            if not later:
                assert (key in current) == (kind == "put")
                if kind == "put":
                    assert current[key].revision == revision
        return storage.revision
    finally:
        await storage.close()


async def _kill_repeatedly(directory: Path, times: int) -> None:
    chance = random.Random(20261123)
    revision = 0
    for _ in range(times):
        acknowledged = await _run_and_kill(directory, chance.randint(1, 400))
        after = await _check(directory, acknowledged)
        assert after > revision
        revision = after


async def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    await _kill_repeatedly(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_writer_killed_a_hundred_times_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    await _kill_repeatedly(tmp_path, 100)
