"""Rates from measurements that are made when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from kubecore.clock import VirtualClock
from kubecore.kubelet.stats import NodeStats, RunningContainer, RunningPod
from kubecore.kubelet.usage import Used

START = datetime(2026, 1, 1, tzinfo=UTC)
POD = RunningPod("default", "web-0", "uid", (RunningContainer("main", "c1", 17, START),))


class PassingClock(VirtualClock):
    """Who sleeps makes time pass."""

    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


class Machine:
    """A container that uses half a CPU, and a node that uses two."""

    def __init__(self) -> None:
        self.clock = PassingClock()
        self.reads = 0
        self.pods = [POD]
        self.stats = NodeStats(self.clock, "node", lambda: self.pods, self.read)

    def read(self, pids: Mapping[str, int]) -> dict[str, Used]:
        self.reads += 1
        now = self.clock.monotonic()
        return {"": Used(int(2e9 * now), 1000), **dict.fromkeys(pids, Used(int(0.5e9 * now), 2048))}


async def test_the_first_who_asks_waits_a_moment_for_a_rate() -> None:
    machine = Machine()
    summary = await machine.stats.summary()
    assert machine.reads == 2
    (pod,) = summary["pods"]
    assert pod["podRef"] == {"name": "web-0", "namespace": "default", "uid": "uid"}
    (container,) = pod["containers"]
    assert container["cpu"] == {
        "time": "2026-01-01T00:00:01Z",
        "usageCoreNanoSeconds": 500_000_000,
        "usageNanoCores": 500_000_000,
        "windowSeconds": 1.0,
    }
    assert container["memory"]["workingSetBytes"] == 2048
    assert summary["node"]["cpu"]["usageNanoCores"] == 2_000_000_000


async def test_later_ones_are_answered_at_once_over_a_longer_window() -> None:
    machine = Machine()
    await machine.stats.summary()
    for seconds, window in ((14, 15.0), (3, 18.0), (3, 21.0), (6, 12.0)):
        await machine.clock.advance(seconds)
        machine.reads = 0
        summary = await machine.stats.summary()
        assert machine.reads == 1
        assert summary["node"]["cpu"]["windowSeconds"] == window


async def test_an_old_measurement_is_none() -> None:
    machine = Machine()
    await machine.stats.summary()
    await machine.clock.advance(120)
    summary = await machine.stats.summary()
    assert summary["node"]["cpu"]["windowSeconds"] == 1.0


async def test_pods_without_processes_here_are_left_out() -> None:
    machine = Machine()
    machine.pods = [POD, RunningPod("default", "elsewhere", "u", ())]
    assert [pod["podRef"]["name"] for pod in (await machine.stats.summary())["pods"]] == ["web-0"]


async def test_prometheus_can_read_it() -> None:
    machine = Machine()
    await machine.clock.advance(10)
    text = await machine.stats.resource_metrics()
    stamp = int(machine.clock.now().timestamp() * 1000)
    labels = 'namespace="default",pod="web-0"'
    lines = text.splitlines()
    assert "# TYPE container_cpu_usage_seconds_total counter" in lines
    assert f'container_cpu_usage_seconds_total{{container="main",{labels}}} 5 {stamp}' in lines
    assert f"pod_memory_working_set_bytes{{{labels}}} 2048 {stamp}" in lines
    assert f"node_cpu_usage_seconds_total 20 {stamp}" in lines
    assert "resource_scrape_error 0" in lines
