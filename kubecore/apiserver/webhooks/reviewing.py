"""Asks the webhooks that a kubeconfig names: one review to its server, one review back.

After upstream k8s.io/apiserver pkg/util/webhook/webhook.go: what looks transient is tried again, a few times.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from kubecore import _native
from kubecore.api import durations
from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.webhooks.answers import BadReview, review_of
from kubecore.apiserver.webhooks.credentials import of_context
from kubecore.apiserver.webhooks.outgoing import Outgoing
from kubecore.apiserver.webhooks.wording import failure, refused

if TYPE_CHECKING:
    from kubecore.clock import Clock

JSON = dict[str, Any]
T = TypeVar("T")

_HTTP, _HTTPS = 80, 443
_LARGEST_ANSWER = 16 << 20
# `DefaultAuthWebhookRetryBackoff`
_TRIES, _FIRST_PAUSE, _FACTOR, _JITTER = 5, 0.5, 1.5, 0.2
# How often a client does what an answer's Retry-After says.
_WAITS = 10
_TRANSIENT = ("InternalError", "Timeout", "TooManyRequests")
_TOO_MANY, _UNAVAILABLE, _TIMED_OUT = 429, 503, 504


class ReviewFailed(Exception):
    """No usable answer; the text says why."""

    def __init__(self, why: str, *, timed_out: bool = False) -> None:
        super().__init__(why)
        self.timed_out = timed_out

    @property
    def result(self) -> str:
        """As metrics call it."""
        return "timeout" if self.timed_out else "error"


def _unheard(result: str, seconds: float) -> None:
    """Nobody counts."""


class _Transient(ReviewFailed):
    """It may be better a moment later."""


class _Final(ReviewFailed):
    """Not even who insists asks again."""


class _Answer(NamedTuple):
    status: int
    content_type: str
    retry_after: str
    body: bytes

    @property
    def pause(self) -> int | None:
        """Seconds after which it asks to be asked again."""
        busy = self.status == _TOO_MANY or self.status >= 500
        return int(self.retry_after) if busy and self.retry_after.isdecimal() else None

    @property
    def may_be_better(self) -> bool:
        """A moment later, as upstream's DefaultShouldRetry has it."""
        if (told := failure(self.body)) is not None:
            return told.get("reason") in _TRANSIENT or told.get("code") == _TOO_MANY
        busy = self.status >= 500 and self.status != _UNAVAILABLE
        return busy or self.status == _TOO_MANY or self.pause is not None


def _reviewed(answer: _Answer, version: str, kind: str) -> JSON:
    try:
        return review_of(answer.body, answer.status, answer.content_type, version=version, kind=kind)
    except BadReview as error:
        raise ReviewFailed(str(error)) from None


