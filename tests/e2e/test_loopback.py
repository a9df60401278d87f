"""`kubecore up` by a user without rights in loopback mode: what is had there alone, by the host's own addresses."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking import answer_at
from tests.support.ports import free_port
from tests.support.unprivileged import NoSuchUser, user
from tests.support.unprivileged_cluster import LOOPBACK, Running, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST_FREE_PORT = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Running]:
    try:
        with user() as somebody, up(somebody, "cluster", *LOOPBACK) as running:
            running.example()
            yield running
    except NoSuchUser as error:
        pytest.skip(str(error))


def test_the_front_end_answers_at_its_node_port_and_its_cluster_ip(cluster: Running) -> None:
    port = cluster.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
    cluster_ip = cluster.value("{.spec.clusterIP}", "-n", "web", "service", "frontend")
    for where in (f"{cluster.node_address}:{port}", f"127.0.0.1:{port}", f"{cluster_ip}:8080"):
        assert "heard: hello from the back end, by pod backend-" in answer_at(f"http://{where}/")


def test_everything_a_cluster_serves_lies_in_its_own_part_of_127(cluster: Running) -> None:
    services = cluster.value("{.items[*].spec.clusterIP}", "services", "-A").split()
    pods = cluster.value("{.items[*].status.podIP}", "pods", "-n", "web").split()
    range_ = ipaddress.IPv4Network(f"{services[0].rsplit('.', 1)[0]}.0/21", strict=False)
    assert range_.subnet_of(ipaddress.IPv4Network("127.96.0.0/16"))
    assert all(ipaddress.IPv4Address(one) in range_ for one in services)
    assert len(pods) == len(set(pods)) == 5


@pytest.mark.skipif(FIRST_FREE_PORT <= 80, reason="everybody may bind low ports here")
def test_a_low_port_of_a_service_is_a_clear_event_and_its_other_ports_work(cluster: Running) -> None:
    cluster.kubectl("-n", "web", "expose", "deployment", "backend", "--name=low", "--port=80", "--target-port=8080")
    patch = (
        '{"spec":{"ports":[{"name":"low","port":80,"targetPort":8080},{"name":"high","port":8888,"targetPort":8080}]}}'
    )
    cluster.kubectl("-n", "web", "patch", "service", "low", "-p", patch)
    told = cluster.kubectl.event("web", "FailedToListen")
    assert told["name"] == "low"
    assert told["message"].endswith(
        f":80: Permission denied; ports below {FIRST_FREE_PORT} need root or CAP_NET_BIND_SERVICE here"
    )
    address = cluster.value("{.spec.clusterIP}", "-n", "web", "service", "low")
    assert answer_at(f"http://{address}:8888/") == "who are you?\n"


HOST_PORTS = """
import os, socket, threading

own = os.environ["KUBECORE_POD_IP"]
packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
packets.bind((own, {packets}))

def echo():
    while True:
        packet, sender = packets.recvfrom(100)
        packets.sendto(b"packet " + packet, sender)

def serve(port):
    listener = socket.create_server((own, port))
    while True:
        client, _ = listener.accept()
        client.sendall(str(port).encode())
        client.close()

threading.Thread(target=echo, daemon=True).start()
threading.Thread(target=serve, args=({same},), daemon=True).start()
serve({other})
"""


def test_host_ports_lead_to_a_pod_which_may_have_the_same_at_its_own_address(cluster: Running) -> None:
    same, other, led, packets, led_packets = (free_port() for _ in range(5))
    ports = [
        {"containerPort": other, "hostPort": led},
        {"containerPort": same, "hostPort": same},
        {"containerPort": packets, "hostPort": led_packets, "protocol": "UDP"},
        {"containerPort": other, "hostPort": 80},
    ]
    script = HOST_PORTS.format(packets=packets, same=same, other=other)
    container = {"name": "main", "image": "none", "command": ["python3", "-c", script], "ports": ports}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host-ports"}, "spec": {"containers": [container]}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod", "host-ports", "--for=condition=Ready", "--timeout=180s")
    low = ("{.items[*].message}", "events", "--field-selector=reason=HostPortNotServed")
    assert answer(cluster.node_address, led) == str(other).encode()
    assert answer(cluster.node_address, same) == str(same).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(30)
        asking.connect((cluster.node_address, led_packets))
        asking.send(b"here")
        assert asking.recv(100) == b"packet here"
    if FIRST_FREE_PORT > 80:
        needs = f"ports below {FIRST_FREE_PORT} need root or CAP_NET_BIND_SERVICE here"
        deadline = time.monotonic() + 60
        while needs not in (told := cluster.value(*low)):
            assert time.monotonic() < deadline, told
        assert "host port TCP 80: cannot listen on" in told
    cluster.kubectl("delete", "pod", "host-ports", "--grace-period=1", "--wait", "--timeout=180s")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((cluster.node_address, led), timeout=30)


def answer(address: str, port: int) -> bytes:
    """What is said first; who comes before the process listens, or is seen to, comes again."""
    between = threading.Event()
    for _ in range(1200):
        try:
            with socket.create_connection((address, port), timeout=30) as connection:
                if said := connection.recv(100):
                    return said
        except OSError:
            pass
        between.wait(0.1)
    pytest.fail(f"nobody answers at {address}:{port}")
