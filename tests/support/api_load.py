"""Writers of every kind, each on objects of its own, entering all they send and all they are answered in a ledger."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb
from kubecore.client.grpc import GrpcClient
from kubecore.client.grpc.client import resource
from tests.support.ledger import Content, Ledger, Object, content

NAMESPACE = "load"
BASE = f"/api/v1/namespaces/{NAMESPACE}"
CONFIG_MAPS, SERVICES = f"{BASE}/configmaps", f"{BASE}/services"
_OBJECTS_EACH = 8
_PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json")
# What answers or fails once the server was killed.
GONE = (aiohttp.ClientError, ConnectionError)


@dataclass
class API:
    """One server over HTTP."""

    session: aiohttp.ClientSession
    url: str

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, Object]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data else {}
        async with self.session.request(
            method, self.url + path, data=data, params=query or {}, headers=headers
        ) as answer:
            return answer.status, json.loads(await answer.read())

    async def do(self, method: str, path: str, body: Any = None, **options: Any) -> Object:
        status, answer = await self.ask(method, path, body, **options)
        assert status in (200, 201), f"{method} {path}: {status} {answer}"
        return answer


@dataclass
class Writer:
    """One client. `kind` is what it writes: config maps or services."""

    api: API
    ledger: Ledger
    chance: random.Random
    name: str
    kind: str
    _count: int = field(default=0)

    async def run(self) -> None:
        """Until the server is gone."""
        try:
            while True:
                await self._step()
        except GONE:
            return

    def _content(self) -> Content:
        self._count += 1
        # Mostly small; some longer than a page of the store's file.
        size = self.chance.choice((0, 100, 1000, 1000, 6000))
        return content(f"{self.name}.{self._count}", size + self.chance.randrange(300))

    async def _step(self) -> None:
        if self.kind == CONFIG_MAPS and self.chance.random() < 0.02:
            await self._delete_all()
            return
        path = f"{self.kind}/{self.name}-{self.chance.randrange(_OBJECTS_EACH)}"
        known = self.ledger.known(path)
        if known is None:
            await self._create(path)
        elif self.chance.random() < 0.3:
            await self._delete(path)
        elif self.chance.random() < 0.5:
            await self._update(path, known)
        else:
            await self._patch(path)

    async def _create(self, path: str) -> None:
        wanted = self._content()
        self.ledger.attempt(path, wanted)
        self.ledger.answer(path, await self.api.do("POST", self.kind, self._object(path, wanted)))

    def _object(self, path: str, wanted: Content) -> Object:
        metadata = {"name": path.rpartition("/")[2], "labels": {"writer": self.name}, "annotations": wanted}
        if self.kind == CONFIG_MAPS:
            return {"metadata": metadata, "data": {"key": "value"}}
        kind = self.chance.choice(("ClusterIP", "NodePort"))
        return {"metadata": metadata, "spec": {"type": kind, "ports": [{"port": 80}]}}

    async def _update(self, path: str, known: Object) -> None:
        wanted = self._content()
        self.ledger.attempt(path, wanted)
        body = {**known, "metadata": {**known["metadata"], "annotations": wanted}}
        self.ledger.answer(path, await self.api.do("PUT", path, body))

    async def _patch(self, path: str) -> None:
        wanted = self._content()
        self.ledger.attempt(path, wanted)
        kind = self.chance.choice(_PATCHES)
        patch: Any = {"metadata": {"annotations": wanted}}
        if kind == "application/json-patch+json":
            patch = [{"op": "replace", "path": "/metadata/annotations", "value": wanted}]
        self.ledger.answer(path, await self.api.do("PATCH", path, patch, content_type=kind))

    async def _delete(self, path: str) -> None:
        self.ledger.attempt(path, None)
        await self.api.do("DELETE", path)
        self.ledger.answer(path, None)

    async def _delete_all(self) -> None:
        paths = self.ledger.paths(f"{self.kind}/{self.name}-")
        for path in paths:
            self.ledger.attempt(path, None)
        await self.api.do("DELETE", self.kind, query={"labelSelector": f"writer={self.name}"})
        for path in paths:
            self.ledger.answer(path, None)


@dataclass
class BatchWriter:
    """A gRPC client that writes several of its config maps in each call."""

    objects: GrpcClient
    ledger: Ledger
    chance: random.Random
    name: str
    _count: int = field(default=0)

    async def run(self) -> None:
        """Until the server is gone."""
        try:
            while True:
                await self._step()
        except StatusError as error:
            assert error.code == 503, error

    async def _step(self) -> None:
        numbers = self.chance.sample(range(_OBJECTS_EACH), 4)
        paths = [f"{CONFIG_MAPS}/{self.name}-{number}" for number in numbers]
        operations = [self._operation(path) for path in paths]
        results = await self.objects.batch(operations)
        for path, result in zip(paths, results, strict=True):
            outcome = result.WhichOneof("result")
            assert outcome in ("object", "deleted"), result
            self.ledger.answer(path, json.loads(result.object.json) if outcome == "object" else None)

    def _operation(self, path: str) -> pb.Operation:
        name = path.rpartition("/")[2]
        where = {"resource": resource("v1/configmaps"), "namespace": NAMESPACE}
        known = self.ledger.known(path)
        if known is not None and self.chance.random() < 0.3:
            self.ledger.attempt(path, None)
            return pb.Operation(delete=pb.DeleteRequest(**where, name=name))
        self._count += 1
        wanted = content(f"{self.name}.{self._count}", self.chance.randrange(2000))
        self.ledger.attempt(path, wanted)
        if known is None:
            body = json.dumps({"metadata": {"name": name, "annotations": wanted}}).encode()
            return pb.Operation(create=pb.CreateRequest(**where, json=body))
        if self.chance.random() < 0.5:
            patch = json.dumps({"metadata": {"annotations": wanted}}).encode()
            kind = pb.PATCH_TYPE_MERGE
            return pb.Operation(patch=pb.PatchRequest(**where, name=name, type=kind, patch=patch))
        body = json.dumps({**known, "metadata": {**known["metadata"], "annotations": wanted}}).encode()
        return pb.Operation(update=pb.UpdateRequest(**where, name=name, json=body))


async def run_all(writers: list[Writer | BatchWriter]) -> None:
    """All at once, until the server they write to is gone."""
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.run(), name=f"writer {writer.name}")
