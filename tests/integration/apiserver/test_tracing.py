"""Traces of requests that a collector of OpenTelemetry gets, as those of kube-apiserver v1.35."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubecore.apiserver.server import APIServer
from kubecore.apiserver.tracing import spans
from kubecore.apiserver.tracing.options import TracingOptions
from tests.support.admission_webhook import MAPS, Hook, allow
from tests.support.conversion_webhook import ConversionWebhook, serving
from tests.support.trace_collector import Collector, collecting

from .conftest import Api
from .hooks import registered
from .http import Http
from .serving import served

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
PATH = "/api/v1/namespaces/default/configmaps"
NAME = "POST /api/v1/namespaces/{:namespace}/configmaps"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MINE = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


def made(name: str) -> JSON:
    return {"metadata": {"name": name}}


@asynccontextmanager
async def traced(folder: Path, groups: list[str], *, rate: int = 0) -> AsyncIterator[tuple[Http, APIServer, Collector]]:
    """All spans are there when it has ended."""
    async with collecting() as collector:
        options = TracingOptions(endpoint=f"127.0.0.1:{collector.port}", per_million=rate)
        async with served(folder, tracing=options, authorization_modes=("AlwaysAllow",)) as server:
            pair = server.issue_client_certificate("bob", groups)
            async with Http(server, folder, pair=pair) as http:
                yield http, server, collector


async def test_a_request_of_an_administrator_is_part_of_his_trace(tmp_path: Path) -> None:
    async with traced(tmp_path, ["system:masters"]) as (http, _, collector):
        answer = await http.call("POST", PATH, made("a"), MINE)
        assert answer.status == 201
        assert (await http.call("POST", PATH, made("b"))).status == 201
        assert (await http.call("DELETE", f"{PATH}/a/nothing", headers=MINE)).status == 404
    assert {one.name for one in collector.spans} == {NAME, f"DELETE {NAME[5:]}/{{:name}}/nothing"}
    span = collector.named(NAME)
    assert (span.trace, span.parent, span.kind, span.status) == (TRACE, SPAN, spans.SERVER, 0)
    assert span.nanoseconds[0] < span.nanoseconds[1]
    assert span.resource["service.name"] == "apiserver"
    told = {"http.request.method": "POST", "http.target": PATH, "http.response.status_code": 201}
    assert told.items() <= span.attributes.items()
    assert span.attributes["audit-id"] == answer.headers["Audit-Id"]
    assert collector.named(f"DELETE {NAME[5:]}/{{:name}}/nothing").attributes["http.response.status_code"] == 404


async def test_others_begin_traces_as_often_as_is_configured(tmp_path: Path) -> None:
    async with traced(tmp_path, ["others"]) as (http, _, collector):
        await http.call("POST", PATH, made("a"), MINE)
    assert collector.spans == []
    async with traced(tmp_path, ["others"], rate=1_000_000) as (http, _, collector):
        await http.call("POST", PATH, made("b"), MINE)
    span = collector.named(NAME)
    assert span.trace != TRACE
    assert span.links == [TRACE]


async def test_reads_are_traced_and_answered_as_others_are(tmp_path: Path) -> None:
    async with traced(tmp_path, ["system:masters"]) as (http, _, collector):
        await http.call("POST", PATH, made("a"))
        for path in (f"{PATH}/a", f"{PATH}?limit=1"):
            plain, kept = await http.call("GET", path), await http.call("GET", path, headers=MINE)
            assert (kept.status, kept.body) == (200, plain.body)
        one_second = f"{PATH}?watch=true&timeoutSeconds=1"
        watched, kept = await http.call("GET", one_second), await http.call("GET", one_second, headers=MINE)
        assert (kept.status, kept.body) == (200, watched.body)
        assert b'"ADDED"' in kept.body
    name = f"GET {NAME[5:]}"
    assert [one.trace for one in collector.spans] == [TRACE] * 3
    assert sorted(one.name for one in collector.spans) == [name, name, f"{name}/{{:name}}"]


async def test_chance_decides_once_for_a_read(tmp_path: Path) -> None:
    async with traced(tmp_path, ["others"], rate=1_000_000) as (http, _, collector):
        assert (await http.call("GET", PATH)).status == 200
    async with traced(tmp_path, ["others"]) as (http, _, nothing):
        assert (await http.call("GET", PATH)).status == 200
    assert len(collector.spans) == 1
    assert nothing.spans == []


class Traced(ConversionWebhook):
    header = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.header = request.headers.get("traceparent", "")
        return await super().handle(request)


async def test_webhooks_are_steps_of_the_trace_and_may_go_on_with_it(tmp_path: Path) -> None:
    hook = Hook(allow)
    hook.served = asked = Traced(answer=hook.answer)
    async with serving(asked), traced(tmp_path, ["system:masters"]) as (http, server, collector):
        cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
        async with registered(cluster, "Validating", hook.configured("one.example.com", [MAPS]), name="hooks"):
            assert (await http.call("POST", PATH, made("a"), MINE)).status == 201
    step, call = collector.named("Call validating webhook"), collector.named("HTTP POST")
    assert (step.parent, call.parent) == (collector.named(NAME).id, step.id)
    assert {"configuration": "hooks", "webhook": "one.example.com", "operation": "CREATE"}.items() <= (
        step.attributes.items()
    )
    assert asked.header == f"00-{TRACE}-{call.id}-01"
    assert call.attributes["http.response.status_code"] == 200


async def test_a_collector_that_is_away_is_told_of_and_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "kubecore.apiserver"):
        options = TracingOptions(endpoint=f"unix://{tmp_path}/none", per_million=1_000_000)
        async with served(tmp_path, tracing=options) as server:
            pair = server.issue_client_certificate("admin", ["system:masters"])
            async with Http(server, tmp_path, pair=pair) as http:
                assert (await http.call("POST", PATH, made("a"))).status == 201
    assert "traces are not taken by" in caplog.text
