"""Tokens that somebody else knows: a TokenReview is sent to the server of a kubeconfig.

After upstream k8s.io/apiserver plugin/pkg/authenticator/token/webhook, and the cache around it in
pkg/kubeapiserver/authenticator.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.apiserver.authentication.modules import Accepted, TokenRefused, intersection
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed

if TYPE_CHECKING:
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

JSON = dict[str, Any]

VERSIONS = ("v1", "v1beta1")
_CACHED = 4096


class TokenWebhook:
    """`seconds` is how long an answer counts; `audiences` are those of the API, meant where an answer names none."""

    def __init__(
        self, reviewer: Reviewer, clock: Clock, *, version: str, seconds: float, audiences: Sequence[str]
    ) -> None:
        self._reviewer = reviewer
        self._clock = clock
        self._api_version = f"authentication.k8s.io/{version}"
        self._seconds = seconds
        self._audiences = tuple(audiences)
        self._answers: dict[tuple[bytes, tuple[str, ...]], tuple[JSON, float]] = {}

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Accepted | None:
        status, left = await self._status(token, tuple(audiences))
        fitting = intersection(audiences, status.get("audiences") or self._audiences)
        if not fitting:
            return None
        if status.get("authenticated") is not True:
            if status.get("error"):
                raise TokenRefused(str(status["error"]))
            return None
        user = status.get("user") or {}
        told = _native.UserInfo(
            user.get("username") or "", user.get("uid") or "", user.get("groups") or [], user.get("extra") or {}
        )
        return Accepted(told, left, fitting)

    async def _status(self, token: str, audiences: tuple[str, ...]) -> tuple[JSON, float]:
        """The answer's status, and for how many seconds it still counts."""
        key = (hashlib.sha256(token.encode()).digest(), audiences)
        known, until = self._answers.get(key, (None, 0.0))
        now = self._clock.monotonic()
        if known is not None and until > now:
            return known, until - now
        spec: JSON = {"token": token}
        if audiences:
            spec["audiences"] = list(audiences)
        review = {"apiVersion": self._api_version, "kind": "TokenReview", "metadata": {}, "spec": spec}
        review["status"] = {"user": {}}
        try:
            answer = await self._reviewer.review(review)
        except ReviewFailed as failed:
            # Not remembered: it may be another answer next time.
            log.error("Unable to authenticate the request: %s", failed)
            raise TokenRefused(str(failed)) from None
        status: JSON = answer.get("status") or {}
        # Neither is what the webhook could not tell.
        if self._seconds > 0 and (status.get("authenticated") is True or not status.get("error")):
            self._remember(key, status)
        return status, self._seconds

    def _remember(self, key: tuple[bytes, tuple[str, ...]], status: JSON) -> None:
        now = self._clock.monotonic()
        if len(self._answers) >= _CACHED:
            self._answers = {one: answer for one, answer in self._answers.items() if answer[1] > now}
            if len(self._answers) >= _CACHED:
                self._answers.clear()
        self._answers[key] = (status, now + self._seconds)

    async def close(self) -> None:
        await self._reviewer.close()
