"""How soon a Service is live in mode userspace, beside 10,000 others: from the API server's answer until a client is
served through the cluster IP. A new Service whose endpoints are there; one that is there and gets other endpoints. And,
while clients connect without a pause: when the last of them came to an endpoint that is gone; and, while endpoints
change a thousand times a second, how late they came to gone ones, and how many were not served. No peer: the figures
have targets of their own.

The client asks again as soon as it is refused, so the figure has the time of a connection in it. Needs root, and a
kernel that leads all Services to one listener (or a limit of 30,000 open files); runs in a network namespace of its
own.
"""

from __future__ import annotations

import ipaddress
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from _report import Target, row
from _servers import Server, kubecore

# Behind the kubecore that is measured.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from kubecore.netlink import Netlink
from tests.support.net_world import Namespace

HOST = "192.0.2.1"
SERVICES = 10_000
CLIENTS, EVENTS, LONGEST_SECONDS = 8, 200, 60
ASKING, CHANGING, CHANGING_SECONDS, QUIET_SECONDS = 4, 4, 10.0, 0.1
COMING, CHANGES_PER_SECOND = [f"192.0.2.{number}" for number in range(101, 201)], 1000
LIVE = Target("p99 <= 10 ms", 10.0, "at most")
GONE = Target("p99 <= 50 ms", 50.0, "at most")
NONE_LOST = Target("none lost", 0.0, "at most")
CHANGED = Target("1,000 changes/s", 0.99 * CHANGES_PER_SECOND, "at least")
SERVICE_PATH = "/api/v1/namespaces/default/services"
SLICE_PATH = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"

Object = dict[str, Any]


@dataclass
class Answering:
    """A server that says its word to whoever connects, and when the last one came."""

    port: int
    last: float = 0.0


