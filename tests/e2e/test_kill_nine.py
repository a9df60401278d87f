"""`kill -9` of the API server at any moment loses no acknowledged write and leaves no half one.

A hundred times: load from many clients, SIGKILL in the midst of it, a look at the store's file, a new server on the
same directory, and a comparison of all it shows with what clients were told before. Now and then the new server is
killed while it starts, too. `KILL_NINE_SEED` repeats a run's choices (not the machine's timing).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from kubecore.apiserver.storage.interface import DELETE, Event, Stored
from kubecore.apiserver.storage.lmdb import LMDBStorage
from kubecore.client.grpc import GrpcClient, connect
from kubecore.clock import RealClock
from tests.support.api_load import API, CONFIG_MAPS, NAMESPACE, SERVICES, BatchWriter, Writer, run_all
from tests.support.forked_server import ForkedServer
from tests.support.ledger import Ledger, Object, bare, held, revision

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = 100
CONFIG_MAP_WRITERS, SERVICE_WRITERS, BATCH_WRITERS = 8, 4, 2
RESOURCES = (CONFIG_MAPS, SERVICES)
SENTINEL = "sentinel"


class NullSink:
    def publish(self, revision: int, events: Sequence[Event]) -> None:
        pass

    def compacted(self, revision: int) -> None:
        pass


@dataclass(frozen=True)
class Snapshot:
    """All objects of a resource by path, at a revision."""

    revision: int
    objects: dict[str, Object]


@dataclass
class Server:
    command: ForkedServer
    api: API
    objects: GrpcClient


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[Server]:
    command = ForkedServer(data_dir)
    try:
        url = await asyncio.to_thread(command.wait_ready)
        pki = data_dir / "pki"
        tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        ca, certificate, key = ((pki / name).read_bytes() for name in ("ca.crt", "admin.crt", "admin.key"))
        port = json.loads((data_dir / "ports.json").read_bytes())["grpc"]
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            connect(f"127.0.0.1:{port}", ca=ca, certificate=certificate, key=key) as objects,
        ):
            yield Server(command, API(session, url), objects)
    finally:
        command.kill()


async def kill_under_load(server: Server, ledger: Ledger, chance: random.Random, number: int) -> None:
    """SIGKILL after some answers, and a moment more, so that it hits any phase of a commit."""
    writers: list[Writer | BatchWriter] = []
    for index in range(CONFIG_MAP_WRITERS + SERVICE_WRITERS):
        kind, letter = (CONFIG_MAPS, "c") if index < CONFIG_MAP_WRITERS else (SERVICES, "s")
        own = random.Random(chance.random())
        writers.append(Writer(server.api, ledger, own, f"{letter}{index}", kind, number * 10_000))
    if number % 5 == 0:  # a server loads gRPC at the first call, which takes its time
        for index in range(BATCH_WRITERS):
            own = random.Random(chance.random())
            writers.append(BatchWriter(server.objects, ledger, own, f"b{index}", number * 10_000))
    async with asyncio.TaskGroup() as group:
        group.create_task(run_all(writers))
        await ledger.wait_for(chance.randint(1, 300))
        await asyncio.sleep(chance.uniform(0, 0.01))
        server.command.kill()


async def kill_while_starting(data_dir: Path, chance: random.Random, usual_seconds: float) -> None:
    command = ForkedServer(data_dir)
    await asyncio.sleep(chance.uniform(0, usual_seconds))
    command.kill()


# --- the store's file


async def check_file(data_dir: Path, since: int) -> int:
    """The log goes on from `since` without a gap, and what is current is what it says. Returns the revision."""
    storage = LMDBStorage(data_dir / "storage", RealClock(), NullSink())
    try:
        assert storage.revision >= since, "the revision went back"
        events = await storage.events(since)
        current = dict((await storage.list("/registry/")).items)
        assert [event.revision for event in events] == list(range(since + 1, storage.revision + 1))
        newest = {event.key: event for event in events}
        for key, event in newest.items():
            expected = None if event.type == DELETE else Stored(event.revision, event.value)
            assert current.get(key) == expected
        for key, stored in current.items():
            assert revision(json.loads(stored.value)) == stored.revision, f"{key} is half written"
            assert stored.revision <= since or newest[key].revision == stored.revision
        return storage.revision
    finally:
        await storage.close()


# --- what a server shows


async def snapshot(api: API, resource: str, *, at: int = 0) -> Snapshot:
    query = {"resourceVersion": str(at), "resourceVersionMatch": "Exact"} if at else {}
    listed = await api.do("GET", resource, query=query)
    objects = {f"{resource}/{item['metadata']['name']}": bare(item) for item in listed["items"]}
    return Snapshot(revision(listed), objects)


async def replay(api: API, resource: str, start: Snapshot, end: int, last: int) -> dict[str, Object]:
    """`start` and every event after it up to revision `end`; the watch is known to bring one of revision `last`."""
    state = dict(start.objects)
    seen = start.revision
    query = {"watch": "1", "resourceVersion": str(start.revision)}
    async with api.session.get(api.url + resource, params=query) as answer:
        assert answer.status == 200, await answer.text()
        while line := await answer.content.readline():
            event = json.loads(line)
            obj = bare(event["object"])
            path, now = f"{resource}/{obj['metadata']['name']}", revision(obj)
            assert now > seen, "events come in order of their revisions"
            seen = now
            if now <= end:
                assert (path in state) == (event["type"] != "ADDED"), event
                state[path] = obj
                if event["type"] == "DELETED":
                    del state[path]
            if now == last:
                return state
    raise AssertionError(f"the watch ended before revision {last}")


async def check_history(api: API, resource: str, before: Snapshot, now: Snapshot) -> None:
    """A watch from an earlier revision leads to what is listed, and the earlier list can be had again."""
    name = f"{resource}/{SENTINEL}"
    touched = await api.do(
        "PATCH",
        name,
        {"metadata": {"labels": {"at": str(now.revision)}}},
        content_type="application/merge-patch+json",
    )
    assert await replay(api, resource, before, now.revision, revision(touched)) == now.objects
    assert await snapshot(api, resource, at=before.revision) == before


async def check_allocations(api: API, before: Snapshot, now: Snapshot) -> None:
    """No address or node port is held twice; one that is held is refused, one that was given back is free."""
    held_ips = [ip for ip in map(cluster_ip, now.objects.values()) if ip]
    held_ports = [port for service in now.objects.values() for port in node_ports(service)]
    assert len(held_ips) == len(set(held_ips)) == len(now.objects)
    assert len(held_ports) == len(set(held_ports))
    for path, service in before.objects.items():
        same = now.objects.get(path)
        if same is not None and same["metadata"]["uid"] == service["metadata"]["uid"]:
            assert cluster_ip(same) == cluster_ip(service), "a service's address never changes"
    wishes = [({"clusterIP": held_ips[-1]}, 422)]
    if held_ports:
        wishes.append(({"type": "NodePort", "ports": [{"port": 80, "nodePort": held_ports[-1]}]}, 422))
    freed_ips = {cluster_ip(service) for service in before.objects.values()} - set(held_ips)
    freed_ports = {port for service in before.objects.values() for port in node_ports(service)} - set(held_ports)
    wishes += [({"clusterIP": ip}, 201) for ip in sorted(freed_ips)[:1]]
    ports = sorted(freed_ports)[:1]
    wishes += [({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}, 201) for port in ports]
    for spec, expected in wishes:
        body = {"metadata": {"name": "wish"}, "spec": {"ports": [{"port": 80}], **spec}}
        status, answer = await api.ask("POST", SERVICES, body)
        assert status == expected, f"{spec}: {answer}"
        if status == 201:
            await api.do("DELETE", f"{SERVICES}/wish")


def cluster_ip(service: Object) -> str:
    return str(service["spec"]["clusterIP"])


def node_ports(service: Object) -> Iterator[int]:
    for port in service["spec"]["ports"]:
        if "nodePort" in port:
            yield port["nodePort"]


async def check(api: API, ledger: Ledger, before: dict[str, Snapshot]) -> dict[str, Snapshot]:
    """All that a new server must show. Returns what it shows, for the next time."""
    now = {resource: await snapshot(api, resource) for resource in RESOURCES}
    found = {path: obj for one in now.values() for path, obj in one.objects.items() if not path.endswith(SENTINEL)}
    for obj in found.values():
        held(obj)
    ledger.settle(found)
    for resource in RESOURCES:
        assert now[resource].revision >= max(before[resource].revision, ledger.newest), "the revision went back"
        await check_history(api, resource, before[resource], now[resource])
    await check_allocations(api, before[SERVICES], now[SERVICES])
    return {resource: await snapshot(api, resource) for resource in RESOURCES}


async def prepare(api: API) -> dict[str, Snapshot]:
    await api.do("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for resource, spec in ((CONFIG_MAPS, {}), (SERVICES, {"spec": {"ports": [{"port": 80}]}})):
        await api.do("POST", resource, {"metadata": {"name": SENTINEL}, **spec})
    return {resource: await snapshot(api, resource) for resource in RESOURCES}


def seed_of_this_run() -> int:
    seed = int(os.environ.get("KILL_NINE_SEED") or random.randrange(1 << 32))
    print(f"KILL_NINE_SEED={seed}")
    return seed


async def test_a_server_killed_a_hundred_times_under_load_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(seed_of_this_run())
    ledger, on_disk = Ledger(), 0
    async with running(tmp_path) as server:
        before = await prepare(server.api)
        await kill_under_load(server, ledger, chance, 0)
    for number in range(1, KILLS + 1):
        on_disk = await check_file(tmp_path, on_disk)
        asked = time.monotonic()
        async with running(tmp_path) as server:
            usual_seconds = time.monotonic() - asked
            before = await check(server.api, ledger, before)
            if number < KILLS:
                await kill_under_load(server, ledger, chance, number)
        if chance.random() < 0.2:
            await kill_while_starting(tmp_path, chance, usual_seconds)
    print(f"{ledger.answers} writes answered, last revision on disk {on_disk}")
    assert ledger.answers > KILLS


async def test_a_first_start_killed_at_any_moment_leaves_a_directory_that_the_next_start_can_use(
    tmp_path: Path,
) -> None:
    chance = random.Random(seed_of_this_run())
    asked = time.monotonic()
    async with running(tmp_path / "whole"):
        usual_seconds = time.monotonic() - asked
    for number in range(15):
        data_dir = tmp_path / str(number)
        await kill_while_starting(data_dir, chance, usual_seconds)
        async with running(data_dir) as server:
            await prepare(server.api)
