"""Asks the webhooks that a kubeconfig names: one review to its server, one review back.

After upstream k8s.io/apiserver pkg/util/webhook/webhook.go: what looks transient is tried again, a few times.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

import orjson

from kubecore import node_network
from kubecore.api import durations
from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.webhooks.answers import BadReview, review_of
from kubecore.apiserver.webhooks.bodies import HEADS, up_to
from kubecore.apiserver.webhooks.credentials import of_context
from kubecore.apiserver.webhooks.wording import failure, refused, said
from kubecore.server_trust import trusting

if TYPE_CHECKING:
    import aiohttp

    from kubecore.clock import Clock

JSON = dict[str, Any]
T = TypeVar("T")

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
        self, config: Kubeconfig, clock: Clock, *, timeout_seconds: float = 30.0, first_pause: float = _FIRST_PAUSE
    ) -> None:
        """Raises ValueError for credentials that are none."""
        # What the server's address has besides a path is not sent.
        self._url = _address(config.server, timeout_seconds)
        self._clock = clock
        self._timeout = timeout_seconds
        self._first_pause = first_pause
        self._ssl = _context(config)
        self._server_name = config.tls_server_name or None
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        self._credential = of_context(config)
        self._session: aiohttp.ClientSession | None = None
        self.heard: Callable[[str, float], None] = _unheard
        """Called whenever it was asked: `success`, `error`, `timeout` or `canceled`, and the seconds that took."""

    async def review(self, review: JSON) -> JSON:
        """The answer, which is of the same kind. Raises ReviewFailed."""
        # A Task of its own: handlers run without one, and a time-out needs something to cancel.
        version, kind = review["apiVersion"], review["kind"]
        work = self._tried(orjson.dumps(review), lambda got: _reviewed(got, version, kind))
        return await asyncio.get_running_loop().create_task(work, name="review")

    async def send(self, body: bytes) -> None:
        """Whatever is answered, if it is a success. Raises ReviewFailed."""
        await self._tried(body, lambda got: None)

    async def _tried(self, body: bytes, read: Callable[[_Answer], T]) -> T:
        pause = self._first_pause
        for _ in range(_TRIES - 1):
            try:
                return await self._counted(body, read)
            except _Transient:
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
            try:
                async with self._clock.outside(left):
                    answer = await self._post(body)
            except TimeoutError:
                raise self._late() from None
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
        raise (_Transient if answer.may_be_better else ReviewFailed)(told, timed_out=answer.status == _TIMED_OUT)

    def _late(self) -> ReviewFailed:
        return ReviewFailed(f'Post "{self._url}": context deadline exceeded', timed_out=True)

    async def _post(self, body: bytes, *, again: bool = True) -> _Answer:
        import aiohttp

        try:
            session, began = self._connected(), self._clock.monotonic()
            shown = await self._credential.shown(self._clock)
            async with session.post(
                self._url, data=body, headers=shown, allow_redirects=False, server_hostname=self._server_name
            ) as answer:
                if answer.status == 401:
                    self._credential.refused(began)
                # What is too long is cut, and then no JSON.
                got = await up_to(_LARGEST_ANSWER, answer)
                told = answer.headers
                return _Answer(answer.status, told.get("Content-Type") or "", told.get("Retry-After") or "", got)
        except TimeoutError:
            raise
        except aiohttp.ClientPayloadError as error:
            why = f"unexpected error when reading response body. Please retry. Original error: {said(error)}"
            raise ReviewFailed(why) from None
        except aiohttp.ServerDisconnectedError as error:
            if again:
                # The connection may have been one that was closed since it was used last.
                return await self._post(body, again=False)
            raise ReviewFailed(f'Post "{self._url}": {said(error)}') from None
        except ConnectionResetError as error:
            raise _Transient(f'Post "{self._url}": {said(error)}') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ReviewFailed(f'Post "{self._url}": {said(error)}') from None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._ssl, limit=0, socket_factory=node_network.of_address),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                **HEADS,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _address(server: str, seconds: float) -> str:
    """Which says how long we wait, as clients of API servers do."""
    parts = urlsplit(server)
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", f"timeout={durations.text(seconds)}", ""))


def _context(config: Kubeconfig) -> ssl.SSLContext:
    try:
        context = trusting(config.certificate_authority.decode())
        if config.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if config.client_certificate:
            load_pair(context, config.client_certificate, config.client_key)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"unusable certificates: {error}") from None
    return context


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Python's ssl takes keys from files only; this one is the owner's alone, and gone at once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pair.pem"
        file.touch(mode=0o600)
        file.write_bytes(certificate + b"\n" + key)
        context.load_cert_chain(file)
