"""The official and the popular Python client libraries, unmodified: exec, attach and port-forward."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, make_namespace
from tests.support.process import RunningCluster
from tests.support.streamed_pod import STREAMED

pytestmark = [pytest.mark.slow]

NAME, NAMESPACE = "streamed", "client-streams"
BOTH = ["sh", "-c", "echo out; echo err >&2; exit 7"]


@pytest.fixture(scope="module", autouse=True)
def _pod(kubectl: Kubectl) -> Iterator[None]:
    make_namespace(kubectl, NAMESPACE)
    kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=STREAMED)
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=180s")
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def official(cluster: RunningCluster) -> Any:
    import kubernetes as k8s

    return k8s.client.CoreV1Api(k8s.config.new_client_from_config(str(cluster.kubeconfig)))


def executed(official: Any, command: list[str], **options: Any) -> Any:
    from kubernetes.stream import stream

    wanted = {"stdout": True, "stderr": True, "stdin": False, "tty": False, **options}
    return stream(official.connect_get_namespaced_pod_exec, NAME, NAMESPACE, command=command, **wanted)


def test_kubernetes_has_a_command_s_output_errors_and_exit_code(official: Any) -> None:
    session = executed(official, BOTH, _preload_content=False)
    session.run_forever(timeout=60)
    assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("out\n", "err\n", 7)
    assert executed(official, ["echo", "all at once"]) == "all at once\n"


def test_kubernetes_sends_stdin_and_bytes_come_back_unchanged(official: Any) -> None:
    data = os.urandom(3_000_000)
    command = ["sh", "-c", f"head -c {len(data)} | sha256sum"]
    session = executed(official, command, stdin=True, binary=True, _preload_content=False)
    for start in range(0, len(data), 100_000):
        session.write_stdin(data[start : start + 100_000])
    session.run_forever(timeout=60)
    assert session.read_stdout().split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_kubernetes_has_a_terminal_of_the_size_it_says(official: Any) -> None:
    from kubernetes.stream.ws_client import RESIZE_CHANNEL

    script = "until [ \"$(stty size)\" = '41 132' ]; do sleep 0.05; done; tty > /dev/null && stty size"
    session = executed(official, ["sh", "-c", script], stdin=True, tty=True, _preload_content=False)
    session.write_channel(RESIZE_CHANNEL, '{"Height": 41, "Width": 132}')
    session.run_forever(timeout=60)
    assert session.read_stdout().strip() == "41 132"


def test_kubernetes_is_told_what_cannot_be_executed(official: Any) -> None:
    from kubernetes.client import ApiException
    from kubernetes.stream.ws_client import ERROR_CHANNEL

    session = executed(official, ["no-such-program"], _preload_content=False)
    session.run_forever(timeout=60)
    told = json.loads(session.read_channel(ERROR_CHANNEL))
    assert told["message"].endswith('exec: "no-such-program": executable file not found in $PATH')
    with pytest.raises(ApiException) as refused:
        executed(official, ["true"], container="none")
    assert "Handshake status 400 Bad Request" in refused.value.reason
    assert f"container none is not valid for pod {NAME}" in refused.value.reason


def test_kubernetes_forwards_ports(official: Any) -> None:
    from kubernetes.stream import portforward

    forwarded = portforward(official.connect_get_namespaced_pod_portforward, NAME, NAMESPACE, ports="18080,18081")
    assert answer_through(forwarded.socket(18080)) == b"served\n"
    closed = forwarded.socket(18081)
    closed.setblocking(True)
    assert closed.recv(1) == b""
    assert "connection refused" in forwarded.error(18081)
    assert forwarded.error(18080) is None


def answer_through(connected: socket.socket) -> bytes:
    connected.setblocking(True)
    client = http.client.HTTPConnection("pod")
    client.sock = connected
    client.request("GET", "/")
    return client.getresponse().read()


async def test_kubernetes_asyncio_has_a_command_s_output_errors_and_exit_code(cluster: RunningCluster) -> None:
    from kubernetes_asyncio import client, config
    from kubernetes_asyncio.stream import WsApiClient
    from kubernetes_asyncio.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDOUT_CHANNEL

    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(cluster.kubeconfig), client_configuration=configuration)
    async with WsApiClient(configuration) as connection:
        api = client.CoreV1Api(connection)
        wanted = {"stdout": True, "stderr": True, "stdin": False, "tty": False, "_preload_content": False}
        said = dict.fromkeys((STDOUT_CHANNEL, STDERR_CHANNEL, ERROR_CHANNEL), "")
        async with await api.connect_get_namespaced_pod_exec(NAME, NAMESPACE, command=BOTH, **wanted) as session:
            async for message in session:
                said[message.data[0]] += message.data[1:].decode()
        assert (said[STDOUT_CHANNEL], said[STDERR_CHANNEL]) == ("out\n", "err\n")
        assert connection.parse_error_data(said[ERROR_CHANNEL]) == 7


async def test_kr8s_has_a_command_s_output_and_forwards_ports(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kr8s.asyncio

    monkeypatch.setenv("HOME", str(tmp_path))
    api = await kr8s.asyncio.api(kubeconfig=str(cluster.kubeconfig))
    pod = await kr8s.asyncio.objects.Pod.get(NAME, namespace=NAMESPACE, api=api)
    done = await pod.exec(BOTH, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
    async with pod.portforward(18080) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 60)).endswith(b"\r\n\r\nserved\n")
        writer.close()
