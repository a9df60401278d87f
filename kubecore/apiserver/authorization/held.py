"""The rights by which watches go on, those of the front among them.

Each is looked at before anything more is told by it, if what rights come from has become another meanwhile. And all are
reviewed together, so that who is told nothing for long ends as well: soon after such a change, and once a minute where
a right is lost without one: with what a webhook says next, or with the pods of a node.

Logs that are followed, and connections into a pod, last without a right that is looked at again, as in upstream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.authorizer import MASTERS, Unanswered

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.authorizer import Authorizer, Decision
    from kubecore.clock import Clock, Timer

T = TypeVar("T")
Question = tuple["UserInfo", Attributes]

log = logging.getLogger("kubecore.apiserver.authorization")

_EVERY_SECONDS = 60.0
# Roles come in dozens, as with a chart that is installed: one review for all of those.
_PAUSE_SECONDS = 1.0
# Questions, each of which takes a node's pods at worst, before others on the loop have their turn.
_AT_ONCE = 16
# A webhook is asked no more at once: where it does not answer, the others wait for it.
_ASKED_AT_ONCE = 16


class _Right(Protocol):
    """One of Python's, or of the front's."""

    def lapse(self) -> None: ...


class HeldRight:
    """Of who was allowed something that lasts: just now, or a while `ago`, before it came to Python."""

    def __init__(
        self, authorizer: Authorizer, native: _native.Authorizer, question: Question, *, ago: bool = False
    ) -> None:
        self.question = question
        self._authorizer = authorizer
        self._native = native
        self._seen = None if ago else native.policy()
        self._lapsed = False
        self.ends: Callable[[], None] | None = None
        """Called when it lapses, also while nothing is told."""

    async def has_lapsed(self) -> bool:
        """Before anything more is told."""
        if not self._lapsed and (self._seen is None or not self._seen.current):
            self._seen = self._native.policy()
            if takes_away(await self._authorizer.judge(*self.question)):
                self._lapsed = True
        return self._lapsed

    def lapse(self) -> None:
        self._lapsed = True
        if self.ends is not None:
            self.ends()


def takes_away(decision: Decision) -> bool:
    """A mode that fails takes no right away, whatever a webhook's failurePolicy is: that is for who asks anew. Watches
    that ended with each failure of a webhook would all begin again at once, while it still fails."""
    return not (decision.allowed or decision.error)


class HeldRights:
    """All that are held, until `close`."""

    def __init__(self, authorizer: Authorizer, native: _native.Authorizer, clock: Clock) -> None:
        self._authorizer = authorizer
        self._native = native
        self._clock = clock
        # With whether it is lost without a change that is told of, unless webhooks have a say.
        self._held: dict[HeldRight, bool] = {}
        self._seen = native.policy()
        self._due = False
        self._reviewing: asyncio.Task[None] | None = None
        self._asking: dict[Question, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._paused: Timer | None = None
        self._earliest = clock.monotonic()
        self._tick: Timer | None = clock.call_later(_EVERY_SECONDS, self._again)
        authorizer.changed = self.changed

    def of(self, user: UserInfo, attributes: Attributes, *, ago: bool = False) -> HeldRight:
        return HeldRight(self._authorizer, self._native, (user, attributes), ago=ago)

    def hold(self, right: HeldRight, ends: Callable[[], None]) -> None:
        user, attributes = right.question
        if MASTERS not in user.groups:
            right.ends = ends
            self._held[right] = self._authorizer.changes_unseen(user, attributes)

    def release(self, right: HeldRight) -> None:
        self._held.pop(right, None)

    def changed(self) -> None:
        """What rights come from may have become another."""
        self._due = True
        if self._tick is None or self._paused is not None:
            return
        if self._reviewing is not None and not self._reviewing.done():
            return
        wait = self._earliest - self._clock.monotonic()
        if wait > 0:
            self._paused = self._clock.call_later(wait, self._begin)
        else:
            self._begin()

    def _again(self) -> None:
        self._tick = self._clock.call_later(_EVERY_SECONDS, self._again)
        self.changed()

    def _begin(self) -> None:
        self._paused = None
        self._reviewing = asyncio.get_running_loop().create_task(self._review(), name="rights of watches")
        self._reviewing.add_done_callback(self._reviewed)

    def _reviewed(self, review: asyncio.Task[None]) -> None:
        self._earliest = self._clock.monotonic() + _PAUSE_SECONDS
        if not review.cancelled() and (error := review.exception()) is not None:
            log.error("rights of watches could not be reviewed", exc_info=error)
        if self._due:
            self.changed()

    async def _review(self) -> None:
        self._due = False
        # Those of one node after another: its pods are looked up once.
        questions = sorted(self._open().items(), key=lambda item: item[0][0].username)
        for number, (question, rights) in enumerate(questions, 1):
            self._judge(question, rights)
            if number % _AT_ONCE == 0:
                await self._clock.sleep(0)

    def _open(self) -> dict[Question, list[_Right]]:
        """What there is to decide in Python, and whose rights depend on it."""
        changed = not self._seen.current
        self._seen = self._native.policy()
        every = changed or self._authorizer.asks_webhooks
        found: dict[Question, list[_Right]] = {}
        for right, changes_unseen in self._held.items():
            if every or changes_unseen:
                found.setdefault(right.question, []).append(right)
        for open in self._native.review():
            question = open.user, Attributes(*open.attributes)
            if changed or self._authorizer.changes_unseen(*question):
                found.setdefault(question, []).append(open)
        return found

    def _judge(self, question: Question, rights: Sequence[_Right]) -> None:
        if self._authorizer.allows(*question):
            return
        try:
            decision = self._authorizer.authorize(*question)
        except Unanswered:
            if question not in self._asking:
                work = self._ask(question, rights)
                asking = asyncio.get_running_loop().create_task(work, name="right of watches")
                self._asking[question] = asking
                asking.add_done_callback(lambda _: self._asking.pop(question, None))
        else:
            _conclude(decision, rights)

    async def _ask(self, question: Question, rights: Sequence[_Right]) -> None:
        try:
            async with self._room:
                decision = await self._authorizer.decide(*question)
        except Exception:
            log.exception("it could not be asked whether %s may still watch", question[0].username)
        else:
            _conclude(decision, rights)

    def close(self) -> None:
        for timer in (self._tick, self._paused):
            if timer is not None:
                timer.cancel()
        self._tick = None
        for task in [self._reviewing, *self._asking.values()]:
            if task is not None:
                task.cancel()


def _conclude(decision: Decision, rights: Sequence[_Right]) -> None:
    if takes_away(decision):
        for right in rights:
            right.lapse()


async def while_held(coming: AsyncIterator[T], rights: HeldRights, right: HeldRight) -> AsyncGenerator[T]:
    """What comes, until the right lapses."""
    lapsed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rights.hold(right, lambda: None if lapsed.done() else lapsed.set_result(None))
    following: asyncio.Future[T | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(coming, None))
            first: tuple[asyncio.Future[Any], ...] = following, lapsed
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if lapsed.done() or await right.has_lapsed():
                return
            one = await following
            if one is None:
                return
            yield one
    finally:
        rights.release(right)
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
