"""Secrets with tokens of service accounts say when these were used, and a ConfigMap since when they do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubecore.apiserver.server import APIServer
from kubecore.clock import VirtualClock

from .conftest import Api
from .http import Http
from .serving import served, whoami

pytestmark = pytest.mark.asyncio

SECRETS, ACCOUNTS, MAPS = "v1/secrets", "v1/serviceaccounts", "v1/configmaps"
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
LAST_USED, INVALID = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
FIRST_DAY, DAY = "2026-01-01", 24 * 3600.0
ROBOT = "system:serviceaccount:default:robot"


@dataclass
class World:
    server: APIServer
    clock: VirtualClock
    api: Api
    folder: Path
    token: str = ""

    async def keep_token(self) -> None:
        """In Secret `kept`, as the controller for it would."""
        _, account = await self.api.create(ACCOUNTS, {"metadata": {"name": "robot"}})
        names = {"namespace": "default", "account": "robot", "account_uid": account["metadata"]["uid"]}
        self.token = self.server.tokens.issue_legacy(**names, secret="kept")
        metadata = {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "robot"}}
        data = {"token": base64.b64encode(self.token.encode()).decode()}
        body = {"metadata": metadata, "type": "kubernetes.io/service-account-token", "data": data}
        assert (await self.api.create(SECRETS, body))[0] == 201
        await self.clock.settle()

    async def come(self) -> str | int:
        """Somebody asks with the token: whom he is taken for, or the answer's status."""
        async with Http(self.server, self.folder, token=self.token) as http:
            status, user = await whoami(http)
        return user["username"] if status == 201 else status

    async def label(self, name: str) -> str | None:
        _, secret = await self.api.get(SECRETS, "kept")
        found: str | None = (secret["metadata"].get("labels") or {}).get(name)
        return found

    async def set_labels(self, **labels: str) -> None:
        await self.api.patch(SECRETS, "kept", {"metadata": {"labels": labels}})
        await self.clock.settle()

    def counted(self, name: str) -> int:
        told = self.server.metrics.render().decode()
        return int(told.split(f"\nserviceaccount_{name}_total ")[1].split("\n")[0])

    async def since(self) -> str | None:
        status, found = await Api(self.api.transport, "kube-system").get(MAPS, TRACKING)
        return found["data"].get("since") if status == 200 else None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    async with served(tmp_path, clock) as server:
        await clock.settle()
        transport = server.transport(username="admin", groups=["system:masters"])
        yield World(server, clock, Api(transport), tmp_path)


class TestUse:
    async def test_the_day_is_on_the_secret(self, world: World) -> None:
        await world.keep_token()
        assert await world.label(LAST_USED) is None
        assert await world.come() == ROBOT
        assert await world.label(LAST_USED) == FIRST_DAY
        await world.clock.advance(DAY)
        assert await world.come() == ROBOT
        assert await world.label(LAST_USED) == "2026-01-02"

    async def test_and_stays_where_a_server_is_a_day_ahead(self, world: World) -> None:
        await world.keep_token()
        await world.set_labels(**{LAST_USED: "2026-01-02"})
        assert await world.come() == ROBOT
        assert await world.label(LAST_USED) == "2026-01-02"

    async def test_it_is_counted_by_who_made_the_secret(self, world: World) -> None:
        await world.keep_token()
        await world.come()
        await world.api.patch(ACCOUNTS, "robot", {"secrets": [{"name": "kept"}]})
        await world.clock.advance(11)  # what was found good is remembered for ten seconds
        await world.come()
        names = ("legacy_tokens", "legacy_manual_token_uses", "legacy_auto_token_uses")
        assert [world.counted(name) for name in names] == [2, 1, 1]

    async def test_one_that_was_said_to_be_invalid_is_refused_at_once_and_noted(self, world: World) -> None:
        await world.keep_token()
        assert await world.come() == ROBOT
        await world.set_labels(**{INVALID: FIRST_DAY, LAST_USED: "2025-01-01"})
        assert await world.come() == 401
        assert (await world.label(LAST_USED), world.counted("invalid_legacy_auto_token_uses")) == (FIRST_DAY, 1)
        await world.api.patch(SECRETS, "kept", {"metadata": {"labels": {INVALID: None}}})
        await world.clock.settle()
        assert await world.come() == ROBOT

    async def test_one_whose_secret_goes_is_refused_at_once(self, world: World) -> None:
        await world.keep_token()
        assert await world.come() == ROBOT
        await world.api.delete(SECRETS, "kept")
        await world.clock.settle()
        assert await world.come() == 401


class TestSince:
    async def test_it_is_the_first_day_and_stays_that(self, world: World) -> None:
        assert await world.since() == FIRST_DAY
        await world.clock.advance(2 * DAY)
        assert await world.since() == FIRST_DAY

    @pytest.mark.parametrize("broken", ["yesterday", "2026-1-1", ""])
    async def test_what_is_no_day_is_put_right(self, world: World, broken: str) -> None:
        system = Api(world.api.transport, "kube-system")
        await world.clock.advance(DAY)
        await system.patch(MAPS, TRACKING, {"data": {"since": broken}})
        await world.clock.settle()
        assert await world.since() == "2026-01-02"

    async def test_where_it_was_deleted_it_comes_again_half_an_hour_after_it_was_made(self, world: World) -> None:
        await Api(world.api.transport, "kube-system").delete(MAPS, TRACKING)
        await world.clock.advance(29 * 60)
        assert await world.since() is None
        await world.clock.advance(2 * 60)
        assert await world.since() == FIRST_DAY
