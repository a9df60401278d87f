"""A clock that the tests turn, and an API that goes by it."""

from __future__ import annotations

import pytest

from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def api(clock: VirtualClock) -> FakeAPI:
    return FakeAPI(clock)
