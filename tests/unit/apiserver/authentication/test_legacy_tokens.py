"""Tokens kept in Secrets while the watch that tells of them is interrupted."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from kubecore.apiserver.authentication.legacy_tokens import LegacyTokens
from kubecore.apiserver.authentication.tokens import LegacyToken
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.storage.interface import Stored

Object = dict[str, Any]


class Hub:
    """Each query is answered with the next script of batches; the last one ends the follower."""

    def __init__(self, *scripts: Sequence[list[WatchEvent]]) -> None:
        self.scripts = list(scripts)

    def query(self, key: str, query: str) -> Hub:
        if not self.scripts:
            raise asyncio.CancelledError
        self.script = self.scripts.pop(0)
        return self

    async def batches(self) -> AsyncIterator[list[WatchEvent]]:
        for batch in self.script:
            yield batch


class Store(dict[str, Object]):
    def get(self, resource: str, namespace: str, name: str) -> Stored | None:  # type: ignore[override]
        found = {"serviceaccounts": {"robot": {"metadata": {"uid": "u"}}}, "secrets": dict(self)}[resource].get(name)
        return Stored(revision=1, value=orjson.dumps(found)) if found is not None else None


class Issuer:
    def read_legacy(self, token: str) -> LegacyToken:
        return LegacyToken("default", "robot", "u", token.removeprefix("token-of-"))


class Authenticator:
    def __init__(self) -> None:
        self.said: list[str] = []

    def keep_token(self, token: str, user: object) -> None:
        self.said.append(f"put {token}")

    def forget_token(self, token: str) -> None:
        self.said.append(f"forget {token}")


def secret(name: str) -> Object:
    token = base64.b64encode(f"token-of-{name}".encode()).decode()
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"token": token}}


def told(type: str, *names: str) -> list[WatchEvent]:
    return [WatchEvent(type, orjson.dumps(secret(name))) for name in names]


async def test_a_watch_that_is_begun_anew_costs_no_token_but_those_that_went_meanwhile() -> None:
    store, authenticator = Store(stays=secret("stays")), Authenticator()
    hub = Hub([told("ADDED", "stays", "goes")], [told("ADDED", "stays")])
    follower: Any = LegacyTokens(hub, store, Issuer(), authenticator)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await follower.run()
    assert authenticator.said == ["put token-of-stays", "put token-of-goes", "forget token-of-goes"]
