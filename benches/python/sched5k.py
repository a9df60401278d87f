"""Scheduling on 5,000 nodes, after kube-scheduler's own performance tests: pods that wait are bound by a scheduler that
starts, through the API server in the same process, each binding durable before it counts.

The peer is kube-scheduler: with its own API server over etcd, and with kubecore's in that one's place. Its figure is
taken from the first binding to the last, one round after ours, since each takes minutes.

A figure of ours is pods by the time from when the scheduler is ready, its caches complete, until the last pod has
its node. CPU is that of the whole process, API server and all, until the last event is written, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from _kube_scheduler import OURS, OWN
from _kube_scheduler import scheduled as kube_scheduler
from _report import Target, median, row
from _sched_workloads import WORKLOADS
from _servers import require_optimised_build, scratch

# Each round takes half a minute, most of which makes nodes and pods.
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
TARGETS = {
    "basic": 4000,
    "topology spread": 2500,
    "node affinity": 2000,
    "pod affinity": 600,
    "pod anti-affinity": 600,
    "preemption": 1000,
}
HERE = Path(__file__).resolve().parent


def scheduled(workload: str) -> dict[str, Any]:
    """One round in a process of its own, on all cores: what is measured is scheduler and API server together."""
    with scratch("kubecore-sched-") as folder:
        line = [sys.executable, "-P", str(HERE / "_scheduling.py"), workload, folder]
        # -P leaves the bench's own folder out of the path, which a checkout's package is not in anyway
        env = {**os.environ, "PYTHONPATH": str(HERE)}
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rate(one: dict[str, float]) -> float:
    return one["pods"] / one["seconds"]


def _figures(one: dict[str, float]) -> str:
    return f"{rate(one):,.0f}/s, {one['cpu'] / one['pods'] * 1e6:,.0f} µs a pod"


def main() -> None:
    require_optimised_build()
    memory: dict[str, Any] = {}
    for name in WORKLOADS:
        rounds = [scheduled(name) for _ in range(ROUNDS)]
        rates = [rate(one) for one in rounds]
        cpu = median([one["cpu"] / one["pods"] * 1e6 for one in rounds])
        target = Target(f"{TARGETS[name]:,}/s", TARGETS[name], "at least")
        workload = WORKLOADS[name]
        told = f"{median(rates):,.0f}/s ({min(rates):,.0f}-{max(rates):,.0f}), {cpu:,.0f} µs a pod with its event"
        peers = {kind: kube_scheduler(name, kind) for kind in (OWN, OURS)}
        shown = "; ".join(f"{kind}: {_figures(one)}" for kind, one in peers.items())
        ratio = f"rate x {median(rates) / rate(peers[OWN]):.3g}"
        row(
            f"sched5k: {name} ({workload.pods:,} pods)",
            told,
            shown,
            ratio,
            target=target.text,
            verdict=target.verdict(median(rates)),
        )
        memory = memory or rounds[0]
    start, nodes, pods = memory["mib"]
    per_node = (nodes - start) * 1024 / memory["nodes"]
    per_pod = (pods - nodes) * 1024 / memory["all_pods"]
    told = f"{per_node:.0f} KiB a node, {per_pod:.0f} KiB a pod: store's cache, informer, scheduler and history"
    row("sched5k: memory", told)


if __name__ == "__main__":
    main()
