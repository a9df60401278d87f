"""kubectl exec, cp, attach, run -it and port-forward, by SPDY (all kubectl can before 1.29) and by WebSocket."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, of_version, own_namespace
from tests.support.process import RunningCluster
from tests.support.streamed_pod import manifest, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BY_SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
CLIENTS = {"1.27": {}, "1.37": {}, "1.37 by SPDY": BY_SPDY}
MEGABYTE = 1 << 20

SLEEPER = {"name": "sleeper", "image": "none", "command": ["sh", "-c", "echo started; exec sleep 3600"]}
POD = manifest("main", SLEEPER, serving("web"))


@pytest.fixture(scope="module", params=list(CLIENTS))
def kubectl(
    cluster: RunningCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    found = of_version(request.param.split()[0], cluster.kubeconfig, tmp_path_factory.mktemp("home"))
    return replace(found, variables=CLIENTS[request.param])


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    with own_namespace(kubectl, "spdy" if kubectl.variables else "streams") as name:
        kubectl("-n", name, "apply", "-f", "-", stdin=POD)
        kubectl("-n", name, "wait", "--for=condition=Ready", "pod/main", "--timeout=180s")
        yield name


def test_a_command_s_output_and_errors_come_apart(kubectl: Kubectl, namespace: str) -> None:
    answer = kubectl.run("-n", namespace, "exec", "main", "-c", "sleeper", "--", "sh", "-c", "echo out; echo err >&2")
    assert (answer.status, answer.output, answer.errors) == (0, "out\n", "err\n")


def test_the_exit_code_is_the_command_s(kubectl: Kubectl, namespace: str) -> None:
    answer = kubectl.run("-n", namespace, "exec", "main", "-c", "sleeper", "--", "sh", "-c", "exit 42")
    assert answer.status == 42
    assert "command terminated with exit code 42" in answer.errors


def test_a_hundred_megabytes_go_in_and_come_out_unchanged(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    block = os.urandom(MEGABYTE)
    source = tmp_path / "source"
    source.write_bytes(block * 100)
    command = ["-n", namespace, "exec", "-i", "main", "-c", "sleeper", "--", "cat"]
    digest = hashlib.sha256()
    with source.open("rb") as sent, kubectl.running(*command, stdin=sent, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(MEGABYTE):
            digest.update(piece)
        assert process.wait(60) == 0
    assert digest.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_terminal_is_one(kubectl: Kubectl, namespace: str) -> None:
    master, slave = pty.openpty()
    command = ["-n", namespace, "exec", "-it", "main", "-c", "sleeper", "--", "sh", "-c", "test -t 0 && echo terminal"]
    with kubectl.running(*command, stdin=slave, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read().strip() == b"terminal"
        assert process.wait(60) == 0
    os.close(master)
    os.close(slave)


def test_what_cannot_be_done_is_told_in_kubernetes_words(kubectl: Kubectl, namespace: str) -> None:
    def errors(*arguments: str) -> str:
        answer = kubectl.run("-n", namespace, "exec", *arguments)
        assert answer.status == 1
        return answer.errors

    assert 'pods "nobody" not found' in errors("nobody", "--", "true")
    assert "container nobody is not valid for pod main" in errors("main", "-c", "nobody", "--", "true")
    assert 'exec: "no-such": executable file not found in $PATH' in errors("main", "-c", "web", "--", "no-such")


def test_files_are_copied_both_ways(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    there, content = tmp_path / "there", os.urandom(3 * MEGABYTE)
    there.mkdir()
    (tmp_path / "sent").write_bytes(content)
    kubectl("-n", namespace, "cp", str(tmp_path / "sent"), f"main:{there}/kept", "-c", "sleeper")
    assert (there / "kept").read_bytes() == content
    kubectl("-n", namespace, "cp", f"main:{there}", str(tmp_path / "back"), "-c", "sleeper")
    assert (tmp_path / "back" / "kept").read_bytes() == content


def test_a_pod_that_is_run_interactively_talks_and_goes(kubectl: Kubectl, namespace: str) -> None:
    name = "interactive" if kubectl.variables else "talker"
    script = "read line; echo said $line; exit 3"
    command = ["run", name, "--image=none", "--restart=Never", "-i", "--rm", "--quiet", "--command", "--"]
    answer = kubectl.run("-n", namespace, *command, "sh", "-c", script, stdin="hello\n")
    assert "said hello" in answer.output
    assert answer.status == 3, answer.errors
    assert name not in kubectl("-n", namespace, "get", "pods", "-o", "name")


def test_a_port_is_forwarded_for_many_connections(kubectl: Kubectl, namespace: str) -> None:
    command = ["-n", namespace, "port-forward", "pod/main", ":18080", "--address", "127.0.0.1"]
    with kubectl.running(*command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = re.search(rb"127.0.0.1:(\d+)", process.stdout.readline())
        assert told is not None
        for _ in range(20):
            with urllib.request.urlopen(f"http://127.0.0.1:{int(told[1])}/", timeout=60) as answer:
                assert answer.read() == b"served\n"


def test_an_ephemeral_container_looks_into_a_running_pod(kubectl: Kubectl, namespace: str) -> None:
    name = "spdy-look" if kubectl.variables else "look"
    debug = ["debug", "main", "--image=none", "--target=sleeper", "-c", name, "-i", "--quiet", "--"]
    answer = kubectl.run("-n", namespace, *debug, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '")
    told = kubectl.json("-n", namespace, "get", "pod", "main")["status"]["ephemeralContainerStatuses"]
    (status,) = [one for one in told if one["name"] == name]
    assert "sleep 3600" in answer.output + kubectl("-n", namespace, "logs", "main", "-c", name)
    assert "waiting" not in status["state"]


def test_a_node_s_kubelet_and_a_pod_s_web_server_are_reached_through_the_api(kubectl: Kubectl, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/main:18080/proxy/some/page"
    assert kubectl("get", "--raw", path) == "served\n"
    node = kubectl("-n", namespace, "get", "pod", "main", "-o", "jsonpath={.spec.nodeName}")
    assert kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz") == "ok"
