"""Requests whose client does not wait for the answer end in the audit all the same, as kube-apiserver's do."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.admission_webhook import MAPS as MAPS_RULE
from tests.support.admission_webhook import Decide, Hook, allow, deny
from tests.support.conversion_webhook import ConversionWebhook, serving

from .conftest import Api
from .hooks import registered
from .http import Http
from .test_audit import MAPS, audited, events, named, stages

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]


async def waiting(http: Http) -> int:
    """Requests that change something and are not answered."""
    told = (await http.call("GET", "/metrics")).body.decode()
    found = re.search(r'apiserver_current_inflight_requests\{request_kind="mutating"\} (\d+)', told)
    assert found is not None
    return int(found[1])


def lines(folder: Path) -> int:
    """That are whole, of the request."""
    whole, _, _ = (folder / "audit.log").read_bytes().rpartition(b"\n")
    return whole.count(b'"auditID":"gone"')


@pytest.mark.parametrize(
    ("decide", "code", "message"),
    [(allow, 201, None), (deny, 400, 'admission webhook "one.example.com" denied the request without explanation')],
)
async def test_who_has_gone_is_told_of_with_what_came_of_his_request(
    tmp_path: Path, decide: Decide, code: int, message: str | None
) -> None:
    asked, go_on, hook = asyncio.Event(), asyncio.Event(), Hook(decide)

    class Slow(ConversionWebhook):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            asked.set()
            await go_on.wait()
            return await super().handle(request)

    hook.served = Slow(answer=hook.answer)
    async with audited(tmp_path, "- level: Metadata") as (http, server), serving(hook.served):
        cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
        webhook = hook.configured("one.example.com", [MAPS_RULE])
        async with registered(cluster, "Validating", webhook):
            sent = asyncio.ensure_future(http.call("POST", MAPS, {"metadata": {"name": "a"}}, named("gone")))
            await asked.wait()
            assert stages(tmp_path, "gone") == ["RequestReceived"]
            sent.cancel()
            await asyncio.wait([sent])
            while await waiting(http):
                pass
            go_on.set()
            while lines(tmp_path) < 2:
                await http.call("GET", "/version")
    assert stages(tmp_path, "gone") == ["RequestReceived", "ResponseComplete"]
    status = events(tmp_path, "gone")[-1]["responseStatus"]
    assert (status["code"], status.get("message")) == (code, message)
