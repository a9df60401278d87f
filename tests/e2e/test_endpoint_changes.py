"""Endpoints that come and go while clients ask without a pause, from the API server's answer to the connection.

Servers speak first, and clients say nothing: whatever happens to a connection before, another endpoint can have it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubecore.proxy.asking import ProxyUnreachable
from kubecore.proxy.asking import ask as ask_proxy
from tests.support.api_load import API
from tests.support.ports import free_port
from tests.support.process import RunningCluster, start

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

SERVICES, PODS = "/api/v1/namespaces/default/services", "/api/v1/namespaces/default/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CLIENTS, CHANGES, REPLICAS, DELETIONS = 8, 60, 3, 3
NAMES = ("a", "b", "c")
CHANGERS, MANY_CHANGES = tuple("stuvwxyz"), 1008
# However far the proxy is behind, it knows somebody who is there.
SETS = [{"a", "c"}, {"b", "c"}, {"c"}, {"a", "b", "c"}]
REFUSING = "127.77.0.9"
SERVER = """
import os, socket
with socket.create_server((os.environ["KUBECORE_POD_IP"], 8080), backlog=128) as server:
    while True:
        with server.accept()[0] as client:
            client.sendall(os.environ["HOSTNAME"].encode())
"""

Object = dict[str, Any]


@dataclass
class Backend:
    """Says its name to whoever connects."""

    name: str
    address: str
    port: int
    _listener: socket.socket | None = None

    def listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self.address, self.port), backlog=128)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._greet)

    def close(self) -> None:
        """Who has not been accepted is reset, who comes is refused; nobody is accepted and not greeted."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _greet(self) -> None:
        assert self._listener is not None
        with suppress(OSError), self._listener.accept()[0] as client:
            client.sendall(self.name.encode())


@dataclass
class World:
    cluster: RunningCluster
    api: API
    port: int
    backends: dict[str, Backend]
    address: str = ""
    answers: int = 0
    _step: int = 0
    _gone: dict[str, int] = field(default_factory=dict)
    """Since when the proxy's tables have had an endpoint no more, in steps."""

    async def call(self, method: str, path: str, body: Object | None = None) -> Object:
        status, told = await self.api.ask(method, path, body)
        assert status < 300, told
        return told

    async def make_service(self, name: str, **spec: Any) -> None:
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        made = await self.call("POST", SERVICES, {"metadata": {"name": name}, "spec": {"ports": ports, **spec}})
        self.address = made["spec"]["clusterIP"]

    async def point_to(self, names: set[str], *, method: str = "PUT") -> None:
        """Whom the Service `web` leads to from the API server's answer on; one endpoint refuses always."""
        self._gone = {name: since for name, since in self._gone.items() if name not in names}
        addresses = [REFUSING, *(self.backends[name].address for name in sorted(names))]
        await self.call(method, SLICES if method == "POST" else f"{SLICES}/web", self.slice("web", *addresses))

    def slice(self, name: str, *addresses: str) -> Object:
        """Of the Service `web`."""
        return {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": self.port}],
            "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
        }

    # ------------------------------------------------------------------ the proxy's tables
    async def served(self) -> set[str]:
        """Addresses that the proxy's tables have for the Service."""
        try:
            told = await asyncio.to_thread(ask_proxy, self.cluster.data_dir / "proxy.sock")
        except ProxyUnreachable:  # it comes up after the API server
            return set()
        rows = [one for one in told["services"] if one["address"] == self.address]
        return {one["address"] for row in rows for one in row["destinations"]}

    async def until_tables_have(self, names: set[str]) -> None:
        """And no others; notes the step in which they have come and gone."""
        wanted = {REFUSING, *(self.backends[name].address for name in names)}
        while await self.served() != wanted:
            pass
        self._step += 1
        self._gone = {name: self._gone.get(name, self._step) for name in NAMES if name not in names}

    # ------------------------------------------------------------------ clients
    async def answer(self) -> str:
        reader, writer = await asyncio.open_connection(self.address, 80)
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()

    async def ask(self) -> str:
        gone = dict(self._gone)
        name = await self.answer()
        # gone before the connection was made, and without a break since
        assert name not in gone or self._gone.get(name) != gone[name]
        self.answers += 1
        return name

    async def ask_during(self, changing: Awaitable[None], known: Callable[[str], bool]) -> None:
        """Clients without a pause, until all has been changed. None may be lost: each is told a name that is known."""
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                name = await self.ask()
                assert known(name), name

        async def change() -> None:
            await changing
            done.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(change())
            for _ in range(CLIENTS):
                group.create_task(ask())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    api_port, port = free_port(), free_port()
    cluster = await asyncio.to_thread(
        start, tmp_path / "data", "--pod-network", "loopback", "--insecure-port", str(api_port)
    )
    backends = {name: Backend(name, f"127.77.0.{number}", port) for number, name in enumerate(NAMES, 1)}
    async with aiohttp.ClientSession() as session:
        yield World(cluster, API(session, f"http://127.0.0.1:{api_port}"), port, backends)
    for one in backends.values():
        one.close()
    await asyncio.to_thread(cluster.stop)


