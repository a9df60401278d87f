"""metrics.k8s.io, told by kubelets: here by one that the test plays."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from kubecore.apiserver.server import APIServer

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
METRICS = "metrics.k8s.io/v1beta1"
STAMP = "2026-01-01T00:00:00Z"


def usage(cpu: int | None, memory: int) -> JSON:
    told: JSON = {"time": STAMP, "windowSeconds": 15.25}
    if cpu is not None:
        told["usageNanoCores"] = cpu
    return {"cpu": told, "memory": {"time": STAMP, "workingSetBytes": memory}}


class PlayedKubelet:
    """Answers what `summary` is, over TLS."""

    def __init__(self) -> None:
        self.summary: JSON = {"node": usage(1_500_000_000, 5 << 30), "pods": []}
        self.status = 200
        self.port = 0
        self.asked = 0
        self.reached, self.free = asyncio.Event(), asyncio.Event()
        self.free.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.reached.set()
        await self.free.wait()
        return web.json_response(self.summary, status=self.status)

    def runs(self, made: JSON, *containers: tuple[str, int | None, int]) -> None:
        reference = {"uid": made["metadata"]["uid"]}
        listed = [{"name": name, **usage(cpu, memory)} for name, cpu, memory in containers]
        self.summary["pods"].append({"podRef": reference, "containers": listed})


@pytest_asyncio.fixture(loop_scope="module")
async def kubelet(server: APIServer, cluster: Api) -> AsyncIterator[PlayedKubelet]:
    """Of node alpha; node beta's is not there."""
    played = PlayedKubelet()
    pair = server.issue_serving_certificate("alpha", ["alpha"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = server.config.data_dir / "pki"
    context.load_cert_chain(folder / "alpha.crt", folder / "alpha.key")
    assert pair.certificate
    application = web.Application()
    application.add_routes([web.get("/stats/summary", played.answer)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    played.port = runner.addresses[0][1]
    for name, port in (("alpha", played.port), ("beta", 1)):
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        code, made = await cluster.create(
            "v1/nodes", {"metadata": {"name": name, "labels": {"of": "test"}}, "status": status}
        )
        assert code == 201, made
    yield played
    for name in ("alpha", "beta"):
        await cluster.delete("v1/nodes", name)
    await runner.cleanup()


async def running(api: Api, name: str, node: str = "alpha", **labels: str) -> JSON:
    made = pod(name, nodeName=node)
    made["metadata"]["labels"] = labels
    _, made = await api.create("v1/pods", made)
    code, made = await api.update("v1/pods", {**made, "status": {"phase": "Running"}}, "status")
    assert code == 200, made
    return made


async def test_pods_are_told_with_what_each_container_uses(api: Api, kubelet: PlayedKubelet) -> None:
    made = await running(api, "web", app="web")
    kubelet.runs(made, ("main", 250_000_000, 10 << 20), ("side", 1_500, 4097))
    code, found = await api.get(f"{METRICS}/pods", "web")
    assert code == 200, found
    assert found == {
        "kind": "PodMetrics",
        "apiVersion": METRICS,
        "metadata": {
            "name": "web",
            "namespace": api.namespace,
            "creationTimestamp": STAMP,
            "labels": {"app": "web"},
        },
        "timestamp": STAMP,
        "window": "15.25s",
        "containers": [
            {"name": "main", "usage": {"cpu": "250m", "memory": "10Mi"}},
            {"name": "side", "usage": {"cpu": "1500n", "memory": "4Ki"}},
        ],
    }


async def test_pods_are_selected_by_label_and_the_incomplete_left_out(api: Api, kubelet: PlayedKubelet) -> None:
    for name, cpu in (("a", 5), ("b", None)):
        kubelet.runs(await running(api, name, app="web"), ("main", cpu, 1 << 20))
    kubelet.runs(await running(api, "c", app="other"), ("main", 5, 1 << 20))
    await running(api, "lost", "beta", app="web")
    code, found = await api.list(f"{METRICS}/pods", labelSelector="app=web")
    assert (code, found["kind"]) == (200, "PodMetricsList")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]


async def test_nodes_are_told_as_far_as_they_answer(cluster: Api, kubelet: PlayedKubelet) -> None:
    code, found = await cluster.list(f"{METRICS}/nodes", labelSelector="of=test")
    assert code == 200
    (node,) = found["items"]
    assert (node["metadata"]["name"], node["usage"]) == ("alpha", {"cpu": "1500m", "memory": "5Gi"})
    code, error = await cluster.get(f"{METRICS}/nodes", "beta")
    assert (code, error["message"]) == (404, 'nodemetrics.metrics.k8s.io "beta" not found')


async def test_why_a_kubelet_does_not_tell_is_logged_in_go_s_words(
    cluster: Api, kubelet: PlayedKubelet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kubecore.apiserver.handlers.resource_metrics")
    kubelet.status = 503
    await cluster.list(f"{METRICS}/nodes", labelSelector="of=test")
    asked = "/stats/summary?only_cpu_and_memory=true"
    assert sorted(record.getMessage() for record in caplog.records) == [
        'node alpha does not tell what it uses: request failed, status: "503 Service Unavailable"',
        f'node beta does not tell what it uses: Get "https://127.0.0.1:1{asked}": dial tcp 127.0.0.1:1: connect: '
        "connection refused",
    ]


async def test_a_kubelet_is_asked_once_for_all_who_ask_meanwhile(cluster: Api, kubelet: PlayedKubelet) -> None:
    kubelet.free.clear()
    path = f"{METRICS}/nodes"
    first = asyncio.create_task(cluster.get(path, "alpha"))
    await kubelet.reached.wait()
    gone, second = (asyncio.create_task(cluster.get(path, "alpha")) for _ in range(2))
    # What is asked later is answered, so those two have come as far as they can.
    assert (await cluster.get("v1/nodes", "alpha"))[0] == 200
    gone.cancel()
    kubelet.free.set()
    assert [(await one)[0] for one in (first, second)] == [200, 200]
    assert kubelet.asked == 1
    assert (await cluster.get(path, "alpha"))[0] == 200
    assert kubelet.asked == 2


async def test_what_does_not_run_has_no_metrics(api: Api) -> None:
    await api.create("v1/pods", pod("waits"))
    code, error = await api.get(f"{METRICS}/pods", "waits")
    told = f'podmetrics.metrics.k8s.io "{api.namespace}/waits" not found'
    assert (code, error["message"]) == (404, told)
    assert (await api.list(f"{METRICS}/pods"))[1]["items"] == []
    assert (await api.create(f"{METRICS}/pods", {"metadata": {"name": "x"}}))[0] == 405


async def test_discovery_tells_of_it(cluster: Api) -> None:
    _, groups = await cluster.call("GET", "/apis")
    assert "metrics.k8s.io" in [group["name"] for group in groups["groups"]]
    _, listed = await cluster.call("GET", f"/apis/{METRICS}")
    told = [(one["name"], one["kind"], one["namespaced"], one["verbs"]) for one in listed["resources"]]
    assert told == [("nodes", "NodeMetrics", False, ["get", "list"]), ("pods", "PodMetrics", True, ["get", "list"])]


async def test_who_may_view_may_see_what_pods_use(server: APIServer, api: Api) -> None:
    reader = Api(server.transport(username="reader"), api.namespace)
    assert (await reader.list(f"{METRICS}/pods"))[0] == 403
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregated-metrics-reader"}
    binding = {"metadata": {"name": "r"}, "roleRef": role, "subjects": [{"kind": "User", "name": "reader"}]}
    assert (await api.create("rbac.authorization.k8s.io/v1/rolebindings", binding))[0] == 201
    assert (await reader.list(f"{METRICS}/pods"))[0] == 200
