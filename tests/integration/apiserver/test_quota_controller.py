"""Quotas with their controller: what is charged and what is counted agree, whatever happens at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from kubecore.client.client import Client
from kubecore.client.informer import InformerFactory
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.resource_quota import ResourceQuotaController

from .conftest import Api, config_map
from .definitions import crd, define, version, widget

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUOTAS, MAPS = "v1/resourcequotas", "v1/configmaps"
JSON = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def controller(server: APIServer) -> AsyncIterator[None]:
    client = Client(server.transport(username="manager", groups=["system:masters"]), field_manager="manager")
    informers = InformerFactory(client, server.clock)
    running = ResourceQuotaController(ControllerContext(client, server.clock, informers))
    await informers.start()
    task = asyncio.get_running_loop().create_task(running.run(), name="quotas")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await informers.stop()


async def counted(api: Api, used: JSON, name: str = "q") -> None:
    """Waits until the quota says so."""
    path, query = api.path(QUOTAS), {"fieldSelector": f"metadata.name={name}"}
    async with asyncio.timeout(60):
        async for batch in api.transport.watch(path, query=query):
            for event in batch:
                if (orjson.loads(event.object).get("status") or {}).get("used") == used:
                    return
    raise AssertionError


async def limit(api: Api, hard: JSON) -> None:
    status, made = await api.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    assert status == 201, made
    await counted(api, dict.fromkeys(hard, "0"))


async def test_what_is_deleted_can_be_made_again(api: Api) -> None:
    await limit(api, {"count/configmaps": "1"})
    assert (await api.create(MAPS, config_map("a")))[0] == 201
    assert (await api.create(MAPS, config_map("b")))[0] == 403
    assert (await api.delete(MAPS, "a"))[0] == 200
    await counted(api, {"count/configmaps": "0"})
    assert (await api.create(MAPS, config_map("b")))[0] == 201


async def test_creates_and_deletes_at_once_never_exceed_the_quota(api: Api) -> None:
    await limit(api, {"count/configmaps": "5"})
    most = 0

    async def churn(worker: int) -> None:
        nonlocal most
        chosen = random.Random(worker)
        for turn in range(25):
            name = f"c-{worker}-{turn}"
            status, answer = await api.create(MAPS, config_map(name))
            assert status in (201, 403), answer
            _, found = await api.list(MAPS)
            most = max(most, len(found["items"]))
            if status == 201:
                await asyncio.sleep(chosen.random() / 100)
                assert (await api.delete(MAPS, name))[0] == 200
            else:
                await asyncio.sleep(chosen.random() / 20)

    await asyncio.gather(*(churn(worker) for worker in range(12)))
    assert 0 < most <= 5
    await counted(api, {"count/configmaps": "0"})


async def test_custom_resources_are_counted_from_when_they_are_served(api: Api) -> None:
    hard = {"count/gauges.quota.example.com": "1"}
    assert (await api.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}}))[0] == 201
    await define(api, crd("gauges", "Gauge", version(), group="quota.example.com"))
    await counted(api, dict.fromkeys(hard, "0"))
    made = {**widget("a", "quota.example.com/v1"), "kind": "Gauge"}
    assert (await api.create("quota.example.com/v1/gauges", made))[0] == 201
    await counted(api, hard)
    status, error = await api.create("quota.example.com/v1/gauges", {**made, "metadata": {"name": "b"}})
    assert status == 403
    count = "count/gauges.quota.example.com=1"
    assert error["message"] == (
        f'gauges.quota.example.com "b" is forbidden: exceeded quota: q, requested: {count}, used: {count}, '
        f"limited: {count}"
    )
