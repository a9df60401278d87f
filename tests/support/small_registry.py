"""A registry of images in memory, which wants a token and, for that, a password."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.small_image import SmallImage, digest

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class SmallRegistry:
    """`asked`: paths, in order. `password`: of user `me`, "" where nobody needs one. `basic`: without tokens.
    `failing`: the status of every answer, if not 0."""

    password: str = ""
    basic: bool = False
    failing: int = 0
    host: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def push(self, image: SmallImage, name: str, tag: str) -> str:
        """Returns the manifest's digest."""
        blobs = image.blobs()
        manifest = list(blobs.values())[-1]
        self.blobs.update(blobs)
        self.manifests[f"{name}:{tag}"] = self.manifests[f"{name}:{digest(manifest)}"] = manifest
        return digest(manifest)

    @property
    def _pair(self) -> str:
        return "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append("/token")
        header = request.headers.get("Authorization")
        if self.password and header != self._pair:
            return web.Response(status=401)
        return web.json_response({"token": f"for {request.query['scope']}"})

    def _allowed(self, request: web.Request) -> bool:
        header = request.headers.get("Authorization", "")
        if self.basic:
            return not self.password or header == self._pair
        return header == f"Bearer for repository:{request.match_info['name']}:pull"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.failing:
            return web.Response(status=self.failing)
        if not self._allowed(request):
            scope = f"repository:{request.match_info['name']}:pull"
            bearer = f'Bearer realm="http://{self.host}/token",service="small",scope="{scope}"'
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"' if self.basic else bearer})
        kind, wanted = request.match_info["kind"], request.match_info["wanted"]
        found = self.manifests.get(f"{request.match_info['name']}:{wanted}") if kind == "manifests" else None
        found = self.blobs.get(wanted) if kind == "blobs" else found
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found, content_type=_MANIFEST if kind == "manifests" else "application/octet-stream")


@asynccontextmanager
async def serving(registry: SmallRegistry) -> AsyncIterator[SmallRegistry]:
    app = web.Application()
    app.router.add_get("/token", registry._token)
    app.router.add_get("/v2/{name:.+}/{kind:manifests|blobs}/{wanted}", registry._answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry
    finally:
        await runner.cleanup()
