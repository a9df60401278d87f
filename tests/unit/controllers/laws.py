"""What machines of laws have in common: parts that work on a fake API in virtual time, and what goes wrong for all."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from kubecore.client.informer import InformerFactory
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI

# Longer than the longest back-off, and the scheduler's wait for a binding: every retry that is due has come.
QUIET_SECONDS = 2000.0
INDEX = st.integers(0, 20)


class Part(Protocol):
    def run(self) -> Coroutine[Any, Any, None]: ...


class Laws(RuleBasedStateMachine):
    """A subclass makes the parts, and calls `start` once their world is there."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self.tasks: list[asyncio.Task[None]] = []
        self.informers: InformerFactory | None = None

    @abstractmethod
    def parts(self, informers: InformerFactory) -> Iterable[Part]:
        """New ones, which work with these caches."""

    def start(self) -> None:
        self.informers = self.api.informers()
        parts = list(self.parts(self.informers))
        self.loop.run_until_complete(self.informers.start())
        self.tasks = [self.loop.create_task(part.run()) for part in parts]

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        if self.informers is not None:
            self.loop.run_until_complete(self.informers.stop())

    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.advance(seconds))

    @rule()
    def watches_end(self) -> None:
        self.api.end_watches()

    @rule()
    def everything_starts_anew(self) -> None:
        self.stop()
        self.start()

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.wait(seconds)

    def teardown(self) -> None:
        self.stop()
        self.loop.close()
