"""Writes as fast as it can until it is killed; prints each revision and key once it is acknowledged.

Run as a process of its own by test_crash.py.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kubecore.apiserver.storage.interface import Event, Template
from kubecore.apiserver.storage.lmdb import LMDBConfig, LMDBStorage
from kubecore.clock import RealClock

KEYS = 50


class NullSink:
    def publish(self, revision: int, events: Sequence[Event]) -> None:
        pass

    def compacted(self, revision: int) -> None:
        pass


async def main(directory: Path) -> None:
    config = LMDBConfig(max_events=2000, min_events=500, max_age=0)
    storage = LMDBStorage(directory, RealClock(), NullSink(), config)
    page = await storage.list("/registry/")
    known = {key: stored.revision for key, stored in page.items}

    async def worker(number: int) -> None:
        key = f"/registry/core/pods/ns/{number}"
        body = Template(b"%d:" % number, b":" + b"x" * (37 * number))
        while True:
            if key not in known:
                stored = await storage.create(key, body)
                known[key] = stored.revision
            elif known[key] % 7 == 0:
                stored = await storage.delete(key, body, expected=known.pop(key))
                os.write(1, b"%d %d delete\n" % (stored.revision, number))
                continue
            else:
                stored = await storage.update(key, body, expected=known[key])
                known[key] = stored.revision
            os.write(1, b"%d %d put\n" % (stored.revision, number))

    await asyncio.gather(*(worker(number) for number in range(KEYS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
