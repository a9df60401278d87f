"""ID tokens of an OpenID Connect issuer.

After upstream k8s.io/apiserver plugin/pkg/authenticator/token/oidc and the library it uses: the issuer says where its
keys are, which are fetched when a token needs them; one that is signed by an unknown key makes them be fetched again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api.quoting import quoted
from kubecore.apiserver.authentication import json_web_tokens
from kubecore.apiserver.authentication.claims import ClaimError, ClaimMapping
from kubecore.apiserver.authentication.json_web_tokens import BadToken
from kubecore.apiserver.authentication.modules import REMEMBERED_SECONDS, Accepted, TokenRefused, intersection
from kubecore.apiserver.webhooks.bodies import up_to
from kubecore.apiserver.webhooks.wording import said
from kubecore.server_trust import trusting

if TYPE_CHECKING:
    import aiohttp

    from kubecore.apiserver.authentication.issuer_metrics import IssuerMetrics
    from kubecore.apiserver.authentication.json_web_tokens import Key, Token
    from kubecore.clock import Clock

JSON = dict[str, Any]

log = logging.getLogger("kubecore.apiserver.authentication")

_WELL_KNOWN = "/.well-known/openid-configuration"
_TIMEOUT = 30.0
_LARGEST = 1 << 20
_NOT_BEFORE_LEEWAY = 300.0
# Keys are looked at again after this long, or as long as the issuer says, so that one that is withdrawn is no good.
_KEYS_SECONDS = 300.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d+)")


class Unreachable(Exception):
    """The issuer does not say what it should; the text says why."""


class Issuer:
    """Fetches what an issuer publishes. Keeps its connections; `close` ends them."""

    def __init__(
        self, url: str, clock: Clock, metrics: IssuerMetrics, *, discovery_url: str = "", ca: str = ""
    ) -> None:
        """`ca` is PEM, empty for the system's. Raises ValueError for what is none."""
        self.url = url
        self.metrics = metrics
        self._discovery_url = discovery_url or url.rstrip("/") + _WELL_KNOWN
        self._clock = clock
        try:
            self._ssl = trusting(ca)
        except ssl.SSLError as error:
            raise ValueError(f"unusable certificate authority: {error}") from None
        self._keys: list[Key] = []
        self._keys_url = ""
        self._fresh_until = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def signed(self, token: Token, algorithm: str) -> bool:
        """Whether one of its keys has signed the token. Raises Unreachable where that cannot be told."""
        if self._fresh_until <= self._clock.monotonic():
            try:
                await self.fetch()
            except Unreachable:
                # What was known of it still holds, for want of better.
                if not self._keys:
                    raise
        if json_web_tokens.is_signed_by(token, algorithm, self._keys):
            return True
        await self.fetch()
        return json_web_tokens.is_signed_by(token, algorithm, self._keys)

    async def fetch(self) -> None:
        """Its keys, once for all who want them at the moment. Raises Unreachable."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), name="issuer")
            self._fetching.add_done_callback(self._fetched)
        await asyncio.shield(self._fetching)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        if not self._keys_url:
            told = _read(self._discovery_url, (await self._get(self._discovery_url))[0])
            if not isinstance(told, dict) or told.get("issuer") != self.url:
                got = told.get("issuer") if isinstance(told, dict) else None
                raise Unreachable(
                    f"oidc: issuer did not match the issuer returned by provider, expected {self.url!r} got {got!r}"
                )
            if not isinstance(told.get("jwks_uri"), str):
                raise Unreachable("provider did not return JWKS URL")
            self._keys_url = told["jwks_uri"]
        given: bytes | None = None
        try:
            body, seconds = await self._get(self._keys_url)
            self._keys = json_web_tokens.keys_of(_read(self._keys_url, body))
            given = body
        except ValueError as error:
            raise Unreachable(f"{self._keys_url}: {error}") from None
        finally:
            self.metrics.fetched(self.url, given)
        self._fresh_until = self._clock.monotonic() + seconds

    async def _get(self, url: str) -> tuple[bytes, float]:
        """What is there, and for how long it counts."""
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl)
            timeout = aiohttp.ClientTimeout(total=None)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        try:
            async with self._clock.outside(_TIMEOUT), self._session.get(url) as answer:
                body = await up_to(_LARGEST, answer)
                if answer.status != 200:
                    raise Unreachable(f'Get "{url}": {answer.status} {answer.reason}')
                age = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
                return body, float(age[1]) if age else _KEYS_SECONDS
        except TimeoutError:
            raise Unreachable(f'Get "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f'Get "{url}": {said(error)}') from None

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        if self._session is not None:
            await self._session.close()
            self._session = None


def _read(url: str, body: bytes) -> Any:
    """A JSON document. Raises Unreachable."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreachable(f'Get "{url}": {error}') from None


class OIDCAuthenticator:
    """A token module for the tokens of one issuer that are meant for one of `audiences`."""

    def __init__(
        self,
        issuer: Issuer,
        mapping: ClaimMapping,
        clock: Clock,
        *,
        audiences: Sequence[str],
        algorithms: Sequence[str],
        api_audiences: Sequence[str],
    ) -> None:
        self.issuer = issuer
        self._mapping = mapping
        self._clock = clock
        self._audiences = tuple(audiences)
        self._algorithms = tuple(algorithms)
        self._api_audiences = tuple(api_audiences)

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Accepted | None:
        try:
            parsed = json_web_tokens.parse(token)
        except BadToken:
            return None
        if parsed.claims.get("iss") != self.issuer.url:
            return None
        fitting = intersection(audiences, self._api_audiences)
        if not fitting:
            return None
        began, good = self._clock.monotonic(), False
        try:
            left = await self._verify(parsed)
            user = self._mapping.user(parsed.claims)
            good = True
        except (BadToken, ClaimError, Unreachable) as error:
            raise TokenRefused(f"oidc: {error}") from None
        finally:
            self.issuer.metrics.judged(self.issuer.url, self._clock.monotonic() - began, good=good)
        return Accepted(user, min(REMEMBERED_SECONDS, left), fitting)

    async def _verify(self, token: Token) -> float:
        """For how many seconds the token is still good. Raises BadToken, Unreachable."""
        claims, now = token.claims, self._clock.now().timestamp()
        algorithm = json_web_tokens.check_algorithm(token, self._algorithms)
        meant = claims.get("aud")
        meant = [meant] if isinstance(meant, str) else meant if isinstance(meant, list) else []
        if not any(one in meant for one in self._audiences):
            wanted, got = (" ".join(map(quoted, map(str, one))) for one in (sorted(self._audiences), meant))
            raise BadToken(f"verify token: oidc: expected audience in [{wanted}] got [{got}]")
        expires = _time(claims, "exp", required=True)
        if expires <= now:
            raise BadToken(f"verify token: oidc: token is expired (Token Expiry: {_as_go_tells(expires)})")
        if _time(claims, "nbf") > now + _NOT_BEFORE_LEEWAY:
            raise BadToken("verify token: current time is before the nbf (not before) time")
        if not await self.issuer.signed(token, algorithm):
            raise BadToken("verify token: failed to verify signature: failed to verify id token signature")
        return expires - now


def _as_go_tells(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
    except (OverflowError, ValueError, OSError):
        # No year of ours: whoever made the token may have written anything.
        return f"{seconds:g}"


def _time(claims: JSON, name: str, *, required: bool = False) -> float:
    """Unix seconds; 0 for a claim that may be missing. Raises BadToken."""
    value = claims.get(name)
    if value is None and not required:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadToken(f"verify token: claim {name} is no time")
    return float(value)
