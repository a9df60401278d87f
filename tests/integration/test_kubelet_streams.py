"""exec, attach and port-forward of a kubelet with real processes, by a client of WebSockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
import pytest

from kubecore.kubelet.runtime import host
from tests.support.running_kubelet import Running, running_kubelet, shell

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\xff"
MEGABYTE = 1 << 20
SUCCESS = {"metadata": {}, "status": "Success"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_kubelet(tmp_path) as running:
        yield running


@dataclass
class Client:
    """A WebSocket; `said` are the bytes of each channel so far."""

    socket: aiohttp.ClientWebSocketResponse
    said: dict[int, bytearray] = field(default_factory=dict)

    async def next(self) -> bool:
        """One message more; False at the end."""
        message = await self.socket.receive(timeout=60)
        if message.type is aiohttp.WSMsgType.TEXT:
            channel, data = int(message.data[0]), base64.b64decode(message.data[1:])
        elif message.type is aiohttp.WSMsgType.BINARY:
            channel, data = message.data[0], message.data[1:]
        else:
            assert message.type is not aiohttp.WSMsgType.ERROR, message
            return False
        self.said.setdefault(channel, bytearray()).extend(data)
        return True

    async def until(self, channel: int, word: bytes) -> None:
        while word not in self.said.get(channel, b""):
            assert await self.next(), self.said

    async def end(self) -> None:
        while await self.next():
            pass

    def output(self, channel: int = 1) -> str:
        return self.said.get(channel, b"").decode()

    @property
    def outcome(self) -> Any:
        return orjson.loads(self.said[3])


@asynccontextmanager
async def connected(node: Running, path: str, *, protocol: str = "v5.channel.k8s.io") -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(ssl=node.client_context("kube-apiserver-kubelet-client"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(node.url(path), protocols=[protocol], max_msg_size=0) as socket,
    ):
        assert socket.protocol == protocol
        yield Client(socket)


def executing(*command: str, streams: str = "output error") -> str:
    parameters = [("command", word) for word in command] + [(name, "1") for name in streams.split()]
    return f"/exec/default/pod/main?{urlencode(parameters)}"


@pytest.fixture
async def pod(node: Running) -> Running:
    """A pod named `pod` that only waits."""
    node.pod("pod", shell("exec sleep 3600"), terminationGracePeriodSeconds=0)
    await node.phase("pod", "Running")
    return node


class TestExec:
    @pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
    async def test_stdout_and_stderr_come_apart_and_the_outcome_last(self, pod: Running, protocol: str) -> None:
        async with connected(pod, executing("sh", "-c", "echo out; echo err >&2"), protocol=protocol) as client:
            await client.end()
        assert (client.output(1), client.output(2), client.outcome) == ("out\n", "err\n", SUCCESS)

    async def test_an_exit_code_is_a_status_with_its_cause(self, pod: Running) -> None:
        async with connected(pod, executing("sh", "-c", "exit 42")) as client:
            await client.end()
        assert client.outcome["reason"] == "NonZeroExitCode"
        assert client.outcome["details"] == {"causes": [{"reason": "ExitCode", "message": "42"}]}
        assert client.outcome["message"].endswith("command terminated with exit code 42")

    async def test_a_process_sees_the_end_of_its_stdin_when_the_client_closes_that_alone(self, pod: Running) -> None:
        async with connected(pod, executing("cat", streams="input output")) as client:
            await client.socket.send_bytes(STDIN + b"one ")
            await client.socket.send_bytes(STDIN + b"two")
            await client.socket.send_bytes(CLOSE + STDIN)
            await client.end()
        assert (client.output(), client.outcome) == ("one two", SUCCESS)

    async def test_much_output_comes_whole_though_the_client_is_slow(self, pod: Running) -> None:
        async with connected(pod, executing("head", "-c", str(32 * MEGABYTE), "/dev/zero")) as client:
            await client.next()
            await asyncio.sleep(0.2)
            await client.end()
        assert (len(client.said[1]), client.outcome) == (32 * MEGABYTE, SUCCESS)

    async def test_a_terminal_is_one_and_has_the_size_the_client_says(self, pod: Running) -> None:
        script = "read go; test -t 0 && stty size"
        async with connected(pod, executing("sh", "-c", script, streams="input output tty")) as client:
            await client.socket.send_bytes(RESIZE + orjson.dumps({"Width": 123, "Height": 45}))
            await client.socket.send_bytes(STDIN + b"go\n")
            await client.end()
        assert client.output().splitlines() == ["go", "45 123"]
        assert client.outcome == SUCCESS

    async def test_a_terminal_has_a_name_that_the_container_knows(self, pod: Running) -> None:
        async with connected(pod, executing("tty", streams="input output tty")) as client:
            await client.end()
        assert client.output().startswith("/dev/pts/")
        assert client.outcome == SUCCESS

    async def test_a_terminal_is_hung_up_when_the_client_goes(self, pod: Running, tmp_path: Path) -> None:
        left = tmp_path / "left"
        script = f"trap 'echo hung up > {left}; exit' HUP; echo there; while :; do sleep 0.05; done"
        async with connected(pod, executing("sh", "-c", script, streams="input output tty")) as client:
            await client.until(1, b"there")
        async with asyncio.timeout(60):
            while not left.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def test_what_cannot_be_executed_is_told_in_the_session(self, pod: Running) -> None:
        async with connected(pod, executing("no-such-program")) as client:
            await client.end()
        assert client.outcome["reason"] == "InternalError"
        assert 'exec: "no-such-program": executable file not found in $PATH' in client.outcome["message"]

    async def test_processes_left_behind_keep_no_session_open(self, pod: Running) -> None:
        async with connected(pod, executing("sh", "-c", "sleep 600 & echo done")) as client:
            await client.end()
        assert (client.output(), client.outcome) == ("done\n", SUCCESS)

    async def test_a_session_ends_with_its_pod(self, pod: Running) -> None:
        async with connected(pod, executing("sh", "-c", "echo there; exec sleep 3600")) as client:
            await client.until(1, b"there")
            pod.api.remove("pods", "pod")
            await client.end()
        assert client.outcome["details"]["causes"][0]["message"] == "137"

    async def test_a_container_that_does_not_run_is_not_found(self, pod: Running) -> None:
        path = "/exec/default/pod/other?command=true&output=1"
        async with connected(pod, path) as client:
            await client.end()
        assert client.outcome["message"] == (
            'Internal error occurred: unable to upgrade connection: container not found ("other")'
        )
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connected(pod, path, protocol="v4.channel.k8s.io"):
                pass
        assert caught.value.status == 500

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/exec/default/pod/main?command=true", 400),
            ("/exec/default/nobody/main?command=true&output=1", 404),
            ("/exec/default/pod/main", 400),
        ],
    )
    async def test_what_is_asked_wrongly_switches_no_protocol(self, pod: Running, path: str, status: int) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connected(pod, path, protocol="v4.channel.k8s.io"):
                pass
        assert caught.value.status == status


class TestAttach:
    PATH = "/attach/default/interactive/main?input=1&output=1&error=1"

    async def test_a_client_talks_with_the_container_and_the_log_has_it_too(self, node: Running) -> None:
        node.pod("interactive", shell("read line; echo said $line", stdin=True, stdinOnce=True))
        await node.phase("interactive", "Running")
        async with connected(node, self.PATH) as client:
            await client.socket.send_bytes(STDIN + b"hello\n")
            await client.end()
        assert (client.output(), client.outcome) == ("said hello\n", SUCCESS)
        assert (await node.get("/containerLogs/default/interactive/main"))[1] == "said hello\n"

    async def test_the_first_client_gets_what_was_said_before_it_came(self, node: Running) -> None:
        """A command may be done with all that it has to say before anybody can be there."""
        node.pod("interactive", shell("echo early; echo badly >&2; read go; echo late; read go", stdin=True))
        await node.phase("interactive", "Running")
        await node.said("interactive", "early")
        await node.said("interactive", "badly")
        async with connected(node, self.PATH) as client:
            await client.until(1, b"early\n")
            await client.until(2, b"badly\n")
            await client.socket.send_bytes(STDIN + b"go\n")
            await client.until(1, b"early\nlate\n")
        async with connected(node, self.PATH) as client:
            await client.socket.send_bytes(STDIN + b"go\n")
            await client.end()
        assert (client.output(), client.outcome) == ("", SUCCESS)

    async def test_who_comes_later_gets_what_is_said_from_then_on(
        self, node: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host, "_CLIENT_COMES_WITHIN", timedelta(0))
        node.pod("interactive", shell("echo early; read go; echo late", stdin=True))
        await node.phase("interactive", "Running")
        await node.said("interactive", "early")
        async with connected(node, self.PATH) as client:
            await client.socket.send_bytes(STDIN + b"go\n")
            await client.end()
        assert client.output() == "late\n"

    async def test_stdin_that_is_there_once_ends_with_the_first_client(self, node: Running) -> None:
        node.pod("interactive", shell("exec cat", stdin=True, stdinOnce=True))
        await node.phase("interactive", "Running")
        async with connected(node, self.PATH) as client:
            await client.socket.send_bytes(STDIN + b"hello")
            await client.until(1, b"hello")
        await node.phase("interactive", "Succeeded")

    async def test_stdin_goes_on_for_further_clients_otherwise(self, node: Running) -> None:
        node.pod("interactive", shell("read one; echo $one; read two; echo $two", stdin=True))
        await node.phase("interactive", "Running")
        for word in (b"one", b"two"):
            async with connected(node, self.PATH) as client:
                await client.socket.send_bytes(STDIN + word + b"\n")
                await client.until(1, word)
        await node.phase("interactive", "Succeeded")

    async def test_a_container_has_a_terminal_if_it_asked_for_one(self, node: Running) -> None:
        node.pod("interactive", shell("read go; test -t 1 && stty size", stdin=True, tty=True))
        await node.phase("interactive", "Running")
        async with connected(node, "/attach/default/interactive/main?input=1&output=1&tty=1") as client:
            await client.socket.send_bytes(RESIZE + orjson.dumps({"Width": 99, "Height": 33}))
            await client.socket.send_bytes(STDIN + b"go\n")
            await client.end()
        assert client.output().splitlines() == ["go", "33 99"]

    async def test_a_container_waits_for_a_client_that_does_not_read(self, node: Running) -> None:
        node.pod("interactive", shell(f"read go; head -c {8 * MEGABYTE} /dev/zero | tr '\\0' x", stdin=True))
        await node.phase("interactive", "Running")
        async with connected(node, self.PATH) as client:
            await client.socket.send_bytes(STDIN + b"go\n")
            await client.next()
            await asyncio.sleep(0.2)
            await client.end()
        assert (len(client.said[1]), client.outcome) == (8 * MEGABYTE, SUCCESS)


ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print("port", server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        while piece := connection.recv(65536):
            connection.sendall(piece)
"""


