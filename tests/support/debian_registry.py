"""Debian's docker-registry on loopback, which wants a password, with images of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.support.debian_packages import fetched
from tests.support.ports import free_port
from tests.support.small_image import SmallImage, digest

USER, PASSWORD = "me", "secret"
_HASHED = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class DebianRegistry:
    """`host`: address and port."""

    host: str
    storage: Path

    async def push(self, image: SmallImage, name: str, tag: str) -> str:
        """Returns the manifest's digest."""
        *blobs, (own, manifest) = image.blobs().items()
        known = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
        async with aiohttp.ClientSession(f"http://{self.host}", headers=known, raise_for_status=True) as session:
            for name_of_blob, blob in blobs:
                async with session.post(f"/v2/{name}/blobs/uploads/") as begun:
                    place = begun.headers["Location"]
                await session.put(f"{place}&digest={name_of_blob}", data=blob)
            await session.put(f"/v2/{name}/manifests/{tag}", data=manifest, headers={"Content-Type": _MANIFEST})
        assert own == digest(manifest)
        return own

    def spoil(self, blob: str) -> None:
        """What it has under this digest is something else from now on."""
        kind, _, own = blob.partition(":")
        (self.storage / f"docker/registry/v2/blobs/{kind}/{own[:2]}/{own}/data").write_bytes(b"something else")


def fetched_registry(folder: Path) -> Path:
    """The program, under `folder`."""
    return fetched(folder, "docker-registry") / "usr/bin/docker-registry"


@asynccontextmanager
async def running_registry(program: Path, folder: Path) -> AsyncIterator[DebianRegistry]:
    host = f"127.0.0.1:{free_port()}"
    storage, passwords, config = folder / "storage", folder / "htpasswd", folder / "config.yml"
    passwords.write_text(f"{_HASHED}\n")
    config.write_text(
        f"version: 0.1\nhttp: {{addr: '{host}'}}\nlog: {{level: error}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{storage}'}}}}\n"
        f"auth: {{htpasswd: {{realm: here, path: '{passwords}'}}}}\n"
    )
    process = await asyncio.create_subprocess_exec(str(program), "serve", str(config))
    try:
        async with asyncio.timeout(60):
            while not await _answers(host):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield DebianRegistry(host, storage)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(host: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}/v2/") as answer:
            return answer.status == 401
    except aiohttp.ClientConnectionError:
        return False
