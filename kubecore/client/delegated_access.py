"""Who asks a component, and may they? The API server knows: TokenReview and SubjectAccessReview.

As upstream's components and kubelets ask it (apiserver `pkg/authentication/authenticatorfactory/delegating.go`,
`pkg/authorization/authorizerfactory`), with answers kept for a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kubecore._native import Request, UserInfo
from kubecore.client.client import Client, Object
from kubecore.clock import Clock

_MOST_KEPT = 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTimes:
    """In seconds, how long an answer counts; of components (kubelets: 2 and 5 minutes, 30 s)."""

    token: float = 10.0
    allowed: float = 10.0
    refused: float = 10.0


class DelegatedAccess:
    def __init__(self, client: Client, clock: Clock, times: CacheTimes | None = None) -> None:
        self._client = client
        self._times = times or CacheTimes()
        self._users = _Kept[UserInfo | None](clock)
        self._decisions = _Kept[tuple[bool, str]](clock)

    async def who(self, request: Request) -> UserInfo | None:
        """Who asks a server whose authenticator delegates; None for nobody that is known. Raises as `user_of`."""
        if request.authenticated is not None:
            return request.user
        kind, _, token = (request.header("authorization") or "").partition(" ")
        return await self.user_of(token.strip()) if kind.lower() == "bearer" else None

    async def user_of(self, token: str) -> UserInfo | None:
        """None for a token that is not good. Raises StatusError and OSError."""
        key = hashlib.sha256(token.encode()).hexdigest()  # whoever asks says how long a token is
        known = self._users.get(key)
        if known is not None:
            return known[0]
        answer = await self._client.create(
            "tokenreviews.authentication.k8s.io", {"metadata": {}, "spec": {"token": token}}
        )
        status = answer.get("status") or {}
        found = _user(status.get("user") or {}) if status.get("authenticated") else None
        if not status.get("error"):
            self._users.keep(key, found, self._times.token)
        return found

    async def allows(self, user: UserInfo, **attributes: Mapping[str, str]) -> tuple[bool, str]:
        """`resourceAttributes` or `nonResourceAttributes` of a review; the reason, too. Raises StatusError, OSError."""
        asked = {
            "user": user.username,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra.items()},
            **attributes,
        }
        key = hashlib.sha256(repr(asked).encode()).hexdigest()
        known = self._decisions.get(key)
        if known is not None:
            return known[0]
        answer = await self._client.create("subjectaccessreviews.authorization.k8s.io", {"metadata": {}, "spec": asked})
        status = answer.get("status") or {}
        decision = bool(status.get("allowed")), str(status.get("reason") or "")
        self._decisions.keep(key, decision, self._times.allowed if decision[0] else self._times.refused)
        return decision


def _user(told: Object) -> UserInfo:
    return UserInfo(told.get("username") or "", told.get("uid") or "", told.get("groups") or (), told.get("extra"))


class _Kept(Generic[T]):
    """Answers by what was asked, until their time is over; when there are too many, those that came first go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: dict[str, tuple[float, T]] = {}

    def get(self, key: str) -> tuple[T] | None:
        found = self._answers.get(key)
        return (found[1],) if found is not None and self._clock.monotonic() < found[0] else None

    def keep(self, key: str, answer: T, seconds: float) -> None:
        self._answers.pop(key, None)
        while len(self._answers) >= _MOST_KEPT:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = (self._clock.monotonic() + seconds, answer)
