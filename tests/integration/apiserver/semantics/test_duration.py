"""../shared/API_SEMANTICS.md, line 8, with a minimum request timeout that a test can wait for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock
from tests.integration.apiserver.http import Http

MINIMUM = 0.2


async def test_08_a_watch_without_a_timeout_ends_at_a_random_time_after_the_minimum(tmp_path: Path) -> None:
    config = APIServerConfig(
        data_dir=tmp_path, secure_port=0, storage=LMDBConfig(sync=False), min_request_timeout=MINIMUM
    )
    clock = RealClock()
    server = APIServer(config, clock)
    await server.start()

    async def lasted(http: Http) -> float:
        began = clock.monotonic()
        async with http.stream("/api/v1/nodes?watch=true") as answer:
            await asyncio.wait_for(answer.content.read(), 60)
        return clock.monotonic() - began

    try:
        pair = server.issue_client_certificate("root", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            # In turn: a machine that stands still for a moment would end all of them together.
            durations = [await lasted(http) for _ in range(6)]
    finally:
        await server.stop()
    assert min(durations) >= MINIMUM
    # Six numbers of a fifth of a second's width do not all fall into a twentieth of it.
    assert max(durations) - min(durations) > 0.01
