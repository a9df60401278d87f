"""What a webhook or an issuer has said of a token counts in the front for as long as it said, by the clock, and then it
is asked, or judged, anew: over one connection and over others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kubecore.apiserver.authentication.options import AuthenticationOptions, OIDCOptions, TokenWebhookOptions
from kubecore.apiserver.authorization.options import AuthorizationOptions, WebhookOptions
from kubecore.apiserver.server import APIServer
from kubecore.clock import VirtualClock
from tests.support.openid_issuer import OpenIDIssuer, issuing
from tests.support.review_webhook import ReviewWebhook, reviewing

from .http import Http
from .serving import served, whoami

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"


class Callers:
    """One that keeps its connection, and others that come anew with the same token."""

    def __init__(self, server: APIServer, folder: Path, token: str, kept: Http) -> None:
        self._server, self._folder, self._token, self._kept = server, folder, token, kept

    async def statuses(self, path: str = "") -> tuple[int, int]:
        async with Http(self._server, self._folder, token=self._token) as another:
            return await _status(self._kept, path), await _status(another, path)


async def _status(http: Http, path: str) -> int:
    return (await http.call("GET", path)).status if path else (await whoami(http))[0]


@asynccontextmanager
async def calling(folder: Path, clock: VirtualClock, token: str, **options: Any) -> AsyncIterator[Callers]:
    async with served(folder, clock, **options) as server, Http(server, folder, token=token) as http:
        yield Callers(server, folder, token, http)


@asynccontextmanager
async def webhook_of_tokens(folder: Path, seconds: float) -> AsyncIterator[tuple[ReviewWebhook, AuthenticationOptions]]:
    async with reviewing(folder, lambda spec: {"authenticated": True, "user": {"username": "jane"}}) as (hook, file):
        options = TokenWebhookOptions(config_file=file, version="v1", cache_ttl=seconds)
        yield hook, AuthenticationOptions(webhook=options)


async def test_a_token_that_a_webhook_found_good_is_asked_about_again_after_a_while(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with (
        webhook_of_tokens(tmp_path, 120.0) as (webhook, options),
        calling(tmp_path, clock, "t", authentication=options) as callers,
    ):
        assert await callers.statuses() == (201, 201)
        await clock.advance(119.0)
        assert await callers.statuses() == (201, 201)
        assert len(webhook.specs) == 1
        webhook.decide = lambda spec: {"authenticated": False}
        await clock.advance(2.0)
        assert await callers.statuses() == (401, 401)
        assert len(webhook.specs) == 2
        webhook.decide = lambda spec: {"authenticated": True, "user": {"username": "jane"}}
        await clock.advance(119.0)
        assert await callers.statuses() == (401, 401)
        await clock.advance(2.0)
        assert await callers.statuses() == (201, 201)
        assert len(webhook.specs) == 3


async def test_what_a_webhook_said_of_an_access_is_asked_again_after_a_while(tmp_path: Path) -> None:
    """What is allowed counts for longer than what is not."""
    clock = VirtualClock()
    async with (
        webhook_of_tokens(tmp_path, 3600.0) as (_, authentication),
        reviewing(tmp_path, lambda spec: {"allowed": True}, name="accesses") as (webhook, file),
    ):
        options = WebhookOptions(config_file=file, version="v1", authorized_ttl=300.0, unauthorized_ttl=30.0)
        given: JSON = {
            "authentication": authentication,
            "authorization_modes": ("Webhook",),
            "authorization": AuthorizationOptions(webhook=options),
        }
        async with calling(tmp_path, clock, "t", **given) as callers:
            assert await callers.statuses(MAPS) == (200, 200)
            webhook.decide = lambda spec: {"allowed": False}
            await clock.advance(299.0)
            assert await callers.statuses(MAPS) == (200, 200)
            assert len(webhook.specs) == 1
            await clock.advance(2.0)
            assert await callers.statuses(MAPS) == (403, 403)
            webhook.decide = lambda spec: {"allowed": True}
            await clock.advance(29.0)
            assert await callers.statuses(MAPS) == (403, 403)
            assert len(webhook.specs) == 2
            await clock.advance(2.0)
            assert await callers.statuses(MAPS) == (200, 200)
            assert len(webhook.specs) == 3


@pytest.fixture
async def issuer() -> AsyncIterator[OpenIDIssuer]:
    async with issuing() as made:
        made.keys["rsa"] = rsa.generate_private_key(65537, 2048)
        yield made


def trusting(issuer: OpenIDIssuer, folder: Path) -> AuthenticationOptions:
    file = folder / "issuer-ca.crt"
    file.write_text(issuer.ca)
    return AuthenticationOptions(oidc=OIDCOptions(issuer_url=issuer.url, client_id="kubecore", ca_file=file))


@pytest.mark.parametrize("lasts", [4, 300])
async def test_a_token_of_an_issuer_is_good_until_it_expires(tmp_path: Path, issuer: OpenIDIssuer, lasts: int) -> None:
    """Also where that is sooner than what is good is looked at again."""
    clock = VirtualClock()
    token = issuer.token({"sub": "jane", "exp": clock.now().timestamp() + lasts}, algorithm="RS256", kid="rsa")
    async with calling(tmp_path, clock, token, authentication=trusting(issuer, tmp_path)) as callers:
        assert await callers.statuses() == (201, 201)
        await clock.advance(lasts - 1.0)
        assert await callers.statuses() == (201, 201)
        await clock.advance(2.0)
        assert await callers.statuses() == (401, 401)


async def test_a_token_of_an_issuer_is_looked_at_again_within_its_life(tmp_path: Path, issuer: OpenIDIssuer) -> None:
    """Whose keys may have been taken back."""
    clock = VirtualClock()
    token = issuer.token({"sub": "jane"}, algorithm="RS256", kid="rsa")
    async with calling(tmp_path, clock, token, authentication=trusting(issuer, tmp_path)) as callers:
        assert await callers.statuses() == (201, 201)
        del issuer.keys["rsa"]
        await clock.advance(7200.0)
        assert await callers.statuses() == (401, 401)