@contextmanager
def answering(word: bytes) -> Iterator[Answering]:
    with socket.create_server((HOST, 0), backlog=128) as listener:
        made = Answering(listener.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                made.last = time.monotonic()
                client.sendall(word)
                client.close()

        threading.Thread(target=serve, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


def service(number: int) -> Object:
    return {"metadata": {"name": f"live-{number}"}, "spec": {"ports": [{"name": "http", "port": 8000}]}}


def endpoints(number: int, port: int, *addresses: str, slice_: str = "") -> Object:
    """Of a Service, at the host's address if no other is given; in a slice of its own name, or of another."""
    return {
        "metadata": {"name": f"live-{number}{slice_}", "labels": {"kubernetes.io/service-name": f"live-{number}"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses or (HOST,)],
    }


class Asking:
    """One connection to the API server, kept."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port)

    def __call__(self, method: str, path: str, body: Object | None = None) -> Object:
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        if answer.status >= 300:
            raise RuntimeError(told["message"])
        return dict(told)


def until_answered(address: tuple[str, int], word: bytes) -> float:
    """Milliseconds from now until a client there is told `word`."""
    started = time.monotonic()
    while time.monotonic() - started < LONGEST_SECONDS:
        try:
            with socket.create_connection(address, timeout=1) as client:
                if client.recv(16) == word:
                    return (time.monotonic() - started) * 1000
        except OSError:
            continue
    raise RuntimeError(f"nobody answers at {address}")


def fill(server: Server, port: int) -> None:
    local = threading.local()

    def make(number: int) -> None:
        if not hasattr(local, "ask"):
            local.ask = Asking(server)
        local.ask("POST", SLICE_PATH, endpoints(number, port))
        local.ask("POST", SERVICE_PATH, service(number))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(make, range(SERVICES)))


@contextmanager
def load(address: tuple[str, int]) -> Iterator[list[bool]]:
    """Clients that connect without a pause; whether each was served."""
    served: list[bool] = []
    ended = threading.Event()

    def connect() -> None:
        while not ended.is_set():
            try:
                with socket.create_connection(address, timeout=5) as client:
                    served.append(bool(client.recv(16)))
            except OSError:
                served.append(False)

    threads = [threading.Thread(target=connect) for _ in range(ASKING)]
    for one in threads:
        one.start()
    try:
        yield served
    finally:
        ended.set()
        for one in threads:
            one.join()


def told(name: str, taken: list[float], target: Target = LIVE) -> None:
    taken.sort()
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    row(
        f"svc-live: {name}, beside {SERVICES:,}",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        target=target.text,
        verdict=target.verdict(p99),
    )


def under_load(server: Server, one: Answering, other: Answering) -> None:
    """A Service that always has the one endpoint, and the other now and then."""
    ask, number, late = Asking(server), SERVICES + EVENTS, []
    ask("POST", SLICE_PATH, endpoints(number, one.port))
    ask("POST", SLICE_PATH, endpoints(number, other.port, slice_="-other"))
    made = ask("POST", SERVICE_PATH, service(number))
    address = (made["spec"]["clusterIP"], 8000)
    until_answered(address, b"other")
    with load(address):
        for _ in range(EVENTS):
            ask("DELETE", f"{SLICE_PATH}/live-{number}-other")
            gone = time.monotonic()
            while time.monotonic() < max(gone, other.last) + QUIET_SECONDS:
                time.sleep(QUIET_SECONDS / 4)
            late.append(max(other.last - gone, 0.0) * 1000)
            ask("POST", SLICE_PATH, endpoints(number, other.port, slice_="-other"))
            until_answered(address, b"other")
    told("the last to a gone endpoint, under load", late, GONE)
    with coming_and_going() as endpoints_, load(address) as served:
        changes = change_endpoints(server, number, endpoints_)
    lost, late = served.count(False), [one * 1000 for each in endpoints_ for one in each.late]
    told(f"the last to gone endpoints, at {CHANGES_PER_SECOND:,} changes/s", late or [0.0], GONE)
    row(
        f"svc-live: endpoints changed under load, beside {SERVICES:,}",
        f"{changes / CHANGING_SECONDS:,.0f} changes/s",
        target=CHANGED.text,
        verdict=CHANGED.verdict(changes / CHANGING_SECONDS),
    )
    row(
        f"svc-live: connections meanwhile, beside {SERVICES:,}",
        f"{lost} of {len(served):,} lost",
        target=NONE_LOST.text,
        verdict=NONE_LOST.verdict(lost),
    )


@dataclass
class Coming:
    """A server that is an endpoint now and then. `gone`: since when it is none; `late`: how long after that clients
    came."""

    listener: socket.socket
    gone: float | None = 0.0
    late: list[float] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.listener.getsockname()[0])

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def greet(self) -> None:
        client, _ = self.listener.accept()
        if gone := self.gone:
            self.late.append(time.monotonic() - gone)
        client.sendall(b"coming")
        client.close()


@contextmanager
def coming_and_going() -> Iterator[list[Coming]]:
    made: list[Coming] = []
    for address in COMING:
        port = made[0].port if made else 0
        made.append(Coming(socket.create_server((address, port), backlog=128)))
    ended = threading.Event()

    def serve() -> None:
        with selectors.DefaultSelector() as selector:
            for one in made:
                selector.register(one.listener, selectors.EVENT_READ, one)
            while not ended.is_set():
                for key, _ in selector.select(timeout=QUIET_SECONDS):
                    key.data.greet()

    thread = threading.Thread(target=serve)
    thread.start()
    yield made
    ended.set()
    thread.join()
    for one in made:
        one.listener.close()


def change_endpoints(server: Server, number: int, endpoints_: list[Coming]) -> int:
    """Each of a few writers has a slice of the Service, whose endpoints are the even and the odd of its own in turn.

    Returns how many have come or gone."""
    began = time.monotonic()

    def change(worker: int) -> int:
        ask, changes, own, name = Asking(server), 0, endpoints_[worker::CHANGING], f"-{worker}"
        path = SLICE_PATH
        while (now := time.monotonic()) < began + CHANGING_SECONDS:
            time.sleep(max(0.0, began + changes * CHANGING / CHANGES_PER_SECOND - now))
            turn = changes // len(own) % 2
            here, away = own[turn::2], own[1 - turn :: 2]
            for one in here:
                one.gone = None
            body = endpoints(number, own[0].port, *(one.address for one in here), slice_=name)
            ask("POST" if path == SLICE_PATH else "PUT", path, body)
            gone = time.monotonic()
            for one in away:
                one.gone = gone
            path, changes = f"{SLICE_PATH}/live-{number}{name}", changes + len(own)
        return changes

    with ThreadPoolExecutor(CHANGING) as pool:
        return sum(pool.map(change, range(CHANGING)))


def measure(server: Server, one: int, other: int) -> None:
    ask, added, changed = Asking(server), [], []
    for number in range(SERVICES, SERVICES + EVENTS):
        ask("POST", SLICE_PATH, endpoints(number, one))
        time.sleep(0.02)
        made = ask("POST", SERVICE_PATH, service(number))
        address = (made["spec"]["clusterIP"], 8000)
        added.append(until_answered(address, b"one"))
        time.sleep(0.02)
        ask("PUT", f"{SLICE_PATH}/live-{number}", endpoints(number, other))
        changed.append(until_answered(address, b"other"))
        time.sleep(0.02)
    told("a Service added", added)
    told("its endpoints changed", changed)


def main() -> None:
    namespace = Namespace()
    with namespace.here():
        with Netlink() as netlink:
            for address in (HOST, *COMING):
                netlink.add_address(1, ipaddress.ip_interface(address))
        with (
            answering(b"one") as one,
            answering(b"other") as other,
            kubecore("up", "--nodes", "1", "--pod-network", "netns", cpu=None) as server,
        ):
            fill(server, one.port)
            last = json.loads(server.call("GET", f"{SERVICE_PATH}/live-{SERVICES - 1}"))
            until_answered((last["spec"]["clusterIP"], 8000), b"one")
            measure(server, one.port, other.port)
            under_load(server, one, other)
    namespace.close()


if __name__ == "__main__":
    main()
