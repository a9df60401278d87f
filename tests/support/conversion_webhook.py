"""A conversion webhook over real TLS, with a CA of its own, in the test's process."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiohttp import web

JSON = dict[str, Any]
Convert = Callable[[JSON, str], Any]
Answer = Callable[[JSON], Any]


def hosts(obj: JSON, wanted: str) -> JSON:
    """The documentation's example: `hostPort` of v1beta1 is `host` and `port` of v1."""
    version = wanted.rpartition("/")[2]
    spec = dict(obj.get("spec") or {})
    if version == "v1" and "hostPort" in spec:
        spec["host"], _, spec["port"] = spec.pop("hostPort").partition(":")
    elif version == "v1beta1" and "host" in spec:
        spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port', '')}"
    return {**obj, "apiVersion": wanted, "spec": spec}


@dataclass
class ConversionWebhook:
    """`answer` makes the whole answer of a review, by default each object by `convert`; reviews are kept."""

    convert: Convert = hosts
    answer: Answer | None = None
    names: tuple[str, ...] = ("127.0.0.1",)
    reviews: list[JSON] = field(default_factory=list)
    port: int = 0
    ca_bundle: str = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/convert"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        review: JSON = await request.json()
        self.reviews.append(review)
        if self.answer is not None:
            made = self.answer(review)
            return made if isinstance(made, web.StreamResponse) else web.json_response(made)
        return web.json_response(self.converted(review))

    def converted(self, review: JSON) -> JSON:
        asked = review["request"]
        objects = [self.convert(obj, asked["desiredAPIVersion"]) for obj in asked["objects"]]
        response = {"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
        return {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}


@asynccontextmanager
async def serving(
    webhook: ConversionWebhook, *, trusting: trustme.CA | None = None
) -> AsyncIterator[ConversionWebhook]:
    """Clients may show certificates of the CA that is trusted."""
    authority = trustme.CA()
    webhook.ca_bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*webhook.names).configure_cert(context)
    if trusting is not None:
        trusting.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
    application = web.Application()
    application.router.add_post("/convert", webhook.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    webhook.port = listener.getsockname()[1]
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        yield webhook
    finally:
        await runner.cleanup()
