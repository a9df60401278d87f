"""Bodies, answers, lists and watches in protobuf say what they say in JSON."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import protobuf
from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map, deployment, pod
from .definitions import crd, define
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = {"Accept": protobuf.MEDIA}
SENT = {"Content-Type": protobuf.MEDIA}


def admin(server: APIServer, directory: Path) -> Http:
    return Http(server, directory, pair=server.issue_client_certificate("root", ["system:masters"]))


def decoded(body: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(protobuf.decode(body))
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


NOT_READ = "the object provided is unrecognized (must be of type ConfigMap): "
READ = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: '


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", NOT_READ + "empty data (<empty>)"),
        (
            b"\x00\x01\x02",
            NOT_READ
            + "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (000102)",
        ),
        (b"k8s\x00", NOT_READ + "empty body (6b387300)"),
        (b"k8s\x00\xff", NOT_READ + "unexpected EOF (6b387300ff)"),
        (b"k8s\x00\x12\x02\x0a\x05", READ + "unexpected EOF"),
        (b"k8s\x00\x12\x02\x08\x05", READ + "proto: wrong wireType = 0 for field ObjectMeta"),
        (
            protobuf.encode(b'{"kind":"Secret","apiVersion":"v1"}'),
            'Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): '
            "unknown conversion",
        ),
        (
            protobuf.encode(b'{"kind":"Secret","apiVersion":"v1"}').replace(b"Secret", b"Sacret"),
            'Sacret in version "v1" cannot be handled as a ConfigMap: no kind "Sacret" is registered for version "v1" '
            'in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"',
        ),
    ],
)
async def test_what_is_no_message_is_refused_in_upstreams_words(
    server: APIServer, api: Api, tmp_path: Path, body: bytes, words: str
) -> None:
    async with admin(server, tmp_path) as http:
        answer = await http.call("POST", api.path("v1/configmaps"), body, SENT)
        assert (answer.status, answer.json["reason"], answer.json["message"]) == (400, "BadRequest", words)


async def test_an_envelope_need_not_say_its_kind(server: APIServer, api: Api, tmp_path: Path) -> None:
    body = b"k8s\x00\x12\x05\x0a\x03\x0a\x01a"
    async with admin(server, tmp_path) as http:
        answer = await http.call("POST", api.path("v1/configmaps"), body, SENT)
        assert (answer.status, answer.json["metadata"]["name"]) == (201, "a")


async def test_zeroes_are_kept_where_they_mean_something(server: APIServer, api: Api, tmp_path: Path) -> None:
    # As Go sends it: scalars that are no pointers are on the wire whether they are zero or not.
    given = deployment("a")
    given["metadata"] |= {"generateName": "", "generation": 0}
    given["spec"] |= {"replicas": 0, "revisionHistoryLimit": 0, "minReadySeconds": 0, "paused": False}
    given["spec"]["template"]["spec"] |= {"terminationGracePeriodSeconds": 0, "hostNetwork": False, "nodeName": ""}
    async with admin(server, tmp_path) as http:
        made = await http.call("POST", api.path("apps/v1/deployments"), protobuf.encode(orjson.dumps(given)), SENT)
    assert made.status == 201, made.body
    spec = made.json["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"]) == (0, 0)
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 0
    assert not {"minReadySeconds", "paused"} & set(spec)
    assert not {"hostNetwork", "nodeName"} & set(spec["template"]["spec"])
    assert "generateName" not in made.json["metadata"]


async def test_updates_deletes_and_their_options_come_in_protobuf(server: APIServer, api: Api, tmp_path: Path) -> None:
    path = api.path("v1/configmaps", "a")
    made = (await api.create("v1/configmaps", config_map("a", k="v")))[1]
    async with admin(server, tmp_path) as http:
        made["data"] = {"k": "w"}
        updated = await http.call("PUT", path, protobuf.encode(orjson.dumps(made)), SENT | ASKED)
        assert (updated.status, decoded(updated.body)["data"]) == (200, {"k": "w"})
        other = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}
        refused = await http.call("DELETE", path, protobuf.encode(orjson.dumps(other)), SENT | ASKED)
        assert (refused.status, decoded(refused.body)["reason"]) == (409, "Conflict")
        own = {**other, "apiVersion": "apps/v1", "preconditions": {"uid": made["metadata"]["uid"]}}
        deleted = await http.call("DELETE", path, protobuf.encode(orjson.dumps(own)), SENT | ASKED)
        assert (deleted.status, decoded(deleted.body)["status"]) == (200, "Success")


async def test_patches_are_no_protobuf(server: APIServer, api: Api, tmp_path: Path) -> None:
    await api.create("v1/configmaps", config_map("a", k="v"))
    async with admin(server, tmp_path) as http:
        answer = await http.call("PATCH", api.path("v1/configmaps", "a"), b"k8s\x00", SENT)
        assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")


async def test_subresources_and_reviews_take_and_give_protobuf(server: APIServer, api: Api, tmp_path: Path) -> None:
    for name in ("p", "q"):
        assert (await api.create("v1/pods", pod(name)))[0] == 201
    await api.create("apps/v1/deployments", deployment("d"))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    cases: list[tuple[str, str, str, dict[str, object]]] = [
        (api.path("v1/pods", "p", "binding"), "v1", "Binding", binding),
        (api.path("v1/pods", "q", "eviction"), "policy/v1", "Eviction", {"metadata": {"name": "q"}}),
        (api.path("v1/serviceaccounts", "default", "token"), "authentication.k8s.io/v1", "TokenRequest", {"spec": {}}),
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", "authentication.k8s.io/v1", "SelfSubjectReview", {}),
        (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
        ),
    ]
    async with admin(server, tmp_path) as http:
        answers = {}
        for path, version, kind, fields in cases:
            body = protobuf.encode(orjson.dumps({"kind": kind, "apiVersion": version, **fields}))
            answer = await http.call("POST", path, body, SENT | ASKED)
            assert (answer.status, answer.headers["Content-Type"]) == (201, protobuf.MEDIA), kind
            answers[kind] = decoded(answer.body)
        scale = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "d"}, "spec": {"replicas": 3}}
        path = api.path("apps/v1/deployments", "d", "scale")
        scaled = await http.call("PUT", path, protobuf.encode(orjson.dumps(scale)), SENT | ASKED)
    assert answers["Binding"]["status"] == answers["Eviction"]["status"] == "Success"
    assert answers["TokenRequest"]["status"]["token"].count(".") == 2
    assert answers["SelfSubjectReview"]["status"]["userInfo"]["username"] == "root"
    assert answers["SelfSubjectAccessReview"]["status"]["allowed"] is True
    assert decoded(scaled.body)["spec"] == {"replicas": 3}


async def test_metadata_alone_comes_in_protobuf(server: APIServer, api: Api, tmp_path: Path) -> None:
    path = api.path("v1/configmaps")
    await api.create("v1/configmaps", config_map("a", k="v"))
    stored = (await api.get("v1/configmaps", "a"))[1]
    asked = f"{protobuf.MEDIA};g=meta.k8s.io;v=v1;as=PartialObjectMetadata"
    async with admin(server, tmp_path) as http:
        one = decoded((await http.call("GET", f"{path}/a", headers={"Accept": asked})).body)
        assert one["kind"] == "PartialObjectMetadata"
        assert one["metadata"] == stored["metadata"]
        many = decoded((await http.call("GET", path, headers={"Accept": f"{asked}List"})).body)
        assert many["kind"] == "PartialObjectMetadataList"
        assert [item["metadata"] for item in many["items"]] == [stored["metadata"]]
        async with http.stream(f"{path}?watch=true", {"Accept": asked}) as answer:
            (length,) = struct.unpack(">I", await answer.content.readexactly(4))
            frame = await answer.content.readexactly(length)
    assert decoded(frame[frame.index(b"k8s\0") :])["metadata"] == stored["metadata"]


async def test_who_may_not_is_told_so_in_protobuf(server: APIServer, api: Api, tmp_path: Path) -> None:
    pair = server.issue_client_certificate("nobody", [])
    async with Http(server, tmp_path, pair=pair) as http:
        answer = await http.call("GET", api.path("v1/configmaps"), headers=ASKED)
        assert (answer.status, answer.headers["Content-Type"]) == (403, protobuf.MEDIA)
        assert decoded(answer.body)["reason"] == "Forbidden"


async def test_custom_resources_have_no_protobuf_form(
    server: APIServer, cluster: Api, api: Api, tmp_path: Path
) -> None:
    await define(cluster, crd("formless", "Widget", group="proto.com"))
    path = f"/apis/proto.com/v1/namespaces/{api.namespace}/formless"
    async with admin(server, tmp_path) as http:
        sent = await http.call("POST", path, b"k8s\x00", SENT)
        assert (sent.status, sent.json["reason"]) == (415, "UnsupportedMediaType")
        assert (await http.call("GET", path, headers=ASKED)).status == 406
        both = await http.call("GET", path, headers={"Accept": f"{protobuf.MEDIA},application/json"})
        assert (both.status, both.json["kind"]) == (200, "WidgetList")


async def test_a_table_has_no_protobuf_form(server: APIServer, api: Api, tmp_path: Path) -> None:
    accept = {"Accept": f"{protobuf.MEDIA};as=Table;v=v1;g=meta.k8s.io"}
    async with admin(server, tmp_path) as http:
        assert (await http.call("GET", api.path("v1/pods"), headers=accept)).status == 406
