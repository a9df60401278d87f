"""POSTs JSON to a webhook: at a URL, or at a Service of the cluster, verified by the CAs its configuration names.

After upstream k8s.io/apiserver pkg/util/webhook/client.go. Services are called at one of their ready endpoints, as
kube-apiserver does with `--enable-aggregator-routing`: virtual addresses need not be reachable from here.
"""

from __future__ import annotations

import asyncio
import base64
import math
import posixpath
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import orjson

from kubecore import node_network
from kubecore.api.quoting import quoted
from kubecore.apiserver.tracing import spans
from kubecore.apiserver.webhooks.bodies import up_to
from kubecore.apiserver.webhooks.credentials import NOBODY, Credential
from kubecore.apiserver.webhooks.reviewing import load_pair
from kubecore.server_trust import refusal, trusting

if TYPE_CHECKING:
    import aiohttp

    from kubecore.apiserver.webhooks.resolving import Lookup
    from kubecore.clock import Clock

_LARGEST_ANSWER = 16 << 20
_SESSIONS = 64
_JSON_TYPE = "application/json"


class WebhookError(Exception):
    """The call failed; the text says why, as `Post "URL": reason`. `code` is the answer's, 503 where there is none."""

    def __init__(self, why: str, code: int = 503) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    namespace: str
    name: str
    port: int = 443
    path: str = ""

    @property
    def host(self) -> str:
        """What its certificate must be for."""
        return f"{self.name}.{self.namespace}.svc"


@dataclass(frozen=True, slots=True)
class Target:
    """Either a URL or a service; `ca_bundle` is base64 of PEM, empty for the system's CAs."""

    url: str = ""
    service: ServiceTarget | None = None
    ca_bundle: str = ""

    def authority(self) -> tuple[str, int]:
        """Host and port, by which credentials are found."""
        if self.service is not None:
            return self.service.host, self.service.port
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 443

    def address(self, timeout_seconds: float) -> str:
        """Where the request goes, with the time-out in whole seconds as a parameter, as upstream has it."""
        if self.service is not None:
            base, path = f"https://{self.service.host}:{self.service.port}", self.service.path
        else:
            parts = urlsplit(self.url)
            base, path = f"{parts.scheme}://{parts.netloc}", parts.path
        return f"{base}{_clean(path)}?timeout={math.ceil(timeout_seconds)}s"


def _clean(path: str) -> str:
    """As Go's `path.Join` makes it, by which client-go puts paths together: without empty, `.` and `..` parts, whatever
    stands in a configuration (controller-runtime's envtest has two slashes in its URLs)."""
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


# Upstream's, by which webhooks know who asks.
_USER_AGENT = "kube-apiserver-admission"


