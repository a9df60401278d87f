"""Bodies, answers, lists and watches in protobuf say what they say in JSON."""

from __future__ import annotations

import struct
from pathlib import Path

import orjson
import pytest

from kubecore.api import protobuf
from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map, deployment
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = {"Accept": protobuf.MEDIA}
SENT = {"Content-Type": protobuf.MEDIA}


def admin(server: APIServer, directory: Path) -> Http:
    return Http(server, directory, pair=server.issue_client_certificate("root", ["system:masters"]))


def decoded(body: bytes) -> dict[str, object]:
    parsed: dict[str, object] = orjson.loads(protobuf.decode(body))
    return parsed


def bare(obj: object) -> object:
    """Without what protobuf does not tell from absence: lists' items have no kind, empty structs are nothing."""
    if isinstance(obj, dict):
        kept = {name: bare(value) for name, value in obj.items() if name not in ("kind", "apiVersion")}
        return {name: value for name, value in kept.items() if value not in ({}, [], None)}
    return [bare(one) for one in obj] if isinstance(obj, list) else obj


async def test_an_object_is_created_and_answered(server: APIServer, api: Api, tmp_path: Path) -> None:
    path = api.path("apps/v1/deployments")
    async with admin(server, tmp_path) as http:
        given = protobuf.encode(orjson.dumps(deployment("a", replicas=2)))
        answer = await http.call("POST", path, given, SENT | ASKED)
        assert (answer.status, answer.headers["Content-Type"]) == (201, protobuf.MEDIA)
        stored = (await http.call("GET", f"{path}/a")).json
        assert bare(decoded(answer.body)) == bare(stored)
        assert stored["spec"]["replicas"] == 2
        read = await http.call("GET", f"{path}/a", headers=ASKED)
        assert read.headers["Content-Type"] == protobuf.MEDIA
        assert bare(decoded(read.body)) == bare(stored)


async def test_a_list_has_its_items_and_metadata(server: APIServer, api: Api, tmp_path: Path) -> None:
    path = api.path("v1/configmaps")
    for name in ("a", "b", "c"):
        await api.create("v1/configmaps", config_map(name, k="v"))
    async with admin(server, tmp_path) as http:
        for query in ("", "?limit=2", "?labelSelector=none"):
            plain = (await http.call("GET", path + query)).json
            answer = await http.call("GET", path + query, headers=ASKED)
            read = decoded(answer.body)
            assert read["kind"] == "ConfigMapList"
            assert bare(read) == bare(plain), query


async def test_a_watch_sends_length_delimited_events(server: APIServer, api: Api, tmp_path: Path) -> None:
    path = api.path("v1/configmaps")
    await api.create("v1/configmaps", config_map("a", k="v"))
    query = "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with admin(server, tmp_path) as http, http.stream(path + query, ASKED) as answer:
        assert answer.headers["Content-Type"] == protobuf.STREAM_MEDIA
        frames = []
        for _ in range(2):
            (length,) = struct.unpack(">I", await answer.content.readexactly(4))
            frames.append(await answer.content.readexactly(length))
    assert b"ADDED" in frames[0]
    assert b"k8s\0" in frames[0]
    assert b"BOOKMARK" in frames[1]
    assert b"k8s.io/initial-events-end" in frames[1]


async def test_a_refusal_is_a_status_in_protobuf(server: APIServer, api: Api, tmp_path: Path) -> None:
    async with admin(server, tmp_path) as http:
        for method, body in (("GET", None), ("DELETE", None)):
            answer = await http.call(method, api.path("v1/configmaps", "absent"), body, ASKED)
            assert (answer.status, answer.headers["Content-Type"]) == (404, protobuf.MEDIA)
            status = decoded(answer.body)
            assert (status["kind"], status["reason"], status["code"]) == ("Status", "NotFound", 404)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x00\x01\x02", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        (b"k8s\x00\xff", "unexpected EOF"),
        (b"", ""),
    ],
)
async def test_what_is_no_message_is_a_bad_request(
    server: APIServer, api: Api, tmp_path: Path, body: bytes, words: str
) -> None:
    async with admin(server, tmp_path) as http:
        answer = await http.call("POST", api.path("v1/configmaps"), body, SENT)
        assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
        assert words in answer.json["message"]


async def test_a_table_has_no_protobuf_form(server: APIServer, api: Api, tmp_path: Path) -> None:
    accept = {"Accept": f"{protobuf.MEDIA};as=Table;v=v1;g=meta.k8s.io"}
    async with admin(server, tmp_path) as http:
        assert (await http.call("GET", api.path("v1/pods"), headers=accept)).status == 406
