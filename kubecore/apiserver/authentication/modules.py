"""Tokens that the front does not know: modules are asked in turn, and what they find good the front remembers.

After upstream k8s.io/apiserver pkg/authentication/token/{union,cache}: the first module that knows the token decides,
one that fails does not keep the next from knowing it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubecore import _native

if TYPE_CHECKING:
    from kubecore._native import Authenticator, UserInfo
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver.authentication")

# As upstream's cache of successful authentications (`TokenSuccessCacheTTL`).
REMEMBERED_SECONDS = 10.0


class Remarks(NamedTuple):
    """What is said of a token whenever somebody comes with it: a warning to the client, annotations in the audit."""

    warning: str = ""
    annotations: tuple[tuple[str, str], ...] = ()


_NONE = Remarks()


class TokenRefused(Exception):
    """The module knows whose token it is, and that it is bad, or cannot tell; the text says why."""

    def __init__(self, why: str, remarks: Remarks = _NONE) -> None:
        super().__init__(why)
        self.remarks = remarks


class Refused(NamedTuple):
    """A token that no module finds good; `why`: what those say that know it."""

    why: tuple[str, ...] = ()


class Accepted(NamedTuple):
    """A good token: its user without the groups that all authenticated users have, for how long that may be remembered
    in seconds, and the audiences of those asked for that it is meant for."""

    user: UserInfo
    seconds: float
    audiences: tuple[str, ...]
    remarks: Remarks = _NONE


class TokenModule(Protocol):
    """One way to know tokens."""

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Accepted | None:
        """None for a token that is none of this module's, or meant for none of the audiences. Raises TokenRefused."""


def intersection(wanted: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in wanted if one in own)


class TokenModules:
    """All modules, in the order in which they are asked. `audiences` are the API's own."""

    def __init__(
        self,
        native: Authenticator,
        clock: Clock,
        audiences: Sequence[str],
        modules: Sequence[TokenModule] = (),
    ) -> None:
        self._native = native
        self._clock = clock
        self._audiences = tuple(audiences)
        self._modules: tuple[TokenModule, ...] = ()
        self._asking: dict[tuple[bytes, tuple[str, ...]], asyncio.Task[Accepted | Refused]] = {}
        self._generation = 0
        self.replace(modules)

    def replace(self, modules: Sequence[TokenModule]) -> None:
        """What was found good before is judged anew."""
        self._modules = tuple(modules)
        self._generation += 1
        self._native.set_delegate(bool(modules))
        self._native.forget_vouched()

    async def authenticate(self, token: str) -> UserInfo | None:
        """Whose token it is, for the API itself."""
        generation = self._generation
        accepted = await self._ask(token, self._audiences)
        if isinstance(accepted, Refused):
            return None
        if accepted.seconds > 0 and generation == self._generation:
            self._native.vouch(token, accepted.user, self._clock.now().timestamp() + accepted.seconds)
        return accepted.user

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom tokens for the API are meant for."""
        return self._audiences

    async def review(self, token: str, audiences: Sequence[str]) -> tuple[UserInfo, list[str]] | Refused:
        """The user and those audiences (of the API's own, when none are given) that the token is meant for."""
        wanted = tuple(audiences) or self._audiences
        known = self._native.review_token(token, list(wanted))
        if known is not None:
            return known
        accepted = await self._ask(token, wanted)
        return accepted if isinstance(accepted, Refused) else (accepted.user, list(accepted.audiences))

    async def _ask(self, token: str, audiences: tuple[str, ...]) -> Accepted | Refused:
        """Once for all who ask about the same token meanwhile."""
        if not self._modules:
            return Refused()
        key = (hashlib.sha256(token.encode()).digest(), audiences)
        asking = self._asking.get(key)
        if asking is None:
            # A Task of its own: who asked first may go, and handlers run without one.
            work = self._in_turn(token, audiences)
            asking = self._asking[key] = asyncio.get_running_loop().create_task(work, name="token")
            asking.add_done_callback(self._forgetting(key))
        return await asyncio.shield(asking)

    def _forgetting(self, key: tuple[bytes, tuple[str, ...]]) -> Callable[[asyncio.Task[Accepted | Refused]], None]:
        def forget(task: asyncio.Task[Accepted | Refused]) -> None:
            if self._asking.get(key) is task:
                del self._asking[key]

        return forget

    async def _in_turn(self, token: str, audiences: tuple[str, ...]) -> Accepted | Refused:
        why: list[str] = []
        for module in self._modules:
            try:
                accepted = await module.authenticate(token, audiences)
            except TokenRefused as refused:
                log.info("a token is refused: %s", refused)
                why.append(str(refused))
                self._remark(token, refused.remarks)
                continue
            except Exception:
                log.exception("%s failed", type(module).__name__)
                continue
            if accepted is not None:
                self._remark(token, accepted.remarks)
                return accepted._replace(user=_authenticated(accepted.user))
        return Refused(tuple(why))

    def _remark(self, token: str, remarks: Remarks) -> None:
        if remarks == _NONE:
            return
        warning = f'299 - "{remarks.warning}"' if remarks.warning else None
        self._native.remark(token, warning=warning, annotations=remarks.annotations)


def _authenticated(user: UserInfo) -> UserInfo:
    """With the group of all whose credentials are good."""
    if "system:authenticated" in user.groups or "system:unauthenticated" in user.groups:
        return user
    extra = {key: list(values) for key, values in user.extra.items()}
    return _native.UserInfo(user.username, user.uid, [*user.groups, "system:authenticated"], extra)
