"""`kubecore up` is killed while pods run, and started again over the same data directory: they do not notice."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking import answer_at
from tests.support.kubectl import Kubectl, of_version
from tests.support.ports import free_port
from tests.support.process import ON_THE_HOST, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = "echo mine > /data/kept; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done"
WAIT = "until [ -e {go} ]; do sleep 0.02; done; exit 3"


def pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    mounts = [{"name": "data", "mountPath": "/data"}]
    main = {"name": "main", "image": "none", "command": ["/bin/sh", "-c", script], "volumeMounts": mounts}
    whole = {"containers": [main], "volumes": [{"name": "data", "emptyDir": {"medium": "Memory"}}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


def test_pods_go_on_without_their_cluster_and_the_next_start_takes_them_over(tmp_path: Path) -> None:
    data, go = tmp_path / "data", tmp_path / "go"
    with running_cluster(data) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
        for one in (pod("counting", COUNT), pod("ending", WAIT.format(go=go), restartPolicy="Never")):
            kubectl("apply", "-f", "-", stdin=json.dumps(one))
        kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=180s")
        before = kubectl.json("get", "pod", "counting")["status"]
        inside = kubectl("exec", "counting", "--", "sh", "-c", "readlink /proc/1/ns/net /proc/1/ns/mnt")
        cluster.stop(number=signal.SIGKILL)
    go.touch()
    with running_cluster(data) as cluster:
        kubectl("wait", "pod", "ending", "--for=jsonpath={.status.phase}=Failed", "--timeout=180s")
        ended = kubectl.json("get", "pod", "ending")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 3
        assert kubectl.json("get", "pod", "counting")["status"] == before
        assert kubectl("exec", "counting", "--", "cat", "/data/kept") == "mine\n"
        assert kubectl("exec", "counting", "--", "sh", "-c", "readlink /proc/1/ns/net /proc/1/ns/mnt") == inside
        lines = [int(line) for line in kubectl("logs", "counting").split()]
        assert lines == list(range(1, len(lines) + 1))
        assert cluster.stop() == 0
    assert list(data.glob("nodes/*/keeper.sock")) == []


def said_at(status: dict[str, Any], port: int) -> str:
    """By whatever has the host port at the node of the pod with this status."""
    return answer_at(f"http://{status['hostIP']}:{port}/")


def not_served(kubectl: Kubectl, *, by: int) -> list[str]:
    """What is told of host ports, once so many pods tell it."""
    deadline = time.monotonic() + 60
    while True:
        events = kubectl.json("get", "events", "--field-selector=reason=HostPortNotServed")["items"]
        if len({event["involvedObject"]["name"] for event in events}) >= by:
            return [event["message"] for event in events]
        assert time.monotonic() < deadline, events


def test_pods_of_several_nodes_are_taken_over_and_still_reach_each_other(tmp_path: Path) -> None:
    """So do clients of their nodes' ports: each node has one at its own address, whoever has it at the machine's."""
    data, host_port = tmp_path / "data", free_port()
    serve = "python3 -m http.server 8080 --bind $KUBECORE_POD_IP --directory /data"
    with running_cluster(data, "--nodes", "3", *ON_THE_HOST) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
        host = socket.gethostname().lower()
        nodes = [f"{host}-{index}" for index in range(3)]
        for node in nodes:
            kubectl("wait", "--for=create", f"node/{node}", "--timeout=180s")
        for number, node in enumerate(nodes):
            script = f"echo of node {number} > /data/index.html; {serve}"
            probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
            one = pod(f"web-{number}", script, nodeName=node)
            port = {"containerPort": 8080, "hostPort": host_port}
            one["spec"]["containers"][0] |= {"readinessProbe": probe, "ports": [port]}
            kubectl("apply", "-f", "-", stdin=json.dumps(one))
        kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=180s")
        before = [one["status"] for one in kubectl.json("get", "pods")["items"]]
        assert [said_at(status, host_port) for status in before] == [f"of node {number}\n" for number in range(3)]
        why = f"host port TCP {host_port}: cannot listen on 127.0.0.1"
        assert all(message.startswith(why) for message in not_served(kubectl, by=2))
        cluster.stop(number=signal.SIGKILL)
    with running_cluster(data, "--nodes", "3", *ON_THE_HOST) as cluster:
        assert [one["status"] for one in kubectl.json("get", "pods")["items"]] == before
        for number, status in enumerate(before):
            fetch = f"import urllib.request as r; print(r.urlopen('http://{status['podIP']}:8080', timeout=60).read())"
            said = kubectl("exec", f"web-{(number + 1) % 3}", "--", "python3", "-c", fetch)
            assert f"of node {number}" in said
        assert [said_at(status, host_port) for status in before] == [f"of node {number}\n" for number in range(3)]
        assert cluster.stop() == 0
    assert list(data.glob("nodes/*/keeper.sock")) == []
