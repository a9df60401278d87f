"""An administrator over HTTPS in a namespace of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api
from tests.integration.apiserver.http import Answer, Http

JSON = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass
class Events:
    """The lines of a JSON watch, one event at a time."""

    answer: Any
    _rest: bytes = b""
    _lines: list[bytes] = field(default_factory=list)

    @property
    def headers(self) -> Any:
        return self.answer.headers

    @property
    def status(self) -> int:
        return int(self.answer.status)

    async def next(self) -> JSON:
        """The next event; an AssertionError when the stream has ended."""
        event = await self.next_or_end()
        assert event is not None, "the watch has ended"
        return event

    async def next_or_end(self) -> JSON | None:
        async with asyncio.timeout(60):
            while not self._lines:
                chunk = await self.answer.content.readany()
                if not chunk:
                    return None
                *whole, self._rest = (self._rest + chunk).split(b"\n")
                self._lines += whole
        event: JSON = orjson.loads(self._lines.pop(0))
        return event


@dataclass
class Rest:
    """Requests to one namespace of a real server over TLS; `{ns}` in a path is the namespace's."""

    http: Http
    api: Api

    @property
    def namespace(self) -> str:
        return self.api.namespace

    def path(self, path: str) -> str:
        return path.replace("{ns}", f"/api/v1/namespaces/{self.namespace}").replace(
            "{apps}", f"/apis/apps/v1/namespaces/{self.namespace}"
        )

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.http.call("GET", self.path(path), headers=headers)

    async def post(self, path: str, body: object, kind: str = "application/json") -> Answer:
        return await self.http.call("POST", self.path(path), body, {"Content-Type": kind})

    async def put(self, path: str, body: object) -> Answer:
        return await self.http.call("PUT", self.path(path), body)

    async def patch(self, path: str, body: object, kind: str = MERGE) -> Answer:
        return await self.http.call("PATCH", self.path(path), body, {"Content-Type": kind})

    async def delete(self, path: str, body: object = None) -> Answer:
        return await self.http.call("DELETE", self.path(path), body)

    @asynccontextmanager
    async def watch(self, path: str, **headers: str) -> AsyncIterator[Events]:
        async with self.http.stream(self.path(path), headers) as answer:
            yield Events(answer)

    async def made(self, path: str, body: object) -> JSON:
        """What was created; it must have been."""
        answer = await self.post(path, body)
        assert answer.status == 201, answer.body
        return answer.json


@pytest_asyncio.fixture(loop_scope="module")
async def rest(server: APIServer, api: Api, tmp_path: Path) -> AsyncIterator[Rest]:
    pair = server.issue_client_certificate("root", ["system:masters"])
    async with Http(server, tmp_path, pair=pair) as http:
        yield Rest(http, api)
