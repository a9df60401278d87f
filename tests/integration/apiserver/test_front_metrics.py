"""What `/metrics` tells of lists, of what comes into the cache, of tokens and of the steps of each request."""

from __future__ import annotations

from pathlib import Path

import orjson

from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map
from .http import Http
from .serving import served, whoami
from .test_metrics import admins, scraped

MAPS = {"group": "", "resource": "configmaps"}
CACHE, TOKENS = "apiserver_cache_list", "authentication_token_cache"
FILTERS = "apiserver_request_filter_duration_seconds_count"


async def token_of(api: Api) -> str:
    path = api.path("v1/serviceaccounts", "default", "token")
    status, made = await api.call("POST", path, {"spec": {}})
    assert status == 201, made
    return str(made["status"]["token"])


async def asked(server: APIServer, folder: Path, token: str) -> int:
    """On a connection of its own, which remembers nothing of others."""
    async with Http(server, folder, token=token) as http:
        return (await whoami(http))[0]


async def test_lists_are_counted_with_the_objects_they_look_at_and_tell(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "listed")
        for name in ("a", "b", "c"):
            assert (await api.create("v1/configmaps", config_map(name)))[0] == 201
        before = await scraped(server, tmp_path)
        pair = server.issue_client_certificate("reader", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            path = api.path("v1/configmaps")
            for query, status in (("", 200), ("?labelSelector=x", 200), ("?limit=2", 200), ("?limit=x", 400)):
                assert (await http.call("GET", path + query)).status == status
        after = await scraped(server, tmp_path)
    more = {name: after.sum(f"{CACHE}_{name}", **MAPS) - before.sum(f"{CACHE}_{name}", **MAPS) for name in NAMES}
    assert more == {"total": 3, "fetched_objects_total": 8, "returned_objects_total": 5}
    assert after.labels(f"{CACHE}_total", **MAPS) == [{**MAPS, "index": ""}]


NAMES = ("total", "fetched_objects_total", "returned_objects_total")


async def test_what_comes_into_the_cache_is_told_by_resource(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "changed")
        before = await scraped(server, tmp_path)
        status, made = await api.create("v1/configmaps", config_map("a"))
        assert status == 201, made
        after = await scraped(server, tmp_path)
    for name in ("storage_events_received", "watch_cache_events_received", "watch_cache_events_dispatched"):
        metric = f"apiserver_{name}_total"
        assert after.sum(metric, **MAPS) - before.sum(metric, **MAPS) == 1
    size = "apiserver_resource_size_estimate_bytes"
    assert after.sum(size, **MAPS) - before.sum(size, **MAPS) == len(orjson.dumps(made))
    reached = after.sum("apiserver_watch_cache_resource_version", **MAPS)
    assert reached >= int(made["metadata"]["resourceVersion"])


async def test_a_token_is_looked_at_once_and_remembered(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "tokens")
        token = await token_of(api)
        before = await scraped(server, tmp_path)
        for _ in range(3):
            assert await asked(server, tmp_path, token) == 201
        after = await scraped(server, tmp_path)

    def more(metric: str, status: str) -> float:
        return after.sum(f"{TOKENS}_{metric}", status=status) - before.sum(f"{TOKENS}_{metric}", status=status)

    assert (more("request_total", "miss"), more("request_total", "hit"), more("fetch_total", "ok")) == (1, 2, 1)
    assert more("request_duration_seconds_count", "hit") == 2
    assert after.sum(f"{TOKENS}_active_fetch_count", status="blocked") == 0


async def test_each_step_of_a_request_is_timed(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await admins(server, "steps")
        pair = server.issue_client_certificate("reader", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            before = await scraped(server, tmp_path)
            for _ in range(5):
                assert (await http.call("GET", "/api/v1/namespaces/steps/configmaps")).status == 200
        after = await scraped(server, tmp_path)
    for step in ("authentication", "authorization", "priorityandfairness"):
        # Those that ask for metrics among them.
        assert after.sum(FILTERS, filter=step) - before.sum(FILTERS, filter=step) >= 5, step


async def test_nobody_waits_where_there_is_room(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        told = await scraped(server, tmp_path)
    kinds = [one["request_kind"] for one in told.labels("apiserver_current_inqueue_requests")]
    assert (kinds, told.sum("apiserver_current_inqueue_requests")) == (["mutating", "readOnly"], 0)
