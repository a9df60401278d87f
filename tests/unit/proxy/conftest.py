"""A proxy that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.proxy.running import Running


@pytest.fixture
async def cluster() -> AsyncIterator[Running]:
    running = Running()
    yield running
    await running.stop()
