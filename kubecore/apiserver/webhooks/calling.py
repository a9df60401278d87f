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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kubecore import node_network
from kubecore.apiserver.tracing import spans
from kubecore.apiserver.webhooks.bodies import HEADS, up_to
from kubecore.apiserver.webhooks.credentials import NOBODY, Credential
from kubecore.apiserver.webhooks.reviewing import load_pair
from kubecore.apiserver.webhooks.wording import JSON_TYPE, empty, refused, said
from kubecore.server_trust import trusting

if TYPE_CHECKING:
    import aiohttp

    from kubecore.apiserver.webhooks.resolving import Lookup
    from kubecore.clock import Clock

_LARGEST_ANSWER = 16 << 20
_SESSIONS = 64


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

        told = {"Content-Type": JSON_TYPE, "Accept": f"{JSON_TYPE}, */*", "User-Agent": _USER_AGENT}
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
            raise WebhookError(refused(answer.status, got, answer.headers.get("Content-Type") or ""), answer.status)
        if not got:
            raise WebhookError(empty(answer.status, answer.headers.get("Content-Type") or ""))
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
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                **HEADS,
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
