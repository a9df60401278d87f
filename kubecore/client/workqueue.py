"""A queue of keys to reconcile: each key once, never by two workers at a time, retried with back-off."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kubecore.clock import Clock, Timer
from kubecore.metrics import Series, exponential

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue was shut down and is empty."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Back-off per key doubles from `base` to `maximum` seconds; all keys together share a bucket of `burst` that
    refills with `rate` a second (client-go's default controller rate limiter).
    """

    base: float = 0.005
    maximum: float = 1000.0
    rate: float = 10.0
    burst: int = 100


DURATIONS = exponential(10e-9, 10, 10)
"""Bounds in seconds of how long keys wait and are worked on; client-go's."""


class RateLimitingQueue(Generic[K]):
    """Invariants, kept between any two awaits:

    - `_dirty` holds every key that needs processing and since when, `_processing` every key that a worker has and has
      not given back, and since when.
    - `_queue` holds, in order and each once, exactly the keys of `_dirty` that are not in `_processing`.
    - A key added while it is processed waits in `_dirty` alone; `done` moves it to `_queue`.
    - `_waiting` holds at most one timer per key, the earliest asked for.
    """

    def __init__(self, clock: Clock, limits: RateLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or RateLimits()
        self._queue: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        self._processing: dict[K, float] = {}
        self._waiting: dict[K, tuple[float, Timer]] = {}
        self._failures: dict[K, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._tokens = float(self._limits.burst)
        self._tokens_at = clock.monotonic()
        self._shut_down = False
        self._monotonic = clock.monotonic
        self.added = 0
        """Keys that came, each once until it was given out."""
        self.postponed = 0
        """Times that a key was to come later."""
        self.waited = Series(DURATIONS)
        self.worked = Series(DURATIONS)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Nothing queued and nothing being processed; keys may still wait for their time."""
        return not self._dirty and not self._processing

    def in_work(self) -> list[float]:
        """How long each key that is being processed has been, in seconds. On any thread."""
        now = self._monotonic()
        return [now - since for since in list(self._processing.values())]

    # ------------------------------------------------------------------ the queue
    def add(self, key: K) -> None:
        if self._shut_down or key in self._dirty:
            return
        self._dirty[key] = self._monotonic()
        self.added += 1
        if key not in self._processing:
            self._push(key)

    async def get(self) -> K:
        """The next key, which the caller must give back with `done`. Raises ShutDown at the end."""
        while not self._queue:
            if self._shut_down:
                raise ShutDown
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except BaseException:
                # a wake-up that reached this getter while it was cancelled belongs to the next one
                if getter.done() and not getter.cancelled():
                    self._wake()
                elif getter in self._getters:  # unless a wake-up has passed it over since
                    self._getters.remove(getter)
                raise
        key = self._queue.popleft()
        now = self._monotonic()
        self.waited.observe(now - self._dirty.pop(key))
        self._processing[key] = now
        return key

    def done(self, key: K) -> None:
        since = self._processing.pop(key, None)
        if since is not None:
            self.worked.observe(self._monotonic() - since)
        if key in self._dirty:
            self._push(key)

    def shut_down(self) -> None:
        """Refuse new keys; workers get what is queued and then ShutDown."""
        self._shut_down = True
        for _, timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        while self._getters:
            self._wake()

    def _push(self, key: K) -> None:
        self._queue.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    # ------------------------------------------------------------------ later
    def add_after(self, key: K, seconds: float) -> None:
        """Add the key in `seconds`; of several such calls for one key the earliest counts."""
        if self._shut_down:
            return
        self.postponed += 1
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        waiting = self._waiting.get(key)
        if waiting is not None:
            if waiting[0] <= due:
                return
            waiting[1].cancel()
        self._waiting[key] = (due, self._clock.call_later(seconds, lambda: self._due(key)))

    def _due(self, key: K) -> None:
        self._waiting.pop(key, None)
        self.add(key)

    def add_rate_limited(self, key: K) -> None:
        """Add the key after its own back-off, and not before the bucket shared by all keys has a token."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        back_off = min(self._limits.base * 2.0 ** min(failures, 60), self._limits.maximum)
        self.add_after(key, max(back_off, self._take_token()))

    def forget(self, key: K) -> None:
        """The key was processed well: its next failure counts as the first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def _take_token(self) -> float:
        """Take one token and tell in how many seconds it will really be there."""
        now = self._clock.monotonic()
        self._tokens = min(self._limits.burst, self._tokens + (now - self._tokens_at) * self._limits.rate) - 1.0
        self._tokens_at = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self._limits.rate
