"""Tokens kept in Secrets while the watch that tells of them is interrupted."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from kubecore.apiserver.authentication.legacy_tokens import LegacyTokens
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.storage.interface import Stored
from kubecore.clock import VirtualClock

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
        return Stored(revision=1, value=orjson.dumps(self[name])) if name in self else None


def secret(name: str, **labels: str) -> Object:
    token = base64.b64encode(f"token-of-{name}".encode()).decode()
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}, "data": {"token": token}}


def told(type: str, *secrets: Object) -> list[WatchEvent]:
    return [WatchEvent(type, orjson.dumps(one)) for one in secrets]


async def changes(store: Store, *scripts: Sequence[list[WatchEvent]]) -> list[bool]:
    """What it says of a change: whether there are any tokens now."""
    follower: Any = LegacyTokens(store, None, VirtualClock())  # type: ignore[arg-type]
    said: list[bool] = []
    follower.changed = lambda: said.append(follower.are_any)
    with pytest.raises(asyncio.CancelledError):
        await follower.run(None, Hub(*scripts))
    return said


async def test_the_first_and_the_last_are_told_of() -> None:
    """For until then nobody need ask."""
    one, other = secret("one"), secret("other")
    events = [told("ADDED", one), told("ADDED", other), told("DELETED", one), told("DELETED", other)]
    # One that goes may have been found good a moment ago.
    assert await changes(Store(), events) == [True, True, False]


async def test_one_that_is_said_to_be_invalid_or_replaced_is_judged_anew_and_one_that_was_used_is_not() -> None:
    used, invalid = ({f"kubernetes.io/legacy-token-{what}": "2026-01-01"} for what in ("last-used", "invalid-since"))
    replaced = secret("one") | {"data": {"token": ""}}
    events = [told("ADDED", secret("one")), told("MODIFIED", secret("one", **used))]
    assert await changes(Store(), events) == [True]
    assert await changes(Store(), [*events, told("MODIFIED", secret("one", **used, **invalid))]) == [True, True]
    assert await changes(Store(), [*events, told("MODIFIED", replaced)]) == [True, False]


async def test_a_watch_that_is_begun_anew_costs_no_token_but_those_that_went_meanwhile() -> None:
    stays, goes = secret("stays"), secret("goes")
    assert await changes(Store(stays=stays), [told("ADDED", stays, goes)], [told("ADDED", stays)]) == [True, True]
