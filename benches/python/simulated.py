"""5,000 simulated nodes: until they are registered, until 10,000 pods run on them, memory, and CPU at rest. No peer:
the figures have targets of their own. Everything (API server, store, controllers, scheduler, nodes) is one process.
"""

from __future__ import annotations

import json
import time

from _cluster import all_running, count, simulated, until
from _load import JSON_HEADERS, h2load
from _report import Target, row
from _servers import CORE

NODES, PODS, CLIENTS = 5_000, 10_000, 64
SETTLE_SECONDS, IDLE_SECONDS = 30, 30
REGISTERED = Target("<= 5 s", 5.0, "at most")
RUNNING = Target("<= 10 s", 10.0, "at most")
IDLE = Target("<= 10% of a core", 10.0, "at most")
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "bench-"},
    "spec": {
        "containers": [
            {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
        ],
    },
}


def main() -> None:
    with simulated(NODES) as server:
        seconds = until(lambda: count(server, "/api/v1/nodes") == NODES)
        told = f"{seconds:.1f} s after ready, {server.cpu_seconds():.1f} s of CPU"
        row(f"simulated: {NODES:,} nodes registered", told, target=REGISTERED.text, verdict=REGISTERED.verdict(seconds))
        time.sleep(SETTLE_SECONDS)
        memory = server.rss_mib()
        row("simulated: memory of a node", f"{memory / NODES * 1024:.0f} KiB ({memory:.0f} MiB in all)")
        before, started = server.cpu_seconds(), time.monotonic()
        url = f"http://127.0.0.1:{server.port}{CORE}/pods"
        body = json.dumps(POD).encode()
        created = h2load(server, url, requests=PODS, clients=CLIENTS, body=body, headers=JSON_HEADERS, http1=True)
        until(lambda: all_running(server, f"{CORE}/pods", PODS))
        seconds, cpu = time.monotonic() - started, server.cpu_seconds() - before
        told = f"{seconds:.1f} s ({created.seconds:.1f} s to create them), {cpu / PODS * 1e6:,.0f} us of CPU each"
        row(f"simulated: {PODS:,} pods running", told, target=RUNNING.text, verdict=RUNNING.verdict(seconds))
        row("simulated: memory of a pod", f"{(server.rss_mib() - memory) / PODS * 1024:.0f} KiB")
        time.sleep(SETTLE_SECONDS)
        before = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        share = (server.cpu_seconds() - before) / IDLE_SECONDS * 100
        row("simulated: idle", f"{share:.1f}% of a core", target=IDLE.text, verdict=IDLE.verdict(share))


if __name__ == "__main__":
    main()
