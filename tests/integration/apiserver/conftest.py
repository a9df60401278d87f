"""One API server per module, in this process, and a plain client of it; each test has a namespace of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.local import LocalTransport
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock

JSON = dict[str, Any]
_numbers = itertools.count(1)


@dataclass
class Api:
    """Requests as one user; the answer's status and object."""

    transport: LocalTransport
    namespace: str = "default"
    query: Mapping[str, str] = field(default_factory=dict)

    def path(self, resource: str, name: str = "", subresource: str = "") -> str:
        group_version, _, plural = resource.rpartition("/")
        root = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
        parts = [root, *(["namespaces", self.namespace] if self.namespace else []), plural, name, subresource]
        return "/".join(part for part in parts if part)

    async def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **query: str
    ) -> tuple[int, JSON]:
        raw = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        status, answer = await self.transport.request(
            method, path, query={**self.query, **query}, body=raw, content_type=content_type
        )
        return status, orjson.loads(answer) if answer else {}

    async def create(self, resource: str, obj: object, **query: str) -> tuple[int, JSON]:
        return await self.call("POST", self.path(resource), obj, **query)

    async def get(self, resource: str, name: str, subresource: str = "") -> tuple[int, JSON]:
        return await self.call("GET", self.path(resource, name, subresource))

    async def list(self, resource: str, **query: str) -> tuple[int, JSON]:
        return await self.call("GET", self.path(resource), **query)

    async def update(self, resource: str, obj: JSON, subresource: str = "", **query: str) -> tuple[int, JSON]:
        return await self.call("PUT", self.path(resource, obj["metadata"]["name"], subresource), obj, **query)

    async def patch(
        self, resource: str, name: str, patch: object, kind: str = "merge-patch", subresource: str = "", **query: str
    ) -> tuple[int, JSON]:
        content_type = f"application/{kind}+json"
        return await self.call("PATCH", self.path(resource, name, subresource), patch, content_type, **query)

    async def delete(self, resource: str, name: str = "", body: object = None, **query: str) -> tuple[int, JSON]:
        return await self.call("DELETE", self.path(resource, name), body, **query)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    directory: Path = tmp_path_factory.mktemp("apiserver")
    made = APIServer(APIServerConfig(data_dir=directory, secure_port=0, storage=LMDBConfig(sync=False)), RealClock())
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def api(server: APIServer) -> Api:
    """An administrator in a fresh namespace that has its default service account."""
    transport = server.transport(username="admin", groups=["system:masters"])
    name = f"test-{next(_numbers)}"
    made = Api(transport, name)
    root = Api(transport, "")
    assert (await root.create("v1/namespaces", {"metadata": {"name": name}}))[0] == 201
    assert (await made.create("v1/serviceaccounts", {"metadata": {"name": "default"}}))[0] == 201
    return made


@pytest.fixture
def cluster(server: APIServer) -> Api:
    """An administrator at the cluster scope."""
    return Api(server.transport(username="admin", groups=["system:masters"]), "")


def config_map(name: str = "", **data: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} if name else {}, "data": data}


def pod(name: str, **spec: Any) -> JSON:
    container = {"name": "main", "image": "none", "command": ["true"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], **spec},
    }


def deployment(name: str, replicas: int = 1) -> JSON:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod("x")["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }
