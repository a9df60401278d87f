"""What a component serves of itself, and to whom: the API server knows who asks and what they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import create_default_context
from typing import Any

import aiohttp
import orjson
import pytest

from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.server import APIServer
from kubecore.client.client import Client
from kubecore.clock import RealClock
from kubecore.component_server import ComponentServer, ServerConfig
from kubecore.metrics import Counter, Metrics, Named

from .serving import served

READER = {
    "metadata": {"name": "reads-metrics"},
    "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
}


class Scheduler:
    """A component of that name and its clients."""

    def __init__(self, server: APIServer, folder: Path, port: int) -> None:
        self.server = server
        self._folder = folder
        self._url = f"https://127.0.0.1:{port}"

    async def ask(
        self, path: str, *, token: str = "", pair: KeyPair | None = None, method: str = "GET"
    ) -> tuple[int, str]:
        context = create_default_context()
        context.check_hostname = False
        context.verify_mode = 0  # type: ignore[assignment] # it vouches for itself
        if pair is not None:
            file = self._folder / "client.pem"
            file.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(file)
        headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self._url + path, headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async def token(self, *, reader: bool) -> str:
        """Of a service account of its own, which may read metrics or may not."""
        admin = Client(self.server.transport(username="admin", groups=["system:masters"]), field_manager="test")
        name = "reader" if reader else "nobody"
        await admin.create("serviceaccounts", {"metadata": {"name": name, "namespace": "kube-system"}})
        if reader:
            await admin.create("clusterroles.rbac.authorization.k8s.io", READER)
            binding = {
                "metadata": {"name": "reads-metrics"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reads-metrics"},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}],
            }
            await admin.create("clusterrolebindings.rbac.authorization.k8s.io", binding)
        request = {"metadata": {}, "spec": {"audiences": []}}
        made = await admin.create("serviceaccounts", request, "kube-system", name=name, subresource="token")
        return str(made["status"]["token"])


@asynccontextmanager
async def serving(client: Client) -> AsyncIterator[int]:
    """The port."""
    metrics = Metrics()
    metrics.add(Counter(Named("decisions_total", "Decisions.")))
    config = ServerConfig(name="kube-scheduler", port=0)
    component = ComponentServer(client, RealClock(), config, metrics, {"/metrics/resources": lambda: b"pods 1\n"})
    port = component.listen()
    running = asyncio.create_task(component.run())
    try:
        yield port
    finally:
        running.cancel()
        await asyncio.wait((running,))


@pytest.fixture
async def scheduler(tmp_path: Path) -> AsyncIterator[Scheduler]:
    async with served(tmp_path) as server:
        client = Client(server.transport(username="system:kube-scheduler"), field_manager="kube-scheduler")
        async with serving(client) as port:
            yield Scheduler(server, tmp_path, port)


def assert_unauthorized(status: int, text: str) -> None:
    refusal = orjson.loads(text)
    assert (status, refusal["kind"], refusal["message"]) == (401, "Status", "Unauthorized")


async def test_health_is_everybodys_to_see(scheduler: Scheduler) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert await scheduler.ask(path) == (200, "ok")


async def test_nobody_sees_metrics_unasked(scheduler: Scheduler) -> None:
    status, text = await scheduler.ask("/metrics")
    refusal = orjson.loads(text)
    assert (status, refusal["kind"], refusal["reason"]) == (403, "Status", "Forbidden")
    assert refusal["message"] == 'forbidden: User "system:anonymous" cannot get path "/metrics"'


async def test_a_token_that_is_no_good_is_refused(scheduler: Scheduler) -> None:
    assert_unauthorized(*await scheduler.ask("/metrics", token="made-up"))


async def test_a_service_account_sees_what_its_roles_allow(scheduler: Scheduler) -> None:
    status, text = await scheduler.ask("/metrics", token=await scheduler.token(reader=True))
    assert status == 200
    assert "\ndecisions_total 0\n" in text


async def test_one_without_a_role_does_not(scheduler: Scheduler) -> None:
    status, text = await scheduler.ask("/metrics", token=await scheduler.token(reader=False))
    name = "system:serviceaccount:kube-system:nobody"
    assert status == 403
    assert orjson.loads(text)["message"] == f'forbidden: User "{name}" cannot get path "/metrics"'


async def test_client_certificates_of_the_cluster_count(scheduler: Scheduler) -> None:
    pair = scheduler.server.issue_client_certificate("admin", ["system:masters"])
    status, text = await scheduler.ask("/metrics", pair=pair)
    assert status == 200
    assert "\ndecisions_total 0\n" in text
    assert (await scheduler.ask("/nothing", pair=pair))[0] == 404
    assert await scheduler.ask("/metrics/resources", pair=pair) == (200, "pods 1\n")


async def test_further_documents_are_told_to_whom_roles_allow_them(scheduler: Scheduler) -> None:
    status, _ = await scheduler.ask("/metrics/resources", token=await scheduler.token(reader=True))
    assert status == 403


class Gone:
    """An API server that cannot be reached."""

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        raise ConnectionError("cannot connect to 127.0.0.1:6443: Connection refused")


async def test_while_nobody_can_judge_only_health_is_served(scheduler: Scheduler, tmp_path: Path) -> None:
    async with serving(Client(Gone(), field_manager="kube-scheduler")) as port:  # type: ignore[arg-type]
        alone = Scheduler(scheduler.server, tmp_path, port)
        assert await alone.ask("/healthz") == (200, "ok")
        assert_unauthorized(*await alone.ask("/metrics", token="made-up"))
        status, text = await alone.ask("/metrics")
    why = "cannot connect to 127.0.0.1:6443: Connection refused"
    assert (status, text) == (500, f'Internal Server Error: "/metrics": {why}\n')
