"""Paths at which nothing can be: a name is one segment of a path, a namespace is one of a key. As kube-apiserver v1.35
answers them, to a client that normalises nothing.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer

from .connections import client

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "/api/v1/namespaces/default/pods"
DOT = "Name parameter invalid: \".\": may not be '.'"
MERGE = "application/merge-patch+json"


async def asked(
    server: APIServer, method: str, path: str, body: bytes = b"", media: str = "application/json"
) -> tuple[int, str, dict[str, Any]]:
    """The code, the reason and the Status, or an empty one."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media}\r\n"
    async with client(server) as connection:
        connection.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        code = int((await connection.head()).split()[1])
        answer = await connection.ended()
    status = orjson.loads(answer) if answer.startswith(b"{") else {}
    return code, status.get("reason", ""), status


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{PODS}/.", DOT),
        (f"{PODS}/%2e", DOT),
        (f"{PODS}/..", "Name parameter invalid: \"..\": may not be '..'"),
        (f"{PODS}/a%25b", "Name parameter invalid: \"a%b\": may not contain '%'"),
        (f"{PODS}/./status", DOT),
        ("/api/v1/namespaces/.", DOT),
        ("/api/v1/nodes/.", DOT),
        ("/apis/apps/v1/namespaces/default/deployments/./scale", DOT),
        ("/api/v1/namespaces/default/services/./proxy/", DOT),
    ],
)
async def test_a_name_that_is_no_segment_of_a_path_is_refused(server: APIServer, path: str, message: str) -> None:
    code, reason, status = await asked(server, "GET", path)
    assert (code, reason, status["message"]) == (400, "BadRequest", message)


@pytest.mark.parametrize(("method", "body", "media"), [("DELETE", b"", MERGE), ("PATCH", b"{}", MERGE)])
async def test_nothing_of_such_a_name_is_changed(server: APIServer, method: str, body: bytes, media: str) -> None:
    code, reason, status = await asked(server, method, f"{PODS}/.", body, media)
    assert (code, reason, status["message"]) == (400, "BadRequest", DOT)


async def test_nothing_of_such_a_name_is_made_by_an_apply(server: APIServer) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"."}}'
    path = "/api/v1/namespaces/default/configmaps/.?fieldManager=test"
    code, reason, status = await asked(server, "PATCH", path, body, "application/apply-patch+yaml")
    assert (code, reason, status["message"]) == (400, "BadRequest", DOT)


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/api/v1/namespaces/./pods", "/pods/."),
        ("GET", "/api/v1/namespaces/../pods?watch=1", "/pods/.."),
        ("GET", "/api/v1/watch/namespaces/./pods", "/pods/."),
        ("GET", "/api/v1/namespaces/./pods/a", "/pods/./a"),
        ("GET", "/apis/apps/v1/namespaces/../deployments", "/deployments/.."),
        ("DELETE", "/api/v1/namespaces/./pods", "/pods/."),
        ("DELETE", "/api/v1/namespaces/./pods/a", "/pods/./a"),
        ("GET", "/api/v1/namespaces/../services", "/services/specs/.."),
        ("GET", "/api/v1/namespaces/../endpoints/a", "/services/endpoints/../a"),
        ("DELETE", "/api/v1/namespaces/../replicationcontrollers", "/controllers/.."),
        ("GET", "/apis/networking.k8s.io/v1/namespaces/../ingresses/a", "/ingress/../a"),
    ],
)
async def test_a_namespace_that_is_no_segment_of_a_key_is_refused(
    server: APIServer, method: str, path: str, key: str
) -> None:
    code, reason, status = await asked(server, method, path)
    assert (code, reason, status["message"]) == (500, "", f'invalid key: "{key}"')


@pytest.mark.parametrize(("namespace", "why"), [(".", "may not be '.'"), ("%25", "may not contain '%'")])
async def test_nothing_is_created_in_such_a_namespace(server: APIServer, namespace: str, why: str) -> None:
    body = b'{"metadata":{"name":"a"}}'
    code, reason, status = await asked(server, "POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    name = namespace.replace("%25", "%")
    assert (code, reason) == (500, "InternalError")
    assert status["message"] == f'Internal error occurred: invalid resource name "{name}": [{why}]'


async def test_a_path_that_begins_twice_leads_nowhere(server: APIServer) -> None:
    for method in ("GET", "DELETE"):
        assert await asked(server, method, "//api/v1/pods") == (404, "", {})


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
async def test_the_paths_of_old_watches_are_for_reading(server: APIServer, method: str) -> None:
    code, reason, _ = await asked(server, method, "/api/v1/watch/namespaces/default/pods", b"{}", MERGE)
    assert (code, reason) == (405, "MethodNotAllowed")
