"""What a Service costs where the kernel carries it: from pod to pod by way of the node, directly and through a cluster
IP of mode nftables, with 10,000 other Services beside it. Bulk, new connections, UDP there and back, per CPU second.

Client and server share one process here, whose CPU is all there is: the kernel's part runs in their system calls. Needs
root; runs in network namespaces of its own.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _load import Load
from _report import Target, interleaved, median, ratios, row, spread

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for tests.support: what is measured is installed

from svc_sync import SERVICES, objects

from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.virtual_servers import NodeView, virtual_servers
from tests.support.net_world import World, make_world

DIRECT, PORT = "10.244.0.12", 9000
VIRTUAL = "10.100.0.1"
BULK_SECONDS, CONNECTIONS, QUESTIONS = 2.0, 2_000, 20_000
TARGET = Target("at least x 0.8 of direct", 0.8, "at least")


@contextlib.contextmanager
def served(world: World) -> Iterator[None]:
    """The Service and its neighbours in the node's tables; the server in the second pod."""
    node = NodeView("here")
    config = ProxyConfig(
        mode="nftables", network_mode="netns", address_link=world.BRIDGE, pod_ranges=("10.244.0.0/16",)
    )
    with world.node.here():
        plane = make_data_plane(config, None)
        for number in range(SERVICES):
            plane.apply(f"bench/service-{number}", virtual_servers(*objects(number), node))
        service, slices = objects(SERVICES, 1, ip=VIRTUAL)
        service["spec"]["ports"][0]["port"] = PORT
        slices[0]["ports"] = [{"name": "http", "protocol": "TCP", "port": PORT}]
        slices[0]["endpoints"][0]["addresses"] = [DIRECT]
        udp = {"name": "udp", "protocol": "UDP", "port": PORT}
        service["spec"]["ports"] = [*service["spec"]["ports"], udp]
        slices[0]["ports"].append(udp)
        plane.apply("bench/served", virtual_servers(service, slices, node))
        plane.commit()
    try:
        yield
    finally:
        with world.node.here():
            plane.close()


def bulk(world: World, listener: socket.socket, address: str) -> Load:
    """An operation is a megabit."""
    with world.one.socket(address) as client:
        client.connect((address, PORT))
        server, _ = listener.accept()
        ended = threading.Event()

        def send() -> None:
            data = bytes(1 << 18)
            with server, contextlib.suppress(OSError):
                while not ended.is_set():
                    server.sendall(data)

        sender = threading.Thread(target=send)
        sender.start()
        buffer, received = bytearray(1 << 20), 0
        cpu, started = time.process_time(), time.monotonic()
        while time.monotonic() - started < BULK_SECONDS:
            received += client.recv_into(buffer)
        load = Load(received * 8 // 10**6, time.monotonic() - started, time.process_time() - cpu)
        ended.set()
        client.shutdown(socket.SHUT_RDWR)
    sender.join()
    return load


def connections(world: World, listener: socket.socket, address: str) -> Load:
    """Opened and closed, one after the other."""
    with world.one.here():
        cpu, started = time.process_time(), time.monotonic()
        for _ in range(CONNECTIONS):
            with socket.create_connection((address, PORT)):
                listener.accept()[0].close()
        return Load(CONNECTIONS, time.monotonic() - started, time.process_time() - cpu)


def questions(world: World, packets: socket.socket, address: str) -> Load:
    """There and back, of one client."""
    with world.one.socket(address, socket.SOCK_DGRAM) as client:
        client.connect((address, PORT))
        cpu, started = time.process_time(), time.monotonic()
        for _ in range(QUESTIONS):
            client.send(b"question")
            _, peer = packets.recvfrom(100)
            packets.sendto(b"answer", peer)
            client.recv(100)
        return Load(QUESTIONS, time.monotonic() - started, time.process_time() - cpu)


def compare(name: str, measure: Callable[[str], Load], unit: str, scale: float) -> None:
    ours, direct = interleaved(lambda: measure(VIRTUAL), lambda: measure(DIRECT))
    kept = ratios(ours, direct, "per_core")
    told = [f"{median([one.per_core for one in side]) / scale:,.3g} {unit} per CPU-s" for side in (ours, direct)]
    row(name, told[0], f"direct: {told[1]}", f"x {spread(kept)}", TARGET.text, TARGET.verdict(median(kept)))


def main() -> None:
    world = make_world()
    with world.two.here(), socket.create_server((DIRECT, PORT), backlog=64) as listener:
        packets = world.two.socket(DIRECT, socket.SOCK_DGRAM)
        packets.bind((DIRECT, PORT))
        with served(world):
            compare("svc-data: bulk", lambda address: bulk(world, listener, address), "Gb", 1000)
            compare("svc-data: new connections", lambda address: connections(world, listener, address), "k", 1000)
            compare("svc-data: UDP there and back", lambda address: questions(world, packets, address), "k", 1000)
        packets.close()
    world.close()


if __name__ == "__main__":
    main()
