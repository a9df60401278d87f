"""The one clock: every reading of time, wait, timeout and timer of kubecore goes through it.

Components are handed a `Clock`; `RealClock` is the machine's, `VirtualClock` stands still until a test advances it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from kubecore import _native

T = TypeVar("T")

_NOTHING = nullcontext()


class Timer(Protocol):
    def cancel(self) -> None:
        """The callback will not be called any more; harmless when it has been."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since an unspecified point; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the task; at zero or less it only lets others run."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back on the running loop once, `seconds` from now."""

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Cancel the body after `seconds` and raise TimeoutError in its place."""

    def outside(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """`timeout` for a body that waits for a program outside the cluster: its limit is real time, and virtual time
        stands still meanwhile. Never around what only goes on when this clock does."""

    def elsewhere(self) -> AbstractContextManager[object]:
        """`outside` for a wait that is limited by whoever is waited for."""

    def heed(self, busy: Callable[[], bool], wait: Callable[[], object] | None = None) -> None:
        """Somebody works outside the event loop, on another thread: while `busy()`, virtual time stands still. `wait`
        does what the loop's thread can do about it meanwhile; it takes a millisecond at most, and returns as soon as
        the loop has something to go on with."""

    def machine_now(self) -> datetime:
        """What programs outside the cluster take the time to be, as when they judge certificates."""


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    # Without a frame of Python: each write asks for it many times.
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def outside(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def elsewhere(self) -> AbstractContextManager[object]:
        return _NOTHING

    def heed(self, busy: Callable[[], bool], wait: Callable[[], object] | None = None) -> None:
        """Real time waits for nobody."""

    def machine_now(self) -> datetime:
        return self.now()


class VirtualClock:
    """Time that passes only by `advance`.

    Timers fire in order of their time, those of one instant in the order they were set, and between two of them every
    task that became runnable runs until it waits again. Work on other threads is waited for if `heed` was told of it,
    and so is what other programs answer `outside`.
    """

    def __init__(
        self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, machine: Callable[[], datetime] | None = None
    ) -> None:
        """`machine` tells the time outside: by default it is the real one."""
        if start.tzinfo is None:
            raise ValueError("a clock starts at an aware datetime")
        self._start = start.astimezone(UTC)
        self._elapsed = 0.0
        self._timers: list[_VirtualTimer] = []
        self._sequence = itertools.count()
        self._native: _native.Clock | None = None
        self._machine = machine or RealClock().now
        self._heeded: list[tuple[Callable[[], bool], Callable[[], object]]] = []
        self._awaited = 0
        self._all_answered: asyncio.Future[None] | None = None

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = _VirtualTimer(self._elapsed + max(seconds, 0.0), next(self._sequence), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return _VirtualTimeout(self, seconds)

    @asynccontextmanager
    async def outside(self, seconds: float) -> AsyncGenerator[None]:
        with self.elsewhere():
            async with asyncio.timeout(seconds):
                yield

    @contextmanager
    def elsewhere(self) -> Generator[None]:
        self._awaited += 1
        try:
            yield
        finally:
            self._awaited -= 1
            if not self._awaited and self._all_answered is not None:
                self._all_answered.set_result(None)
                self._all_answered = None

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass; returns when everything due has run and nothing on the loop is runnable."""
        if seconds < 0:
            raise ValueError("time does not go back")
        target = self._elapsed + seconds
        await self.settle()
        while (timer := self._next_due(target)) is not None:
            self._move_to(max(timer.when, self._elapsed))
            timer.fire()
            await self.settle()
        self._move_to(target)
        await self.settle()

    async def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end, letting time pass for its timers: for what waits for threads that the clock knows
        nothing of, as starting and stopping a cluster does."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(_DRIVE_POLL_SECONDS)
            await self.advance(_DRIVE_STEP_SECONDS)
        return await task

    async def settle(self) -> None:
        """Let runnable tasks run, without time passing, until all of them wait.

        RuntimeError when other threads' work does not end.
        """
        given_up_at = time.monotonic() + _LONGEST_WORK_SECONDS
        polls = 0
        await self._run_ready()
        while self._awaited or any(busy() for busy, _ in self._heeded):
            if self._awaited:
                # Each has a limit of its own.
                await self._answers()
                given_up_at = time.monotonic() + _LONGEST_WORK_SECONDS
                await self._run_ready()
                continue
            if time.monotonic() > given_up_at:
                raise RuntimeError("work outside the event loop does not end")
            # The one real wait: what other threads do takes real time. Mostly that is a commit, which is over long
            # before the loop's shortest sleep, a millisecond, would be.
            polls += 1
            if polls <= _SHORT_POLLS:
                for busy, wait in self._heeded:
                    if busy():
                        wait()
            else:
                await asyncio.sleep(_OUTSIDE_POLL_SECONDS)
            await self._run_ready()

    async def _answers(self) -> None:
        if self._all_answered is None:
            self._all_answered = asyncio.get_running_loop().create_future()
        # Others may wait for the same, and one of them be cancelled.
        await asyncio.shield(self._all_answered)

    async def _run_ready(self) -> None:
        # Loops other than the standard one hide their queue: there a fixed number of turns has to do.
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        for _ in range(_SETTLE_TURNS):
            await _turn()
            if ready is not None and not ready:
                return

    def heed(self, busy: Callable[[], bool], wait: Callable[[], object] | None = None) -> None:
        self._heeded.append((busy, wait or _stand_aside))

    def machine_now(self) -> datetime:
        return self._machine()

    def next_timer(self) -> float | None:
        """Seconds until the next timer is due, None when there is none."""
        self._drop_cancelled()
        return self._timers[0].when - self._elapsed if self._timers else None

    @property
    def native(self) -> _native.Clock:
        """The clock for the Rust side; reads the same virtual time."""
        if self._native is None:
            from kubecore import _native

            self._native = _native.Clock.virtual(self.now().timestamp())
        return self._native

    def _move_to(self, elapsed: float) -> None:
        step, self._elapsed = elapsed - self._elapsed, elapsed
        if self._native is not None and step > 0:
            self._native.advance(step)

    def _next_due(self, target: float) -> _VirtualTimer | None:
        self._drop_cancelled()
        if self._timers and self._timers[0].when <= target:
            return heapq.heappop(self._timers)
        return None

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)


_SETTLE_TURNS = 200
_OUTSIDE_POLL_SECONDS = 0.0002
_SHORT_POLLS, _SHORT_POLL_SECONDS = 50, 0.00003
_DRIVE_POLL_SECONDS, _DRIVE_STEP_SECONDS = 0.002, 0.01
_LONGEST_WORK_SECONDS = 60.0


def _stand_aside() -> None:
    """For other threads, which are at it: the loop has nothing to do meanwhile."""
    time.sleep(_SHORT_POLL_SECONDS)


@types.coroutine
def _turn() -> Generator[None]:
    """One of the loop: `asyncio.sleep(0)`, of which a day takes a hundred thousand, with less around it."""
    yield


class _VirtualTimer:
    __slots__ = ("callback", "sequence", "when")

    def __init__(self, when: float, sequence: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.sequence = sequence
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: _VirtualTimer) -> bool:
        return (self.when, self.sequence) < (other.when, other.sequence)

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        callback, self.callback = self.callback, None
        if callback is None:
            return
        try:
            callback()
        except Exception as error:
            context = {"message": "a timer's callback failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


class _VirtualTimeout:
    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._timer: Timer | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a timeout needs a task")
        self._cancelling = self._task.cancelling()
        self._timer = self._clock.call_later(self._seconds, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._task is not None and self._timer is not None
        self._timer.cancel()
        # Only a cancellation of our own becomes a timeout; one from outside goes on (as in asyncio.timeout).
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
        return None

    def _expire(self) -> None:
        assert self._task is not None
        self._expired = True
        self._task.cancel()


def native_clock(clock: Clock) -> _native.Clock:
    """The Rust side's view of `clock`: the same virtual time, or the system's."""
    if isinstance(clock, VirtualClock):
        return clock.native
    from kubecore import _native

    return _native.Clock()
