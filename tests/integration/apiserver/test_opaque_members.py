"""What is opaque to the server comes back byte by byte: Go's controllers compare the bytes of ControllerRevisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from kubecore.api import protobuf
from kubecore.apiserver.server import APIServer

from .conftest import Api
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

REVISIONS = "apps/v1/controllerrevisions"
# As no other encoder would write it: Go's escapes, members in no order, a number with a nought too many.
DATA = rb'{"z":"a \u0026\u0026 b","a":{"n":[1.10,-0,1e3,12345678901234567890],"e":{},"null":null}}'


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as made:
        yield made


def revision(data: bytes = DATA, **metadata: object) -> bytes:
    head = orjson.dumps({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "a", **metadata}})
    return head[:-1] + b',"revision":1,"data":' + data + b"}"


async def created(http: Http, api: Api, body: bytes) -> str:
    """The path of a new one."""
    answer = await http.call("POST", api.path(REVISIONS), body)
    assert (answer.status, b'"data":' + DATA in answer.body) == (201, True), answer.body
    return api.path(REVISIONS, "a")


async def test_json_is_stored_as_it_is_written(http: Http, api: Api) -> None:
    path = await created(http, api, revision())
    assert b'"data":' + DATA in (await http.call("GET", path)).body
    listed = await http.call("GET", api.path(REVISIONS))
    assert b'"data":' + DATA in listed.body


async def test_json_is_without_spaces_and_with_gos_escapes(http: Http, api: Api) -> None:
    answer = await http.call("POST", api.path(REVISIONS), revision(b'{ "b": "<&>", "a":\n1.0 }'))
    assert rb'"data":{"b":"\u003c\u0026\u003e","a":1.0}' in answer.body


async def test_protobuf_is_stored_and_shown_as_it_is_written(http: Http, api: Api) -> None:
    media = {"Content-Type": protobuf.MEDIA, "Accept": protobuf.MEDIA}
    data = b'{"z":"a && b","a":1.10}'
    answer = await http.call("POST", api.path(REVISIONS), protobuf.encode(revision(data)), media)
    assert (answer.status, data in answer.body) == (201, True)
    assert data in (await http.call("GET", api.path(REVISIONS, "a"), headers=media)).body


@pytest.mark.parametrize(
    ("media", "patch"),
    [
        ("application/merge-patch+json", {"revision": 2}),
        ("application/strategic-merge-patch+json", {"revision": 2}),
        ("application/json-patch+json", [{"op": "replace", "path": "/revision", "value": 2}]),
        (
            "application/apply-patch+yaml",
            {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "a"}, "revision": 2},
        ),
    ],
)
async def test_a_patch_of_something_else_leaves_it_as_it_is(http: Http, api: Api, media: str, patch: object) -> None:
    path = await created(http, api, revision())
    answer = await http.call("PATCH", f"{path}?fieldManager=m&force=true", patch, {"Content-Type": media})
    if media != "application/apply-patch+yaml":
        answer = await http.call("PATCH", path, patch, {"Content-Type": media})
    assert (answer.status, b'"data":' + DATA in answer.body) == (200, True), answer.body
    assert answer.json["revision"] == 2


async def test_who_writes_the_same_otherwise_leaves_it_as_it_is(http: Http, api: Api) -> None:
    path = await created(http, api, revision())
    read = (await http.call("GET", path)).json
    answer = await http.call("PUT", path, {**read, "revision": 2})
    assert (answer.status, b'"data":' + DATA in answer.body) == (200, True), answer.body
    owners = [entry["manager"] for entry in answer.json["metadata"]["managedFields"]]
    assert len(owners) == 1


async def test_a_deletion_leaves_it_as_it_is(http: Http, api: Api) -> None:
    path = await created(http, api, revision(finalizers=["x.example/stay"]))
    answer = await http.call("DELETE", path)
    assert "deletionTimestamp" in answer.json["metadata"]
    assert b'"data":' + DATA in answer.body


async def test_parameters_of_drivers_are_opaque_too(http: Http, api: Api) -> None:
    path = api.path("resource.k8s.io/v1/resourceclaims")
    claim = {
        "metadata": {"name": "c"},
        "spec": {
            "devices": {
                "requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}],
                "config": [{"opaque": {"driver": "one.example.com", "parameters": "HERE"}}],
            }
        },
    }
    parameters = rb'{"b":"\u003c","a":[1.10]}'
    body = orjson.dumps(claim).replace(b'"HERE"', parameters)
    answer = await http.call("POST", path, body)
    assert (answer.status, b'"parameters":' + parameters in answer.body) == (201, True), answer.body
    labelled = await http.call(
        "PATCH", f"{path}/c", {"metadata": {"labels": {"l": "m"}}}, {"Content-Type": "application/merge-patch+json"}
    )
    assert b'"parameters":' + parameters in labelled.body
