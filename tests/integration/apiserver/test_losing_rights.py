"""Rights that are given and taken while somebody uses them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import WSMsgType

from kubecore.api.errors import StatusError
from kubecore.apiserver.server import APIServer
from kubecore.client.grpc import connect
from kubecore.client.transport import NO_QUERY

from .conftest import Api, config_map
from .definitions import crd, define
from .http import Http
from .serving import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count()
ROLES, BINDINGS = "rbac.authorization.k8s.io/v1/roles", "rbac.authorization.k8s.io/v1/rolebindings"
MAPS = "v1/configmaps"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    async with served(tmp_path_factory.mktemp("losing"), grpc_port=0) as running:
        yield running


READS = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}


async def grant(api: Api, user: str, rule: dict[str, Any] = READS) -> None:
    assert (await api.create(ROLES, {"metadata": {"name": "reader"}, "rules": [rule]}))[0] == 201
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    role = {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io", "name": "reader"}
    binding = {"metadata": {"name": "reader"}, "subjects": [subject], "roleRef": role}
    assert (await api.create(BINDINGS, binding))[0] == 201


def somebody(server: APIServer, folder: Path) -> tuple[str, Http]:
    name = f"user-{next(_numbers)}"
    return name, Http(server, folder, pair=server.issue_client_certificate(name))


async def test_a_right_counts_with_the_answer_to_who_gave_or_took_it(
    server: APIServer, api: Api, tmp_path: Path
) -> None:
    name, http = somebody(server, tmp_path)
    async with http:
        assert (await http.call("GET", api.path(MAPS))).status == 403
        await grant(api, name)
        assert (await http.call("GET", api.path(MAPS))).status == 200
        await api.delete(BINDINGS, "reader")
        assert (await http.call("GET", api.path(MAPS))).status == 403


@pytest.mark.parametrize("accept", ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"])
async def test_a_watch_whose_right_is_taken_tells_nothing_more(
    server: APIServer, api: Api, tmp_path: Path, accept: str
) -> None:
    name, http = somebody(server, tmp_path)
    await grant(api, name)
    async with http, http.stream(f"{api.path(MAPS)}?watch=1", {"Accept": accept}) as answer, asyncio.timeout(60):
        assert answer.status == 200
        await api.create(MAPS, config_map("seen"))
        first: Any = orjson.loads(await answer.content.readline())
        assert first["type"] == "ADDED"
        await api.delete(BINDINGS, "reader")
        await api.create(MAPS, config_map("unseen"))
        assert await answer.content.read() == b""


async def test_a_watch_goes_on_while_other_rights_are_taken(server: APIServer, api: Api, tmp_path: Path) -> None:
    name, http = somebody(server, tmp_path)
    await grant(api, name)
    assert (await api.create(ROLES, {"metadata": {"name": "other"}, "rules": []}))[0] == 201
    async with http, http.stream(f"{api.path(MAPS)}?watch=1") as answer, asyncio.timeout(60):
        await api.delete(ROLES, "other")
        await api.create(MAPS, config_map("seen"))
        assert orjson.loads(await answer.content.readline())["object"]["metadata"]["name"] == "seen"


async def test_a_watch_in_process_tells_nothing_more_either(server: APIServer, api: Api) -> None:
    name = f"user-{next(_numbers)}"
    await grant(api, name)
    watch = server.transport(username=name).watch(api.path(MAPS), query=NO_QUERY)
    await api.create(MAPS, config_map("seen"))
    assert [event.type for event in await anext(watch)] == ["ADDED"]
    await api.delete(BINDINGS, "reader")
    await api.create(MAPS, config_map("unseen"))
    async with asyncio.timeout(60):
        assert [batch async for batch in watch] == []


async def test_a_watch_by_grpc_tells_nothing_more_and_ends(server: APIServer, api: Api) -> None:
    name = f"user-{next(_numbers)}"
    await grant(api, name)
    pair, ca = server.issue_client_certificate(name), server.authority.certificate
    target = f"127.0.0.1:{server.grpc_port}"
    async with (
        connect(target, ca=ca, certificate=pair.certificate, key=pair.key) as client,
        asyncio.timeout(60),
    ):
        watch = client.watch(MAPS, api.namespace, field_selector="metadata.name=seen")
        await api.create(MAPS, config_map("seen"))
        assert [event.type for event in await anext(watch)] == ["ADDED"]
        await api.delete(BINDINGS, "reader")
        assert [batch async for batch in watch] == []
        with pytest.raises(StatusError) as refused:
            await anext(client.watch(MAPS, api.namespace))
        assert refused.value.code == 403


# --- though nothing happens to what is watched


async def test_a_watch_in_process_ends_though_nothing_happens_to_what_it_watches(server: APIServer, api: Api) -> None:
    name = f"user-{next(_numbers)}"
    await grant(api, name)
    watch = server.transport(username=name).watch(api.path(MAPS), query=NO_QUERY)
    await api.create(MAPS, config_map("seen"))
    assert [event.type for event in await anext(watch)] == ["ADDED"]
    ended = asyncio.ensure_future(anext(watch, None))
    # Other rights end nothing.
    assert (await api.create(ROLES, {"metadata": {"name": "other"}, "rules": []}))[0] == 201
    await api.create(MAPS, config_map("also-seen"))
    async with asyncio.timeout(60):
        assert [event.type for event in await ended or []] == ["ADDED"]
        ended = asyncio.ensure_future(anext(watch, None))
        await api.delete(BINDINGS, "reader")
        assert await ended is None


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf;stream=watch",
    ],
)
async def test_a_watch_in_any_form_ends_though_nothing_happens_to_what_it_watches(
    server: APIServer, api: Api, tmp_path: Path, accept: str
) -> None:
    name, http = somebody(server, tmp_path)
    await grant(api, name)
    async with http, http.stream(f"{api.path(MAPS)}?watch=1", {"Accept": accept}) as answer, asyncio.timeout(20):
        assert answer.status == 200
        await api.create(MAPS, config_map("seen"))
        assert await answer.content.readany()
        await api.delete(BINDINGS, "reader")
        assert await answer.content.read() == b""


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.kubernetes.protobuf;stream=watch"])
async def test_a_watch_by_websocket_ends_though_nothing_happens_to_what_it_watches(
    server: APIServer, api: Api, tmp_path: Path, accept: str
) -> None:
    name, http = somebody(server, tmp_path)
    await grant(api, name)
    url = f"{server.url}{api.path(MAPS)}?watch=1"
    async with http, http._session.ws_connect(url, headers={"Accept": accept}) as messages, asyncio.timeout(60):
        await api.create(MAPS, config_map("seen"))
        assert (await messages.receive()).data
        await api.delete(BINDINGS, "reader")
        assert (await messages.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)


async def test_a_watch_of_a_custom_resource_ends_though_nothing_happens_to_what_it_watches(
    server: APIServer, api: Api, cluster: Api, tmp_path: Path
) -> None:
    await define(cluster, crd("lostwidgets", "LostWidget"))
    widgets = "example.com/v1/lostwidgets"
    name, http = somebody(server, tmp_path)
    await grant(api, name, {"apiGroups": ["example.com"], "resources": ["lostwidgets"], "verbs": ["watch"]})
    async with http, http.stream(f"{api.path(widgets)}?watch=1") as answer, asyncio.timeout(20):
        widget = {"apiVersion": "example.com/v1", "kind": "LostWidget", "metadata": {"name": "w"}, "spec": {"size": 1}}
        assert (await api.create(widgets, widget))[0] == 201
        assert orjson.loads(await answer.content.readline())["type"] == "ADDED"
        await api.delete(BINDINGS, "reader")
        assert await answer.content.read() == b""
