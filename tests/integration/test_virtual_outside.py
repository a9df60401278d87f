"""A cluster in virtual time and the programs outside it, whose time is the machine's: clients that verify TLS, and
servers that the API server asks."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kubecore.client.client import Client
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.clock import VirtualClock
from kubecore.cluster import Cluster, ClusterConfig
from tests.support.admission_webhook import PODS, Hook, configuration
from tests.support.conversion_webhook import ConversionWebhook, serving

Object = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLOCKS = {
    "behind": lambda: VirtualClock(datetime(2025, 1, 1, tzinfo=UTC)),
    "default": VirtualClock,
    "ahead": lambda: VirtualClock(datetime(2035, 1, 1, tzinfo=UTC)),
}


@asynccontextmanager
async def running(folder: Path, clock: VirtualClock, *, nodes: int = 0) -> AsyncIterator[Cluster]:
    config = ClusterConfig(data_dir=folder, secure_port=0, grpc_port=0, nodes=0, simulated_nodes=nodes, durable=False)
    cluster = Cluster(config, clock)
    await clock.drive(cluster.start())
    yield cluster
    await clock.drive(cluster.stop())


# --- clients


async def status(cluster: Cluster, context: ssl.SSLContext) -> int:
    """Of a listing of the namespaces."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(f"{cluster.url}/api/v1/namespaces") as answer,
    ):
        return answer.status


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
async def test_clients_trust_the_cluster_and_are_known_to_it(tmp_path: Path, clock: Callable[[], VirtualClock]) -> None:
    async with running(tmp_path / "data", clock()) as cluster:
        told = Kubeconfig.load(cluster.kubeconfig)
        context = ssl.create_default_context(cadata=told.certificate_authority.decode())
        assert await status(cluster, context) == 403
        pair = tmp_path / "pair.pem"
        pair.write_bytes(told.client_certificate + told.client_key)
        context.load_cert_chain(pair)
        assert await status(cluster, context) == 200


# --- servers


class OnAThread(ConversionWebhook):
    """It answers after 50 ms of its own time, or not before the test is `over`."""

    silent = False
    over: asyncio.Event

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.silent:
            await self.over.wait()
        await asyncio.sleep(0.05)
        return await super().handle(request)


@contextmanager
def served(webhook: OnAThread) -> Iterator[None]:
    ready: Future[Callable[[], object]] = Future()

    async def serve() -> None:
        loop, webhook.over = asyncio.get_running_loop(), asyncio.Event()
        async with serving(webhook):
            ready.set_result(lambda: loop.call_soon_threadsafe(webhook.over.set))
            await webhook.over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    end = ready.result(30)
    try:
        yield
    finally:
        end()
        thread.join()


async def deployed(
    cluster: Cluster, clock: VirtualClock, hook: Hook, seconds: float, **webhook: Any
) -> tuple[Object, list[Object]]:
    """The status of a Deployment so long after it was made, and the events of failures."""
    client = Client(cluster.server.transport(username="admin", groups=["system:masters"]), field_manager="test")
    entry = hook.configured("pods.example.com", [PODS], **webhook)
    await client.create(
        "validatingwebhookconfigurations.admissionregistration.k8s.io", configuration("Validating", "pods", entry)
    )
    await clock.advance(5)
    pod = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": pod}
    await client.create("deployments.apps", {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
    await clock.advance(seconds)
    events = (await client.list("events", "default")).items
    made = await client.get("deployments.apps", "web", "default")
    return made["status"], [event for event in events if event["reason"] == "FailedCreate"]


async def test_a_webhook_has_the_time_it_needs_while_time_passes(tmp_path: Path) -> None:
    clock, hook = VirtualClock(), Hook()
    hook.served = webhook = OnAThread(answer=hook.answer)
    with served(webhook):
        async with running(tmp_path, clock, nodes=1) as cluster:
            await clock.advance(10)
            reached, failures = await deployed(cluster, clock, hook, 60, timeoutSeconds=10)
    assert failures == []
    assert reached["readyReplicas"] == 3
    assert len([one for one in hook.requests if one["operation"] == "CREATE"]) == 3


async def test_a_webhook_that_never_answers_holds_time_up_only_until_its_limit(tmp_path: Path) -> None:
    clock, hook = VirtualClock(), Hook()
    hook.served = webhook = OnAThread(answer=hook.answer)
    webhook.silent = True
    with served(webhook):
        async with running(tmp_path, clock, nodes=1) as cluster:
            await clock.advance(10)
            reached, failures = await deployed(cluster, clock, hook, 0.1, timeoutSeconds=1)
    assert "readyReplicas" not in reached
    assert "context deadline exceeded" in failures[0]["message"]
