"""Every storage implementation, made fresh for each test; `reopen` closes and opens the same data again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kubecore.apiserver.storage.interface import Event, Storage, Template
from kubecore.apiserver.storage.lmdb import LMDBConfig, LMDBStorage
from kubecore.clock import RealClock, VirtualClock


@dataclass
class RecordingSink:
    """What a store published."""

    events: list[Event] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    compactions: list[int] = field(default_factory=list)

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        self.revisions.append(revision)
        self.events.extend(events)

    def compacted(self, revision: int) -> None:
        self.compactions.append(revision)


@dataclass
class Harness:
    storage: Storage
    sink: RecordingSink
    open: Callable[[RecordingSink], Awaitable[Storage]]

    async def reopen(self) -> Storage:
        await self.storage.close()
        self.sink = RecordingSink()
        self.storage = await self.open(self.sink)
        return self.storage


def value(text: str) -> Template:
    """A small value with the revision in the middle."""
    return Template(b'{"rv":"', b'","v":"' + text.encode() + b'"}')


@pytest.fixture(params=["lmdb", "lmdb in virtual time"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    async def open_lmdb(sink: RecordingSink) -> Storage:
        return LMDBStorage(tmp_path / "data", RealClock(), sink)

    async def open_threadless(sink: RecordingSink) -> Storage:
        return LMDBStorage(tmp_path / "data", VirtualClock(), sink, LMDBConfig(sync=False))

    opener = {"lmdb": open_lmdb, "lmdb in virtual time": open_threadless}[request.param]
    sink = RecordingSink()
    made = Harness(await opener(sink), sink, opener)
    yield made
    await made.storage.close()


@pytest.fixture
def storage(harness: Harness) -> Storage:
    return harness.storage