class WebhookCaller:
    """Keeps connections per set of CAs and client certificate; `close` ends them."""

    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock
        self._sessions: dict[tuple[str, bytes], aiohttp.ClientSession] = {}

    async def post(
        self, target: Target, body: bytes, *, timeout_seconds: float, credential: Credential = NOBODY
    ) -> bytes:
        """The body of a success. Raises WebhookError for anything else, redirections included."""
        # A Task of its own: handlers run without one, and a time-out needs something to cancel.
        call = self._timely(target, body, timeout_seconds, credential)
        return await asyncio.get_running_loop().create_task(call, name="webhook")

    async def _timely(self, target: Target, body: bytes, seconds: float, credential: Credential) -> bytes:
        address = target.address(seconds)
        try:
            async with self._clock.outside(seconds):
                return await self._post(target, address, body, credential)
        except TimeoutError:
            raise WebhookError(f'Post "{address}": context deadline exceeded') from None

    async def _post(self, target: Target, address: str, body: bytes, credential: Credential) -> bytes:
        import aiohttp
        from multidict import CIMultiDict

        told = {"Content-Type": _JSON_TYPE, "Accept": f"{_JSON_TYPE}, */*", "User-Agent": _USER_AGENT}
        largest = max(_LARGEST_ANSWER, 4 * len(body))
        try:
            began = self._clock.monotonic()
            headers = CIMultiDict((*told.items(), *await credential.shown(self._clock)))
            session = self._session(target, credential)
            with spans.step("HTTP POST", lambda: {"url.full": address}, kind=spans.CLIENT) as span:
                if span is not None:
                    headers[spans.HEADER] = span.header
                async with session.post(address, data=body, headers=headers, allow_redirects=False) as answer:
                    got = await up_to(largest + 1, answer)
                if span is not None:
                    span.answered(answer.status)
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebhookError(f'Post "{address}": {said(error)}') from None
        if len(got) > largest:
            raise WebhookError(f'Post "{address}": the answer is larger than {largest} bytes')
        if answer.status == 401:
            credential.refused(began)
        if not 200 <= answer.status <= 206:
            raise WebhookError(_refusal(answer.status, got, answer.headers.get("Content-Type") or ""), answer.status)
        if not got:
            media = answer.headers.get("Content-Type") or _JSON_TYPE
            raise WebhookError(f"0-length response with status code: {answer.status} and content type: {media}")
        return got

    def _session(self, target: Target, credential: Credential) -> aiohttp.ClientSession:
        key = target.ca_bundle, credential.certificate
        found = self._sessions.pop(key, None)
        if found is None:
            import aiohttp

            from kubecore.apiserver.webhooks.resolving import ClusterResolver

            if len(self._sessions) >= _SESSIONS:
                self._retire()
            context = _context(target.ca_bundle, credential)
            connector = aiohttp.TCPConnector(
                ssl=context,
                resolver=ClusterResolver(self._lookup),
                use_dns_cache=False,
                limit=0,
                socket_factory=node_network.of_address,
            )
            found = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
            )
        self._sessions[key] = found
        return found

    def _retire(self) -> None:
        """Lets go of the session that was used longest ago; requests under way in it fail."""
        oldest = next(iter(self._sessions))
        asyncio.get_running_loop().create_task(self._sessions.pop(oldest).close(), name="webhook session")

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _context(ca_bundle: str, credential: Credential) -> ssl.SSLContext:
    """Raises ValueError for a bundle that is none, and for a certificate and key that are no pair."""
    pem = base64.b64decode(ca_bundle).decode("ascii", "replace").strip()
    try:
        context = trusting(pem)
    except ssl.SSLError:
        raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from None
    if credential.certificate:
        try:
            load_pair(context, credential.certificate, credential.key)
        except ssl.SSLError as error:
            raise ValueError(f"tls: {error}") from None
    return context


def said(error: BaseException) -> str:
    """Why a connection failed, in Go's words where they are known by them."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return refusal(cast(ssl.SSLCertVerificationError, error.certificate_error))
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.os_error.errno == 111:
            return f"dial tcp {error.host}:{error.port}: connect: connection refused"
        if error.os_error.errno is None:
            # No Service to dial.
            return str(error.os_error)
        return f"dial tcp {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error) or type(error).__name__


# After k8s.io/apimachinery pkg/api/errors/errors.go (NewGenericServerResponse).
_TOLD = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


_NOT_ACCEPTABLE = "the server was unable to respond with a content type that the client supports"


def _refusal(status: int, body: bytes, content_type: str) -> str:
    """As client-go words an answer that is no success: a Status says it itself, of other bodies only texts are told."""
    if 300 <= status < 400:
        return f"the server answered with a redirection ({status}), which is not followed"
    if (told := _said_by_status(body)) is not None:
        return told
    if status in _TOLD:
        return _TOLD[status]
    is_text = not content_type or content_type.strip().lower().startswith("text/")
    text = body[:2048].decode("utf-8", "replace").strip() if is_text else "unknown"
    if status == 406 and text in ("", "unknown"):
        return _NOT_ACCEPTABLE
    if status in (403, 406, 415):
        return text
    if status >= 500:
        return f"an error on the server ({quoted(text)}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"


def _said_by_status(body: bytes) -> str | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != ("v1", "Status"):
        return None
    return str(found.get("message") or "") if found.get("status") == "Failure" else None
