"""Of a server that was stopped nothing is left: who starts one for each test would hold the caches of all."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from .serving import served


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_stopped_server_leaves_neither_its_caches_nor_descriptors(tmp_path: Path) -> None:
    known: list[weakref.ref[object]] = []
    before = 0
    for number in range(4):
        async with served(tmp_path / str(number)) as server:
            known += [weakref.ref(one) for one in (server, server.registry, server.cacher, server.hub, server.metrics)]
        del server
        gc.collect()
        if not before:
            before = descriptors()
    assert [one() for one in known if one() is not None] == []
    assert descriptors() <= before
