"""An API server and a scheduler in one process, and pods to schedule: what `sched5k` measures, run on its own.

    python _scheduling.py WORKLOAD DIRECTORY

prints one JSON line: pods bound, seconds until all were (and those of the scheduler's start), CPU seconds of the
whole process for it (until the last event is written, too) and its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from _sched_workloads import HIGH_PRIORITY, WORKLOADS, Workload, node_of

from kubecore.api.errors import StatusError
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.cli.up import rest_collector
from kubecore.client.client import Client, Object
from kubecore.client.informer import InformerFactory
from kubecore.clock import RealClock
from kubecore.scheduler.scheduler import Scheduler

_IN_FLIGHT = 64


async def each(objects: Iterable[Object], work: Callable[[Object], Awaitable[object]]) -> None:
    """Some at a time."""
    waiting = iter(objects)

    async def take() -> None:
        for one in waiting:
            await work(one)

    await asyncio.gather(*(take() for _ in range(_IN_FLIGHT)))


async def create_all(client: Client, resource: str, objects: Iterable[Object]) -> None:
    await each(objects, lambda one: client.create(resource, one))


class Bound:
    """Counts pods that have a node, as the scheduler's informer sees them."""

    def __init__(self, informers: InformerFactory) -> None:
        self.count = 0
        self.enough = asyncio.Event()
        self._wanted = -1
        informers.informer("pods").add_handler(self._added, self._updated)

    def _added(self, pod: Object) -> None:
        if pod["spec"].get("nodeName"):
            self._one_more()

    def _updated(self, old: Object, new: Object) -> None:
        if new["spec"].get("nodeName") and not old["spec"].get("nodeName"):
            self._one_more()

    def _one_more(self) -> None:
        self.count += 1
        if self.count == self._wanted:
            self.enough.set()

    async def reach(self, wanted: int) -> None:
        self._wanted = wanted
        if self.count < wanted:
            await self.enough.wait()


class Readiness(asyncio.Event):
    """Notes when it was first set, by the clock and by the CPU time that the process had taken."""

    at: tuple[float, float] | None = None

    def set(self) -> None:
        if self.at is None:
            self.at = time.perf_counter(), time.process_time()
        super().set()


@asynccontextmanager
async def api_server(directory: Path) -> AsyncIterator[APIServer]:
    server = APIServer(APIServerConfig(data_dir=directory, secure_port=0), RealClock())
    await server.start()
    rest_collector()
    try:
        yield server
    finally:
        await server.stop()


async def schedule(server: APIServer, wanted: int, *, measured: int) -> dict[str, float]:
    """Runs a scheduler until `wanted` pods have nodes; what the last `measured` of them took once it was ready."""
    clock = RealClock()
    client = Client(server.transport(username="system:kube-scheduler", groups=[]), field_manager="kube-scheduler")
    informers = InformerFactory(client, clock)
    bound = Bound(informers)
    scheduler = Scheduler(client, clock, informers=informers)
    ready = scheduler.ready = Readiness()
    await informers.start()
    await informers.wait_synced()
    started = time.perf_counter()
    task = asyncio.create_task(scheduler.run())
    await bound.reach(wanted)
    assert ready.at is not None, "it has bound pods"
    began, cpu = ready.at
    seconds = time.perf_counter() - began
    await scheduler.flush()
    used = time.process_time() - cpu
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await informers.stop()
    return {"pods": measured, "start": began - started, "seconds": seconds, "cpu": used}


def rss_mib() -> float:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def furnish(client: Client, workload: Workload) -> None:
    """Namespaces, nodes and whatever else pods need; there is no controller to make it."""
    for name in ("sched-0", "sched-1"):
        await client.create("namespaces", {"metadata": {"name": name}})
    for name in ("default", "sched-0", "sched-1"):
        with contextlib.suppress(StatusError):  # some servers of benches have the first one
            await client.create("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
    await client.create("priorityclasses.scheduling.k8s.io", HIGH_PRIORITY)
    nodes = [node_of(workload, number) for number in range(workload.nodes)]
    await create_all(client, "nodes", nodes)
    # nor one to see that they are ready
    await each(nodes, lambda node: client.patch("nodes", node["metadata"]["name"], {"spec": {"taints": None}}))


async def run(workload: Workload, directory: Path) -> dict[str, Any]:
    async with api_server(directory) as server:
        client = Client(server.transport(username="admin", groups=["system:masters"]), field_manager="bench")
        memory = [rss_mib()]
        await furnish(client, workload)
        gc.collect()
        memory.append(rss_mib())
        before = [workload.first("sched-0") for _ in range(workload.first_pods)]
        if before:
            await create_all(client, "pods", before)
            await schedule(server, len(before), measured=len(before))
        await create_all(client, "pods", [workload.then("sched-1") for _ in range(workload.pods)])
        found: dict[str, Any] = await schedule(server, len(before) + workload.pods, measured=workload.pods)
        gc.collect()
        memory.append(rss_mib())
        found["mib"] = memory
        found["nodes"], found["all_pods"] = workload.nodes, len(before) + workload.pods
        return found


def main() -> None:
    name, directory = sys.argv[1:]
    print(json.dumps(uvloop.run(run(WORKLOADS[name], Path(directory)))))


if __name__ == "__main__":
    main()