async def ready(world: World) -> None:
    """All three are served."""
    for one in world.backends.values():
        one.listen()
    await world.make_service("web")
    await world.point_to(set(NAMES), method="POST")
    await world.until_tables_have(set(NAMES))


async def test_no_connection_goes_to_an_endpoint_that_the_tables_had_no_more_when_it_began(world: World) -> None:
    await ready(world)

    async def change() -> None:
        for turn in range(CHANGES):
            present = SETS[turn % len(SETS)]
            await world.point_to(present)
            await world.until_tables_have(present)
            assert await world.ask() in present

    await world.ask_during(change(), NAMES.__contains__)
    assert world.answers > CHANGES


async def test_no_request_is_lost_though_endpoints_are_gone_with_the_api_servers_answer(world: World) -> None:
    """Before the proxy can know it. Changes follow each other as fast as the API server answers."""
    await ready(world)

    async def change() -> None:
        for turn in range(3 * CHANGES):
            present = SETS[turn % len(SETS)]
            for name in present:
                world.backends[name].listen()
            await world.point_to(present)
            for name in set(NAMES) - present:
                world.backends[name].close()

    await world.ask_during(change(), NAMES.__contains__)
    assert world.answers > 3 * CHANGES


async def test_no_request_is_lost_while_a_thousand_changes_come_from_many_at_once(world: World) -> None:
    """Each of them has an endpoint that is gone with the API server's answer."""
    await ready(world)
    async with asyncio.TaskGroup() as group:
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                name = await world.answer()
                assert name in NAMES or name in CHANGERS, name
                world.answers += 1

        async def change(name: str, number: int) -> None:
            own = Backend(name, f"127.77.1.{number}", world.port)
            for _ in range(MANY_CHANGES // len(CHANGERS) // 2):
                own.listen()
                await world.call("POST", SLICES, world.slice(f"web-{name}", own.address))
                await world.call("DELETE", f"{SLICES}/web-{name}")
                own.close()

        async def change_all() -> None:
            async with asyncio.TaskGroup() as changers:
                for number, name in enumerate(CHANGERS, 1):
                    changers.create_task(change(name, number))
            done.set()

        for _ in range(CLIENTS):
            group.create_task(ask())
        group.create_task(change_all())
    await world.until_tables_have(set(NAMES))
    assert world.answers


async def test_no_request_is_lost_while_pods_are_deleted_that_end_at_once(world: World) -> None:
    labels = {"app": "web"}
    container = {"name": "main", "image": "none", "command": [sys.executable, "-c", SERVER]}
    await world.make_service("web", selector=labels)
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template}
    await world.call("POST", DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})

    async def until_answered_by(number: int, *, without: str = "") -> set[str]:
        """That many pods, after one is gone."""
        found: set[str] = set()
        while len(found) < number:
            with suppress(OSError):
                found.add(await world.answer())
            found -= {without, ""}
        return found

    pods = await until_answered_by(REPLICAS)

    async def change() -> None:
        for _ in range(DELETIONS):
            leaving = sorted(pods)[0]
            await world.call("DELETE", f"{PODS}/{leaving}")
            pods.clear()
            pods.update(await until_answered_by(REPLICAS, without=leaving))

    await world.ask_during(change(), lambda name: name.startswith("web-"))
    assert world.answers
