# ruff: noqa: ASYNC110, ASYNC240
"""A kubelet with real processes against an API in memory: from a bound pod to its removal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import trustme

from kubecore.api import errors, meta
from kubecore.clock import RealClock
from kubecore.kubelet.kubelet import Kubelet
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from tests.support.fake_api import FakeAPI
from tests.support.running_kubelet import Running, running_kubelet, shell

Object = dict[str, Any]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_kubelet(tmp_path) as running:
        yield running


async def test_a_pod_runs_succeeds_and_its_log_can_be_read(node: Running) -> None:
    node.pod("hello", shell("echo one; echo two >&2; echo three"))
    pod = await node.phase("hello", "Succeeded")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (0, "Completed")
    code, text = await node.get("/containerLogs/default/hello/main")
    assert (code, sorted(text.splitlines())) == (200, ["one", "three", "two"])
    assert (await node.get("/containerLogs/default/hello/main?tailLines=1"))[1] in ("three\n", "two\n")
    links = list((node.root / "var/log/containers").iterdir())
    assert [link.name.startswith("hello_default_main-") for link in links] == [True]


async def test_followed_output_comes_until_the_container_ends(node: Running) -> None:
    gate = node.root / "gate"
    node.pod("talker", shell(f"echo a; until [ -e {gate} ]; do sleep 0.02; done; echo b"))
    await node.phase("talker", "Running")
    connector = aiohttp.TCPConnector(ssl=node.client_context("kube-apiserver-kubelet-client"))
    url = node.url("/containerLogs/default/talker/main?follow=true")
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as answer:
        assert (answer.status, await answer.content.readexactly(2)) == (200, b"a\n")
        gate.touch()
        assert await answer.content.read() == b"b\n"


async def test_what_containers_use_is_measured_when_somebody_asks(node: Running) -> None:
    script = "echo busy; while :; do :; done"
    node.pod("busy", shell(script), restartPolicy="Always")
    await node.said("busy", "busy")
    code, text = await node.get("/stats/summary")
    assert code == 200
    summary = orjson.loads(text)
    (pod,) = summary["pods"]
    assert (pod["podRef"]["name"], pod["containers"][0]["name"]) == ("busy", "main")
    used = pod["containers"][0]
    assert used["cpu"]["usageNanoCores"] > 0
    assert used["memory"]["workingSetBytes"] > 0
    assert summary["node"]["memory"]["workingSetBytes"] > used["memory"]["workingSetBytes"]
    code, text = await node.get("/metrics/resource")
    assert code == 200
    assert 'container_cpu_usage_seconds_total{container="main",namespace="default",pod="busy"}' in text
    code, text = await node.get("/metrics/cadvisor")
    assert code == 200
    assert 'container_cpu_usage_seconds_total{container="main",cpu="total",id="' in text
    assert "\nmachine_memory_bytes{" in text


async def test_the_kubelet_tells_what_it_has_done_and_has(node: Running) -> None:
    node.pod("one", shell("echo here; sleep 1000", readinessProbe={"exec": {"command": ["true"]}}))
    await node.until("one", lambda pod: (meta.condition(pod, "Ready") or {}).get("status") == "True")
    for group in ("", "system:masters"):
        code, text = await node.get("/metrics", group=group)
        assert code == 200
        lines = text.splitlines()
        assert "kubelet_running_pods 1" in lines
        assert 'kubelet_running_containers{container_state="running"} 1' in lines
        assert 'kubelet_runtime_operations_total{operation_type="start_container"} 1' in lines
    _, text = await node.get("/metrics/probes")
    assert 'container="main",namespace="default",pod="one"' in text
    _, text = await node.get("/runningpods/")
    (pod,) = orjson.loads(text)["items"]
    assert (pod["metadata"]["name"], pod["spec"]["containers"][0]["name"]) == ("one", "main")


async def test_metrics_are_for_whoever_may_ask_the_kubelet(node: Running) -> None:
    for path in ("/metrics", "/metrics/cadvisor", "/metrics/probes", "/runningpods/"):
        assert [(await node.get(path, subject=one))[0] for one in ("", "somebody")] == [401, 403]
    assert (await node.get("/metrics/unknown"))[0] == 404


async def test_nobody_without_a_right_to_the_node_may_ask_the_kubelet(node: Running) -> None:
    assert await node.get("/pods", subject="") == (401, "Unauthorized")
    assert await node.get("/pods", subject="somebody") == (
        403,
        "Forbidden (user=somebody, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
    )
    assert (await node.get("/healthz"))[0] == 200


async def test_who_has_a_token_or_a_certificate_sees_the_parts_of_the_node_that_are_his_to_see(node: Running) -> None:
    assert await node.get("/metrics/cadvisor", token="made-up") == (401, "Unauthorized")
    node.api.rights.tokens["known"] = "prometheus"
    assert (await node.get("/metrics/cadvisor", token="known"))[0] == 403
    node.api.rights.nodes |= {("metrics-server", "get", "stats"), ("backup", "get", "proxy")}
    assert (await node.get("/stats/summary", subject="metrics-server"))[0] == 200
    assert (await node.get("/metrics/resource", subject="metrics-server"))[0] == 403
    assert (await node.get("/pods", subject="backup"))[0] == 200
    # a metrics path is never a matter of the right to the whole node
    assert (await node.get("/metrics", subject="backup"))[0] == 403


async def test_a_token_that_only_claims_to_be_the_api_server_is_judged_as_any_other(node: Running) -> None:
    node.api.rights.tokens["claims"] = "kube-apiserver-kubelet-client"
    assert (await node.get("/pods", token="claims"))[0] == 403


async def test_an_api_server_that_does_not_answer_lets_nobody_in(node: Running) -> None:
    node.api.react("create tokenreviews.authentication.k8s.io", errors.internal_error("broken"))
    assert await node.get("/pods", token="known") == (401, "Unauthorized")
    node.api.react("create subjectaccessreviews.authorization.k8s.io", errors.internal_error("broken"))
    assert await node.get("/pods", subject="somebody") == (
        500,
        "Authorization error (user=somebody, verb=get, resource=nodes, subresource=pods)",
    )


async def test_configuration_reaches_the_process_as_variables_and_files(node: Running) -> None:
    if not node.kubelet.isolated:
        pytest.skip("volumes cannot be mounted here")
    node.api.add("configmaps", {"metadata": {"name": "settings"}, "data": {"greeting": "hello", "file.txt": "content"}})
    node.api.add("secrets", {"metadata": {"name": "hidden"}, "data": {"password": "c3dvcmRmaXNo"}})
    node.pod(
        "configured",
        shell(
            "echo $GREETING $PASSWORD $POD_NAME; cat /settings/file.txt; echo; cat /run/hidden/password; touch /work/x",
            env=[
                {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
                {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            volumeMounts=[
                {"name": "settings", "mountPath": "/settings"},
                {"name": "hidden", "mountPath": "/run/hidden", "readOnly": True},
                {"name": "work", "mountPath": "/work"},
            ],
        ),
        volumes=[
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "hidden", "secret": {"secretName": "hidden"}},
            {"name": "work", "emptyDir": {}},
        ],
    )
    await node.phase("configured", "Succeeded")
    _, text = await node.get("/containerLogs/default/configured/main")
    assert text == "hello swordfish configured\ncontent\nswordfish"


async def test_a_config_map_volume_follows_its_config_map(node: Running) -> None:
    if not node.kubelet.isolated:
        pytest.skip("volumes cannot be mounted here")
    node.api.add("configmaps", {"metadata": {"name": "settings"}, "data": {"word": "before"}})
    script = "echo ready; until grep -q after /settings/word; do sleep 0.02; done; cat /settings/word"
    mounts = [{"name": "settings", "mountPath": "/settings"}]
    node.pod(
        "follower",
        shell(script, volumeMounts=mounts),
        volumes=[{"name": "settings", "configMap": {"name": "settings"}}],
    )
    await node.phase("follower", "Running")
    node.api.change("configmaps", "settings", data={"word": "after"})
    await node.phase("follower", "Succeeded")
    _, text = await node.get("/containerLogs/default/follower/main")
    assert text == "ready\nafter"


async def test_a_deleted_pod_ends_within_its_grace_and_leaves_nothing(node: Running) -> None:
    node.pod("doomed", shell("trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"), restartPolicy="Always")
    pod = await node.until("doomed", lambda one: one["status"].get("phase") == "Running")
    uid = pod["metadata"]["uid"]
    await node.said("doomed", "up")
    await node.api.client().delete("pods", "doomed", "default")
    await node.gone("doomed")
    async with asyncio.timeout(60):
        while (node.root / "pods" / uid).exists():
            await asyncio.sleep(0.01)
    assert list((node.root / "var/log/pods").iterdir()) == []
    assert list((node.root / "var/log/containers").iterdir()) == []


async def test_readiness_follows_what_the_process_serves(node: Running) -> None:
    program = (
        "import http.server, os; http.server.HTTPServer((os.environ['KUBECORE_POD_IP'], 8087), "
        "http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    container = {
        "name": "main",
        "image": "any",
        "command": ["python3", "-c", program],
        "ports": [{"name": "web", "containerPort": 8087}],
        "readinessProbe": probe,
    }
    node.pod("server", container)
    pod = await node.until(
        "server",
        lambda pod: any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])),
    )
    assert [one["ready"] for one in pod["status"]["containerStatuses"]] == [True]


async def test_the_end_of_the_kubelet_ends_its_processes(tmp_path: Path) -> None:
    clock = RealClock()
    api = FakeAPI(clock, namespaces=("default", "kube-node-lease"))
    config = KubeletConfig(node_name="node", node_index=5, root_dir=tmp_path, default_runtime="host")
    kubelet = Kubelet(api.client("kubelet"), clock, config)
    task = asyncio.create_task(kubelet.run())
    await asyncio.wait_for(kubelet.ready.wait(), 60)
    marker = f"5{os.getpid()}"
    running = Running(api, kubelet, tmp_path, trustme.CA())
    running.pod("sleeper", shell(f"sleep {marker}; true"), terminationGracePeriodSeconds=3600)
    await running.phase("sleeper", "Running")
    task.cancel()
    began = clock.monotonic()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.monotonic() - began < 120, "it waits for no grace period"
    assert [entry for entry in Path("/proc").iterdir() if marker.encode() in command_line(entry)] == []


def command_line(entry: Path) -> list[bytes]:
    """Of a folder of /proc; none of one that is no process, or is gone meanwhile."""
    try:
        return (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
    except OSError:
        return []


async def test_a_tcp_probe_tells_the_address_and_port_it_tried(node: Running) -> None:
    probe = {"tcpSocket": {"port": "closed"}, "periodSeconds": 1}
    ports = [{"name": "closed", "containerPort": 9}]
    node.pod("silent", shell("exec sleep 1000", readinessProbe=probe, ports=ports))
    pod = await node.until("silent", lambda one: "podIP" in one["status"])
    told = f"Readiness probe failed: dial tcp {pod['status']['podIP']}:9: connect: connection refused"
    async with asyncio.timeout(60):
        while told not in [event["message"] for event in node.api.all("events")]:
            await asyncio.sleep(0.01)
    found = await node.until("silent", lambda one: bool(one["status"].get("containerStatuses")))
    assert [one["ready"] for one in found["status"]["containerStatuses"]] == [False]


async def test_the_node_tells_of_its_start(node: Running) -> None:
    async with asyncio.timeout(60):
        while len(found := [one for one in node.api.all("events") if one["involvedObject"]["kind"] == "Node"]) < 5:
            await asyncio.sleep(0.01)
    states = ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady")
    assert [one["message"] for one in found] == [
        "Starting kubelet.",
        *(f"Node node status is now: {state}" for state in states),
    ]
    assert {one["involvedObject"]["uid"] for one in found} == {"node"}


async def test_the_kubelet_tells_its_settings(node: Running) -> None:
    status, body = await node.get("/configz")
    told = orjson.loads(body)["kubeletconfig"]
    assert (status, told["maxPods"], told["clusterDomain"]) == (200, 110, "cluster.local")
    assert told["evictionHard"]["memory.available"] == str(100 * 1024 * 1024)
    assert told["evictionPressureTransitionPeriod"] == "5m0s"