class Reviewer:
    """One webhook. Keeps its connections; `close` ends them."""

    def __init__(
        self,
        config: Kubeconfig,
        clock: Clock,
        *,
        timeout_seconds: float = 30.0,
        first_pause: float = _FIRST_PAUSE,
        insists: bool = False,
    ) -> None:
        """`insists`: whatever fails is tried again. Raises ValueError for credentials that are none."""
        self._insists = insists
        # What the server's address has besides a path is not sent.
        parts = urlsplit(config.server)
        self._target = f"{parts.path or '/'}?timeout={durations.text(timeout_seconds)}"
        self._url = f"{parts.scheme}://{parts.netloc}{self._target}"
        self._clock = clock
        self._timeout = timeout_seconds
        self._first_pause = first_pause
        is_secure = parts.scheme == "https"
        self._place = parts.hostname or "", parts.port or (_HTTPS if is_secure else _HTTP)
        self._name = config.tls_server_name or self._place[0]
        self._client = _native.OutgoingClient(_tls(config) if is_secure else None)
        host = parts.netloc.rpartition("@")[2]
        self._headers = [("Host", host), ("Content-Type", "application/json"), ("Accept", "application/json, */*")]
        self._credential = of_context(config)
        self._outgoing = Outgoing("a review by a webhook")
        self.heard: Callable[[str, float], None] = _unheard
        """Called whenever it was asked: `success`, `error`, `timeout` or `canceled`, and the seconds that took."""

    async def review(self, review: JSON) -> JSON:
        """The answer, which is of the same kind. Raises ReviewFailed."""
        version, kind = review["apiVersion"], review["kind"]
        return await self._tried(orjson.dumps(review), lambda got: _reviewed(got, version, kind))

    async def send(self, body: bytes) -> None:
        """Whatever is answered, if it is a success. Raises ReviewFailed."""
        await self._tried(body, lambda got: None)

    async def _tried(self, body: bytes, read: Callable[[_Answer], T]) -> T:
        pause = self._first_pause
        for _ in range(_TRIES - 1):
            try:
                return await self._counted(body, read)
            except ReviewFailed as failed:
                if not isinstance(failed, _Transient) and (isinstance(failed, _Final) or not self._insists):
                    raise
                await self._clock.sleep(pause * (1 + _JITTER * random.random()))
                pause *= _FACTOR
        return await self._counted(body, read)

    async def _counted(self, body: bytes, read: Callable[[_Answer], T]) -> T:
        began, result = self._clock.monotonic(), "canceled"
        try:
            made = read(await self._once(body))
            result = "success"
            return made
        except ReviewFailed as failed:
            result = failed.result
            raise
        finally:
            self.heard(result, self._clock.monotonic() - began)

    async def _once(self, body: bytes) -> _Answer:
        """A success. In the time that there is, the webhook is asked again as often as it says when to."""
        left, waits = self._timeout, _WAITS
        while True:
            began = self._clock.monotonic()
            answer = await self._post(body, left)
            left -= self._clock.monotonic() - began
            if waits == 0 or (pause := answer.pause) is None:
                break
            waits -= 1
            await self._clock.sleep(min(pause, left))
            left -= pause
            if left <= 0:
                raise self._late()
        if 200 <= answer.status <= 206:
            return answer
        told = refused(answer.status, answer.body, answer.content_type)
        redirects = 300 <= answer.status < 400
        kind = _Transient if answer.may_be_better else _Final if redirects else ReviewFailed
        raise kind(told, timed_out=answer.status == _TIMED_OUT)

    def _late(self) -> ReviewFailed:
        return ReviewFailed(f'Post "{self._url}": context deadline exceeded', timed_out=True)

    async def _post(self, body: bytes, seconds: float) -> _Answer:
        began = self._clock.monotonic()
        try:
            shown = [*self._headers, *await self._credential.shown(self._clock)]
            with self._clock.elsewhere():
                found = await self._outgoing.calls.post(
                    self._client,
                    self._name,
                    self._place[1],
                    self._target,
                    shown,
                    body,
                    place=self._place,
                    seconds=seconds,
                    largest=_LARGEST_ANSWER,
                )
        except TimeoutError:
            raise self._late() from None
        except _native.UnfinishedAnswer as error:
            why = f"unexpected error when reading response body. Please retry. Original error: {error}"
            raise ReviewFailed(why) from None
        except ConnectionResetError as error:
            raise _Transient(f'Post "{self._url}": {error}') from None
        except (OSError, ValueError) as error:
            raise ReviewFailed(f'Post "{self._url}": {error}') from None
        assert found is not None, "whoever says where to connect is not left without"
        answer = _Answer(*found)
        if answer.status == 401:
            self._credential.refused(began)
        return answer

    async def close(self) -> None:
        self._outgoing.close()


def _tls(config: Kubeconfig) -> _native.BackendTls:
    """Raises ValueError."""
    authorities = None if config.insecure_skip_tls_verify else config.certificate_authority or None
    identity = (config.client_certificate, config.client_key) if config.client_certificate else None
    try:
        return _native.BackendTls(
            identity=identity, ca_pem=authorities, named=True, system=not config.insecure_skip_tls_verify
        )
    except ValueError as error:
        raise ValueError(f"unusable certificates: {error}") from None