class TestPortForward:
    async def port(self, node: Running) -> int:
        node.pod("echo", {**shell(""), "command": ["python3", "-u", "-c", ECHO, "$(KUBECORE_POD_IP)"]})
        await node.phase("echo", "Running")
        await node.said("echo", "port")
        return int((await node.get("/containerLogs/default/echo/main"))[1].split()[1])

    @pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
    async def test_bytes_go_to_the_pod_and_back(self, node: Running, protocol: str) -> None:
        port = await self.port(node)
        async with connected(node, f"/portForward/default/echo?port={port}", protocol=protocol) as client:
            first = port.to_bytes(2, "little")
            await client.until(1, first)
            if protocol.startswith("v4.base64"):
                await client.socket.send_str("0" + base64.b64encode(b"hello").decode())
            else:
                await client.socket.send_bytes(b"\x00hello")
            await client.until(0, first + b"hello")

    async def test_a_port_where_nobody_listens_is_told_in_its_error_channel(self, node: Running) -> None:
        await self.port(node)
        async with connected(node, "/portForward/default/echo?port=1", protocol="v4.channel.k8s.io") as client:
            await client.end()
        assert b"error forwarding port 1 to pod echo_default" in client.said[1]
        assert b"connection refused" in client.said[1]

    async def test_ports_that_are_none_switch_no_protocol(self, node: Running) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connected(node, "/portForward/default/echo?port=70000", protocol="v4.channel.k8s.io"):
                pass
        assert caught.value.status == 400
