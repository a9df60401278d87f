"""POSTs JSON to a webhook: at a URL, or at a Service of the cluster, verified by the CAs its configuration names.

After upstream k8s.io/apiserver pkg/util/webhook/client.go. Services are called at one of their ready endpoints, as
kube-apiserver does with `--enable-aggregator-routing`: virtual addresses need not be reachable from here.
"""

from __future__ import annotations

import base64
import math
import posixpath
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urlsplit

from kubecore import _native
from kubecore.apiserver.tracing import spans
from kubecore.apiserver.webhooks.credentials import NOBODY, Credential
from kubecore.apiserver.webhooks.outgoing import Outgoing
from kubecore.apiserver.webhooks.resolving import endpoint
from kubecore.apiserver.webhooks.wording import JSON_TYPE, empty, refused

if TYPE_CHECKING:
    from kubecore.apiserver.webhooks.resolving import Lookup
    from kubecore.clock import Clock

# Status, Content-Type, Retry-After, body.
Answer = tuple[int, str, str, bytes]

_HTTPS = 443
_LARGEST_ANSWER = 16 << 20
_CLIENTS = 64
# Of what is in a URL already.
_OF_PATHS = "/%:@!$&'()*+,;=-._~"


class WebhookError(Exception):
    """The call failed; the text says why, as `Post "URL": reason`. `code` is the answer's, 503 where there is none."""

    def __init__(self, why: str, code: int = 503) -> None:
        super().__init__(why)
        self.code = code


class NoClient(WebhookError):
    """Nobody was called, since what is configured does not do."""


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
    authority: tuple[str, int] = field(init=False, compare=False)
    """Host and port, by which credentials are found."""
    host: str = field(init=False, compare=False)
    """As a request names it."""
    path: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.service is not None:
            authority, path = (self.service.host, self.service.port), self.service.path
            host = f"{authority[0]}:{authority[1]}"
        else:
            parts = urlsplit(self.url)
            authority, path, host = (parts.hostname or "", _port(parts)), parts.path, parts.netloc
        for name, value in (("authority", authority), ("host", host), ("path", _clean(path))):
            object.__setattr__(self, name, value)

    def asked_within(self, seconds: float) -> str:
        """Path and query of the request, with the time-out in whole seconds as a parameter, as upstream has it."""
        return f"{self.path}?timeout={math.ceil(seconds)}s"

    def address(self, seconds: float) -> str:
        return f"https://{self.host}{self.asked_within(seconds)}"


def _port(parts: SplitResult) -> int:
    """As a URL has it, which may be none; who asks there is told so."""
    try:
        return _HTTPS if parts.port is None else parts.port
    except ValueError:
        return -1


def _clean(path: str) -> str:
    """As Go's `path.Join` makes it, by which client-go puts paths together: without empty, `.` and `..` parts, whatever
    stands in a configuration (controller-runtime's envtest has two slashes in its URLs). What no URL has is escaped."""
    return quote("/" + posixpath.normpath(f"/{path}").lstrip("/"), safe=_OF_PATHS)


# Upstream's `User-Agent`, by which webhooks know who asks.
_TOLD = (("Content-Type", JSON_TYPE), ("Accept", f"{JSON_TYPE}, */*"), ("User-Agent", "kube-apiserver-admission"))


class WebhookCaller:
    """Keeps connections per set of CAs and client certificate; `close` ends them."""

    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock
        self._outgoing = Outgoing("the call of a webhook")
        self._clients: dict[tuple[str, bytes], _native.OutgoingClient] = {}

    async def post(
        self, target: Target, body: bytes, *, timeout_seconds: float, credential: Credential = NOBODY
    ) -> bytes:
        """The body of a success. Raises WebhookError for anything else, redirections included."""
        began = self._clock.monotonic()
        try:
            status, content_type, _, got = await self._asked(target, body, timeout_seconds, credential)
        except _native.UnfinishedAnswer as error:
            why = f"unexpected error when reading response body. Please retry. Original error: {error}"
            raise WebhookError(why) from None
        except (OSError, ValueError) as error:
            raise WebhookError(f'Post "{target.address(timeout_seconds)}": {error}') from None
        if status == 401:
            credential.refused(began)
        if not 200 <= status <= 206:
            raise WebhookError(refused(status, got, content_type), status)
        if not got:
            raise WebhookError(empty(status, content_type))
        return got

    async def _asked(self, target: Target, body: bytes, seconds: float, credential: Credential) -> Answer:
        """Raises OSError, also TimeoutError and UnfinishedAnswer, and ValueError."""
        headers = [("Host", target.host), *_TOLD, *await credential.shown(self._clock)]
        try:
            client, (name, port) = self._client(target, credential), target.authority
        except ValueError as error:
            raise NoClient(str(error)) from None
        if port < 0:
            raise ValueError(f"dial tcp: address {target.host.rpartition(':')[2]}: invalid port")
        with (
            spans.step("HTTP POST", lambda: {"url.full": target.address(seconds)}, kind=spans.CLIENT) as span,
            self._clock.elsewhere(),
        ):
            if span is not None:
                headers.append((spans.HEADER, span.header))
            post = partial(self._outgoing.calls.post, client, name, port, target.asked_within(seconds), headers, body)
            post = partial(post, seconds=seconds, largest=max(_LARGEST_ANSWER, 4 * len(body)))
            place = None if client.keeps(name, port) else endpoint(self._lookup, name, port)
            while (answer := await post(place=place)) is None:
                # The connection that was kept has ended meanwhile.
                place = endpoint(self._lookup, name, port)
            if span is not None:
                span.answered(answer[0])
        return answer

    def _client(self, target: Target, credential: Credential) -> _native.OutgoingClient:
        """Raises ValueError for certificates that are none, and for a certificate and key that are no pair."""
        key = target.ca_bundle, credential.certificate
        found = self._clients.pop(key, None)
        if found is None:
            if len(self._clients) >= _CLIENTS:
                # That which was used longest ago; requests under way are answered.
                del self._clients[next(iter(self._clients))]
            found = _native.OutgoingClient(_tls(target.ca_bundle, credential))
        self._clients[key] = found
        return found

    async def close(self) -> None:
        self._outgoing.close()
        self._clients.clear()


def _tls(ca_bundle: str, credential: Credential) -> _native.BackendTls:
    pem = base64.b64decode(ca_bundle)
    try:
        made = _native.BackendTls(ca_pem=pem or None, named=True, system=True)
    except ValueError:
        raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from None
    if not credential.certificate:
        return made
    identity = credential.certificate, credential.key
    try:
        return _native.BackendTls(identity=identity, ca_pem=pem or None, named=True, system=True)
    except ValueError as error:
        is_no_pair = "KeyMismatch" in str(error)
        raise ValueError(f"tls: {'private key does not match public key' if is_no_pair else error}") from None
