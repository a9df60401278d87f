"""The userspace forwarder beside haproxy, each on one core: bulk (gigabits per CPU second), 1 KB ping-pong (CPU per
round trip) and a new connection for each 1 KB (CPU per connection). Clients and servers of both share the other core.
haproxy runs with and without splicing.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _load import Load
from _report import Target, interleaved, median, ratios, row, spread
from _servers import LOAD_CPU, SERVER_CPU, Server, free_port, pinned, program, require_optimised_build, running, scratch

STREAMS, BULK_SECONDS = 4, 2.0
FRESH = 3_000
CONNECTIONS, ROUND_TRIPS, MESSAGE = 32, 40_000, 1024
BULK = Target("Gb per CPU-s at least x 1.4", 1.4, "at least")
PING = Target("CPU at most x 1", 1.0, "at most")
HAPROXIES = (("haproxy", ""), ("haproxy, splice-auto", "option splice-auto"))
_CONFIGURATION = """
global
    maxconn 4096
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {option}
listen bench
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{to}
"""


@contextlib.contextmanager
def forwarder(to: int) -> Iterator[Server]:
    require_optimised_build()
    port, script = free_port(), Path(__file__).with_name("_forwarder.py")
    with scratch("forwarder-bench-") as folder:
        line = [sys.executable, str(script), str(port), str(to)]
        with running(pinned(SERVER_CPU, *line), port, Path(folder)) as server:
            yield server


@contextlib.contextmanager
def haproxy(to: int, option: str = "") -> Iterator[Server]:
    port = free_port()
    with scratch("haproxy-bench-") as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(_CONFIGURATION.format(option=option, port=port, to=to))
        line = [program("haproxy"), "-db", "-q", "-f", str(config)]
        with running(pinned(SERVER_CPU, *line), port, Path(folder)) as server:
            yield server


@dataclass
class Pairs:
    """Connections through a proxy: the client's end and the server's end of each."""

    ends: list[tuple[socket.socket, socket.socket]]

    @classmethod
    @contextlib.contextmanager
    def through(cls, proxy: Server, listener: socket.socket, count: int) -> Iterator[Pairs]:
        ends = []
        try:
            for _ in range(count):
                client = socket.create_connection(("127.0.0.1", proxy.port))
                # The pair is told by a first word: haproxy checks its port by connecting, too.
                client.sendall(b"?")
                server, _ = listener.accept()
                assert server.recv(1) == b"?"
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    one.setblocking(False)
                ends.append((client, server))
            yield cls(ends)
        finally:
            for client, server in ends:
                client.close()
                server.close()


def bulk(proxy: Server, listener: socket.socket) -> Load:
    """Servers send as fast as clients read; an operation is a megabit."""
    data, buffer = memoryview(bytes(1 << 18)), bytearray(1 << 20)
    with Pairs.through(proxy, listener, STREAMS) as pairs:
        poll = select.epoll()
        for client, server in pairs.ends:
            poll.register(client.fileno(), select.EPOLLIN)
            poll.register(server.fileno(), select.EPOLLOUT)
        clients = {client.fileno(): client for client, _ in pairs.ends}
        servers = {server.fileno(): server for _, server in pairs.ends}

        def move(seconds: float) -> int:
            received, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                for descriptor, _ in poll.poll(1):
                    with contextlib.suppress(BlockingIOError):
                        if descriptor in clients:
                            received += clients[descriptor].recv_into(buffer)
                        else:
                            servers[descriptor].send(data)
            return received

        move(0.3)
        cpu, started = proxy.cpu_seconds(), time.monotonic()
        moved = move(BULK_SECONDS)
        load = Load(moved * 8 // 10**6, time.monotonic() - started, proxy.cpu_seconds() - cpu)
        poll.close()
        return load


def ping_pong(proxy: Server, listener: socket.socket) -> Load:
    """Each client sends 1 KB, its server answers 1 KB, and so on: one message of each connection under way."""
    message, buffer = bytes(MESSAGE), bytearray(MESSAGE)
    with Pairs.through(proxy, listener, CONNECTIONS) as pairs:
        poll = select.epoll()
        left: dict[int, int] = {}
        by_descriptor, clients = {}, set()
        for client, server in pairs.ends:
            for one in (client, server):
                poll.register(one.fileno(), select.EPOLLIN)
                by_descriptor[one.fileno()], left[one.fileno()] = one, MESSAGE
            clients.add(client.fileno())
        cpu, started, done = proxy.cpu_seconds(), time.monotonic(), 0
        for client, _ in pairs.ends:
            client.send(message)
        while done < ROUND_TRIPS:
            for descriptor, _ in poll.poll(5):
                one = by_descriptor[descriptor]
                left[descriptor] -= one.recv_into(buffer, left[descriptor])
                if left[descriptor] == 0:
                    left[descriptor] = MESSAGE
                    done += descriptor in clients
                    one.send(message)
        load = Load(done, time.monotonic() - started, proxy.cpu_seconds() - cpu)
        poll.close()
        return load


def fresh(proxy: Server, listener: socket.socket) -> Load:
    """One connection after another, each with 1 KB there and back."""
    message, buffer = bytes(MESSAGE), bytearray(MESSAGE)

    def pass_on(sender: socket.socket, receiver: socket.socket) -> None:
        sender.sendall(message)
        left = MESSAGE
        while left:
            left -= receiver.recv_into(buffer, left)

    cpu, started = proxy.cpu_seconds(), time.monotonic()
    for _ in range(FRESH):
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(b"?")
            server, _ = listener.accept()
            with server:
                assert server.recv(1) == b"?"
                pass_on(client, server)
                pass_on(server, client)
    return Load(FRESH, time.monotonic() - started, proxy.cpu_seconds() - cpu)


def told_bulk(rounds: list[Load]) -> str:
    each = [load.per_core / 1000 for load in rounds]
    return f"{median([load.rate for load in rounds]) / 1000:.1f} Gb/s, {median(each):.1f} Gb per CPU-s"


def told_ping(rounds: list[Load]) -> str:
    return f"{median([load.rate for load in rounds]):,.0f}/s, {median([load.cpu_us for load in rounds]):.2f} us"


def beside(listener: socket.socket, name: str, option: str) -> None:
    to = listener.getsockname()[1]
    with forwarder(to) as ours, haproxy(to, option) as peer:
        drain(listener)
        a, b = interleaved(lambda: bulk(ours, listener), lambda: bulk(peer, listener))
        found = ratios(a, b, "per_core")
        told, verdict = f"Gb per CPU-s x {spread(found)}", BULK.verdict(median(found))
        row("tcp-proxy bulk", told_bulk(a), f"{name}: {told_bulk(b)}", told, BULK.text, verdict)
        a, b = interleaved(lambda: ping_pong(ours, listener), lambda: ping_pong(peer, listener))
        found = ratios(a, b, "cpu_us")
        told, verdict = f"CPU x {spread(found)}", PING.verdict(median(found))
        row("tcp-proxy 1 KB ping-pong", told_ping(a), f"{name}: {told_ping(b)}", told, PING.text, verdict)
        a, b = interleaved(lambda: fresh(ours, listener), lambda: fresh(peer, listener))
        found = ratios(a, b, "cpu_us")
        told, verdict = f"CPU x {spread(found)}", PING.verdict(median(found))
        row("tcp-proxy new connection, 1 KB", told_ping(a), f"{name}: {told_ping(b)}", told, PING.text, verdict)


def drain(listener: socket.socket) -> None:
    """Closes what the wait for a listening proxy left behind."""
    time.sleep(0.3)
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
    listener.setblocking(True)


def main() -> None:
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        for name, option in HAPROXIES:
            beside(listener, name, option)


if __name__ == "__main__":
    main()
