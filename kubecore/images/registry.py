"""Pulls images from registries (OCI distribution specification 1.1; Docker's token authentication)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import aiohttp

from kubecore.images.archives import BadArchive, choose
from kubecore.images.credentials import Credentials
from kubecore.images.digests import CHUNK_BYTES, WrongDigest, check, digest_of
from kubecore.images.layers import BadLayer
from kubecore.images.references import Reference
from kubecore.images.registries import PullError, Registries
from kubecore.images.store import Image, ImageStore
from kubecore.server_trust import refusal

Object = dict[str, Any]

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MOST_MANIFEST_BYTES = 4 * 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)


class _NotFound(Exception):
    pass


class _Refused(Exception):
    """The text is the status."""


async def pull(
    reference: Reference,
    store: ImageStore,
    registries: Registries,
    credentials: Sequence[Credentials] = (),
    used: Callable[[Credentials | None], None] = lambda who: None,
) -> Image:
    """Layers that are there already are not fetched. `used`: called with those that have served, None for nobody's.
    Raises PullError."""
    problem: Exception = PullError("no registry")
    resolved = False
    for address in registries.addresses(reference):
        for who in [*credentials, None]:
            async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session:
                one = _Pull(session, address, reference, who, store)
                try:
                    image = await one.run()
                    used(who)
                    return image
                except _Refused as error:
                    problem, resolved = PullError(f"failed to authorize: {error}"), one.resolved
                except _NotFound:
                    problem, resolved = PullError(f"{reference}: not found"), one.resolved
                    break
                except (BadArchive, BadLayer, WrongDigest) as error:
                    raise _told(reference, error, resolved=True) from error
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
                    problem, resolved = error, one.resolved
                    break
    raise _told(reference, problem, resolved=resolved) from problem


def _told(reference: Reference, error: Exception, *, resolved: bool) -> PullError:
    """As containerd tells it. `resolved`: the registry has said what the name stands for."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"the manifest lacks {error}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = f"failed to do request: {_unreachable(error)}"
    elif isinstance(error, aiohttp.ClientResponseError):
        text = f"unexpected status from GET request to {error.request_info.url}: {error.status} {error.message}"
    if not resolved:
        text = f'failed to resolve reference "{reference}": {text}'
    return PullError(f'failed to pull and unpack image "{reference}": {text}')


def _unreachable(error: aiohttp.ClientConnectorError) -> str:
    """In Go's words where they are known by them."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return refusal(cast(ssl.SSLCertVerificationError, error.certificate_error))
    if isinstance(error.os_error, ssl.SSLError):
        return f"tls: {error.os_error.reason or error.os_error}"
    number = error.os_error.errno
    why = os.strerror(number).lower() if number else str(error.os_error)
    return f"dial tcp {error.host}:{error.port}: connect: {why}"


@dataclass
class _Pull:
    session: aiohttp.ClientSession
    address: str
    reference: Reference
    who: Credentials | None
    store: ImageStore
    resolved: bool = False
    _authorization: str = ""

    async def run(self) -> Image:
        body = await self._manifest(self.reference.wanted)
        self.resolved = True
        if self.reference.digest:
            check(digest_of(body), self.reference.digest)
        digest, manifest = digest_of(body), json.loads(body)
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            chosen = choose(manifest["manifests"])["digest"]
            body = await self._manifest(chosen)
            check(digest_of(body), chosen)
            manifest = json.loads(body)
        config = await self._small_blob(manifest["config"]["digest"])
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        for diff_id, layer in zip(diff_ids, manifest["layers"], strict=True):
            if not self.store.has_layer(diff_id):
                await self._layer(diff_id, layer["digest"])
        names = [str(self.reference)]
        return await asyncio.to_thread(self.store.add_image, config, names, [f"{self.reference.repository}@{digest}"])

    async def _manifest(self, wanted: str) -> bytes:
        async with self._get(f"manifests/{wanted}", accept=", ".join([*_MANIFESTS, *_INDEXES])) as answer:
            return await _limited(answer, _MOST_MANIFEST_BYTES)

    async def _small_blob(self, digest: str) -> bytes:
        async with self._get(f"blobs/{digest}") as answer:
            data = await _limited(answer, _MOST_MANIFEST_BYTES)
        check(digest_of(data), digest)
        return data

    async def _layer(self, diff_id: str, digest: str) -> None:
        self.store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.store.root) as file:
            async with self._get(f"blobs/{digest}") as answer:
                await _save(answer, file, digest)
            file.seek(0)
            await asyncio.to_thread(self.store.add_layer, diff_id, file)

    @asynccontextmanager
    async def _get(self, what: str, *, accept: str = "*/*") -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises _NotFound, _Refused, ClientError."""
        url = f"{self.address}/v2/{self.reference.path}/{what}"
        for attempt in (1, 2):
            headers = {"Accept": accept}
            if self._authorization:
                headers["Authorization"] = self._authorization
            async with self.session.get(url, headers=headers) as answer:
                if answer.status == 401 and attempt == 1:
                    self._authorization = await self._authorize(answer.headers.get("WWW-Authenticate", ""))
                    continue
                if answer.status in (401, 403):
                    raise _Refused(f"unexpected status from GET request to {url}: {answer.status} {answer.reason}")
                if answer.status == 404:
                    raise _NotFound
                answer.raise_for_status()
                yield answer
                return

    async def _authorize(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and self.who is not None:
            return self._basic()
        if kind.lower() != "bearer":
            return ""
        told = dict(_CHALLENGE.findall(rest))
        query = {"scope": told.get("scope", f"repository:{self.reference.path}:pull")}
        if "service" in told:
            query["service"] = told["service"]
        headers = {"Authorization": self._basic()} if self.who is not None else {}
        async with self.session.get(told["realm"], params=query, headers=headers) as answer:
            if answer.status in (401, 403):
                raise _Refused(f"failed to fetch token: unexpected status: {answer.status} {answer.reason}")
            answer.raise_for_status()
            body = await answer.json(content_type=None)
        return f"Bearer {body.get('token') or body['access_token']}"

    def _basic(self) -> str:
        who = self.who or Credentials()
        pair = f"{who.username}:{who.password or who.identity_token}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


async def _limited(answer: aiohttp.ClientResponse, most: int) -> bytes:
    data = await answer.content.read(most + 1)
    while len(data) <= most and (more := await answer.content.read(most + 1 - len(data))):
        data += more
    if len(data) > most:
        raise ValueError(f"a manifest or configuration is larger than {most} bytes")
    return data


async def _save(answer: aiohttp.ClientResponse, file: BinaryIO, digest: str) -> None:
    found = hashlib.sha256()
    async for data in answer.content.iter_chunked(CHUNK_BYTES):
        found.update(data)
        file.write(data)
    check(f"sha256:{found.hexdigest()}", digest)
