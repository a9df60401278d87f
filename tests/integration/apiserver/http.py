"""An HTTPS client of the API server under test."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import orjson

from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.server import APIServer

JSON = dict[str, Any]


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> JSON:
        decoded: JSON = orjson.loads(self.body)
        return decoded


class Http:
    """Requests over TLS with a client certificate, a token, or nothing."""

    def __init__(
        self,
        server: APIServer,
        directory: Path,
        *,
        pair: KeyPair | None = None,
        token: str = "",
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        context = ssl.create_default_context(cadata=server.authority.certificate.decode())
        context.maximum_version = newest
        if pair is not None:
            file = directory / "client.pem"
            file.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(file)
        self._url = server.url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        raw = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        given = {"Content-Type": "application/json", **(headers or {})}
        async with self._session.request(method, self._url + path, data=raw, headers=given) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    def stream(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        """A response as a context manager, for watches."""
        return self._session.get(self._url + path, headers=headers)
