"""Mode nftables: Services that ask for what the kernel's tables have not, which the forwarder carries."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from kubecore.proxy.modes import unavailable
from tests.support.net_world import SECONDS, Namespace, World, make_world
from tests.support.process import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

# In a process of its own: the threads that connect to endpoints are on the host where the first of them was started.
PROXY = """
import sys
from dataclasses import replace
from kubecore.netlink import Netlink
from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.virtual_servers import VirtualServer

pods = ("10.244.0.0/16", "fd44::/64")
plane = make_data_plane(
    ProxyConfig(
        mode="nftables",
        network_mode="netns",
        address_link="kc-test",
        table="kubecore-test",
        pod_ranges=pods,
        service_ranges=("10.96.0.0/16",),
    ),
    None,
    monotonic=lambda: now,
)
now = 0.0
ends = (("10.244.0.11", 8080), ("10.244.0.12", 8080))
forwarded = [
    VirtualServer(protocol, address, port, purpose, "rr", None, ends, anywhere=True, forwarded=True)
    for protocol in ("TCP", "UDP")
    for address, port, purpose in (("10.96.0.1", 80, "ClusterIP"), ("0.0.0.0", 30080, "NodePort"))
]
echo = replace(forwarded[0], address="10.96.0.2", endpoints=(("10.244.0.11", 8081),))
steady = [one for one in forwarded if one.protocol == "TCP"]
asked = {
    "forwarded": ("default/web", forwarded),
    "kernel": ("default/web", [replace(one, forwarded=False) for one in forwarded]),
    "nobody": ("default/web", []),
    "echo forwarded": ("default/echo", [echo]),
    "echo kernel": ("default/echo", [replace(echo, forwarded=False)]),
    "steady forwarded": ("default/steady", steady),
    "steady kernel": ("default/steady", [replace(one, forwarded=False) for one in steady]),
}
service = ""
for line in sys.stdin:
    word = line.strip()
    if word == "later":
        now += 10.0
    else:
        service, servers = asked[word]
        problems, _ = plane.apply(service, servers)
        assert problems == [], problems
    plane.commit()
    with Netlink() as netlink:
        held = [str(one) for one in netlink.locals(netlink.link_index("kc-test"))]
    schedulers = sorted({row["scheduler"] for row in plane.rows()}) if service == "default/web" else []
    print(schedulers, held, flush=True)
plane.close()
"""
HERE, GONE = "['10.96.0.1']", "[]"
CLUSTER_IP, ECHO_IP, NODE = "10.96.0.1", "10.96.0.2", "10.244.0.1"
CHANGES = 20


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
    world.serve(world.one, "10.244.0.11", 8080, "one")
    world.serve(world.two, "10.244.0.12", 8080, "two")
    yield world
    world.close()


def in_turn(world: World, address: str, port: int) -> bool:
    """Whether pods and the node are led to one endpoint after the other, and over UDP to one of them."""
    for where in (world.one, world.node):
        told = [world.ask(where, address, port).split()[0] for _ in range(6)]
        if told not in (["one", "two"] * 3, ["two", "one"] * 3):
            return False
        if world.ask_udp(where, address, port).split()[0] not in ("one", "two"):
            return False
    return True


class Proxy:
    """Of the node of a world."""

    def __init__(self, world: World) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with world.node.here():
            self.process = subprocess.Popen([sys.executable, "-c", PROXY], text=True, cwd=ROOT, **pipes)  # type: ignore[call-overload]

    def told(self, word: str) -> str:
        """Schedulers, and the addresses that are held for the forwarder, once it is in effect."""
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline()).strip()


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    made = Proxy(world)
    with made.process:
        yield made
        made.process.kill()


def test_they_are_balanced_as_they_ask_and_may_change_between_both(world: World, proxy: Proxy) -> None:
    assert proxy.told("forwarded") == f"['rr'] {HERE}"
    assert in_turn(world, CLUSTER_IP, 80)
    assert in_turn(world, NODE, 30080)
    assert world.ask(world.one, CLUSTER_IP, 81) == "refused"
    assert proxy.told("kernel") == f"['random'] {HERE}"
    assert world.ask(world.one, CLUSTER_IP, 80).split()[0] in ("one", "two")
    assert proxy.told("forwarded") == f"['rr'] {HERE}"
    assert in_turn(world, CLUSTER_IP, 80)
    assert proxy.told("nobody") == f"[] {GONE}"
    assert world.ask(world.node, CLUSTER_IP, 80, within=1) in ("silence", "refused")


def test_no_request_is_lost_while_they_change_between_both(world: World, proxy: Proxy) -> None:
    proxy.told("steady forwarded")
    done = threading.Event()
    clients = [(world.one, CLUSTER_IP, 80), (world.client, CLUSTER_IP, 80), (world.client, "192.0.2.1", 30080)]
    answers: list[list[str]] = [[] for _ in clients]

    def ask(told: list[str], where: Namespace, address: str, port: int) -> None:
        while not done.is_set():
            told.append(world.ask(where, address, port).partition(" ")[0])

    threads = [threading.Thread(target=ask, args=(told, *one)) for told, one in zip(answers, clients, strict=True)]
    for one in threads:
        one.start()
    for _ in range(CHANGES):
        for word in ("steady kernel", "later", "steady forwarded"):
            proxy.told(word)
            # the second of each has begun after the change: before time goes on, nobody is left from before
            seen = [len(told) for told in answers]
            while any(len(told) < before + 2 for told, before in zip(answers, seen, strict=True)):
                pass
    done.set()
    for one in threads:
        one.join()
    assert {name for told in answers for name in told} == {"one", "two"}


def test_who_has_heard_of_the_forwarder_alone_is_connected_by_it(world: World, proxy: Proxy) -> None:
    """The last step of his handshake, and his request with it, come after the kernel has taken the Service over."""
    proxy.told("forwarded")
    last_step = f"ip daddr {CLUSTER_IP} tcp flags & (syn | ack) == ack drop"
    with world.client.here():
        text = f"table inet late {{\nchain output {{ type filter hook output priority 0; {last_step}; }}\n}}\n"
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    with world.client.socket(CLUSTER_IP) as late:
        late.connect((CLUSTER_IP, 80))
        assert proxy.told("kernel") == f"['random'] {HERE}"
        with world.client.here():
            subprocess.run(["nft", "delete", "table", "inet", "late"], check=True)
        late.sendall(b"hello")
        assert late.recv(100).split()[0] in (b"one", b"two")


def test_who_is_connected_stays_so_until_he_goes_and_the_forwarder_gives_the_address_back(
    world: World, proxy: Proxy
) -> None:
    with world.one.socket("10.244.0.11") as listener, world.client.socket(ECHO_IP) as client:
        listener.bind(("10.244.0.11", 8081))
        listener.listen()
        proxy.told("echo forwarded")
        client.connect((ECHO_IP, 80))
        with listener.accept()[0] as accepted:
            accepted.settimeout(SECONDS)
            proxy.told("echo kernel")
            assert proxy.told("later") == f"[] ['{ECHO_IP}']"
            client.sendall(b"still here")
            assert accepted.recv(100) == b"still here"
            client.close()
            assert accepted.recv(100) == b""
        while proxy.told("later") != f"[] {GONE}":
            pass  # its task ends with both ends of the connection
        with world.two.socket(ECHO_IP) as other:
            other.connect((ECHO_IP, 80))
            with listener.accept()[0] as accepted:
                assert accepted.getpeername()[0] == "10.244.0.12"  # the forwarder's would be the node's
