"""Rates from measurements that are made when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubecore.clock import VirtualClock
from kubecore.kubelet.cgroups.measuring import DiskUse, Group, GroupUse, Memory
from kubecore.kubelet.node.images import ImageDisk
from kubecore.kubelet.node.node import Machine as NodeMachine
from kubecore.kubelet.pods.disks import PodDisk
from kubecore.kubelet.runtime.interface import Written
from kubecore.kubelet.serving import cadvisor_metrics, resource_metrics
from kubecore.kubelet.serving.stats import NodeStats
from kubecore.kubelet.serving.usage import (
    ClaimedFolder,
    InterfaceUse,
    MemoryFolder,
    RunningContainer,
    RunningPod,
    Traffic,
    Used,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
POD = RunningPod("default", "web-0", "uid", (RunningContainer("main", "c1", 17, START, "app:1"),))


class PassingClock(VirtualClock):
    """Who sleeps makes time pass."""

    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


class Machine:
    """A container that uses half a CPU, and a node that uses two."""

    def __init__(self) -> None:
        self.clock = PassingClock()
        self.reads = self.reads_of_disks = 0
        self.pods = [POD]
        self.counted = GroupUse()
        self.group: Group | None = None
        self.networks: tuple[InterfaceUse, ...] = ()
        self.written: dict[str, PodDisk] = {"uid": PodDisk()}
        self.counting_seconds = 0.0
        self.memory_kills: int | None = None
        self.images: ImageDisk | None = None
        self.stats = NodeStats(self.clock, "node", lambda: self.pods, self.read, Path("/"), self.disks, self.image_disk)

    async def disks(self, uids: Collection[str]) -> dict[str, PodDisk]:
        self.reads_of_disks += 1
        await self.clock.sleep(self.counting_seconds)
        return {uid: disk for uid, disk in self.written.items() if uid in uids}

    async def image_disk(self) -> ImageDisk | None:
        return self.images

    def read(self, pods: Sequence[RunningPod], *, details: bool) -> dict[str, Used]:
        self.reads += 1
        now = self.clock.monotonic()
        found = {"": Used(int(2e9 * now), 1000)}
        for pod in [one for one in pods if one.containers]:
            used = Used(int(0.5e9 * now), 2048, 3, self.group, self.counted, memory_kills=self.memory_kills)
            found |= {one.id: used for one in pod.containers}
            found[pod.uid] = Used(int(0.75e9 * now), 4096, 3, networks=self.networks)
        return found


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


async def test_a_pod_is_told_as_a_whole_too() -> None:
    machine = Machine()
    machine.networks = (InterfaceUse("eth0", Traffic(10, 1, 2, 0), Traffic(20, 2, 3, 0)),)
    (pod,) = (await machine.stats.summary())["pods"]
    assert pod["cpu"]["usageNanoCores"] == 750_000_000
    assert pod["memory"]["workingSetBytes"] == 4096
    assert pod["process_stats"] == {"process_count": 3}
    eth0 = {"name": "eth0", "rxBytes": 10, "rxErrors": 2, "txBytes": 20, "txErrors": 3}
    assert pod["network"] == {"time": "2026-01-01T00:00:01Z", **eth0, "interfaces": [eth0]}


async def test_what_the_kernel_has_counted_of_memory_is_told() -> None:
    machine = Machine()
    machine.counted = GroupUse(memory=Memory(usage=5000, working_set=2048, rss=1024, faults=7, major_faults=1))
    ((container,),) = [pod["containers"] for pod in (await machine.stats.summary())["pods"]]
    assert container["memory"] == {
        "time": "2026-01-01T00:00:01Z",
        "usageBytes": 5000,
        "workingSetBytes": 2048,
        "rssBytes": 1024,
        "pageFaults": 7,
        "majorPageFaults": 1,
    }


async def test_the_node_tells_of_its_disk_and_processes() -> None:
    node = (await Machine().stats.summary())["node"]
    assert node["fs"]["capacityBytes"] >= node["fs"]["availableBytes"] > 0
    assert node["rlimit"]["maxpid"] > node["rlimit"]["curproc"] > 0


async def test_a_pods_claims_are_told_with_the_disk_that_they_are_on(tmp_path: Path) -> None:
    machine = Machine()
    claims = (ClaimedFolder("data", "wanted", tmp_path), ClaimedFolder("gone", "other", tmp_path / "gone"))
    machine.pods = [replace(POD, claims=claims)]
    (pod,) = (await machine.stats.summary())["pods"]
    (volume,) = pod["volume"]
    assert (volume["name"], volume["pvcRef"]) == ("data", {"name": "wanted", "namespace": "default"})
    assert volume["capacityBytes"] >= volume["usedBytes"] > 0


async def test_a_pod_is_told_with_what_it_has_on_the_disk(tmp_path: Path) -> None:
    machine = Machine()
    machine.written["uid"] = PodDisk(
        logs={"main": Written(100, 2)},
        layers={"main": Written(1000, 3)},
        volumes={"work": Written(10_000, 4), "token": Written(5, 1)},
        uncounted=["token"],
    )
    machine.pods = [replace(POD, memory_folders=(MemoryFolder("fast", tmp_path), MemoryFolder("gone", tmp_path / "x")))]
    (pod,) = (await machine.stats.summary())["pods"]
    (container,) = pod["containers"]
    assert written(container["rootfs"]) == (1000, 3)
    assert written(container["logs"]) == (100, 2)
    assert {one["name"]: written(one) for one in pod["volume"][:2]} == {"work": (10_000, 4), "token": (5, 1)}
    assert [one["name"] for one in pod["volume"][2:]] == ["fast"]
    assert written(pod["ephemeral-storage"]) == (11_100, 9)
    for told in (container["rootfs"], container["logs"], pod["ephemeral-storage"], *pod["volume"]):
        assert told["capacityBytes"] >= told["availableBytes"] > 0
        assert told["time"] == "2026-01-01T00:00:01Z"


async def test_files_that_take_long_to_count_are_not_counted_each_time(tmp_path: Path) -> None:
    machine = Machine()
    for counting, rest, reads in ((0.0, 1.0, 3), (2.0, 10.0, 1), (2.0, 45.0, 3), (60.0, 61.0, 3)):
        await machine.clock.advance(120)
        machine.counting_seconds, machine.reads_of_disks = counting, 0
        for _ in range(3):
            await machine.stats.summary()
            await machine.clock.advance(rest)
        assert machine.reads_of_disks == reads, counting


async def test_who_asks_while_files_are_counted_is_told_of_that_count() -> None:
    machine = Machine()
    machine.counting_seconds = 2.0
    machine.written["uid"] = PodDisk(logs={"main": Written(7, 1)})
    for summary in await asyncio.gather(machine.stats.summary(), machine.stats.summary()):
        assert summary["pods"][0]["ephemeral-storage"]["usedBytes"] == 7
    assert machine.reads_of_disks == 1


async def test_a_pod_that_has_come_since_is_counted_at_once() -> None:
    machine = Machine()
    machine.counting_seconds = 2.0
    await machine.stats.summary()
    machine.pods = [POD, replace(POD, uid="new")]
    machine.written["new"] = PodDisk(logs={"main": Written(7, 1)})
    _, new = (await machine.stats.summary())["pods"]
    assert new["ephemeral-storage"]["usedBytes"] == 7


async def test_the_node_tells_what_images_take_and_what_containers_have_changed_of_them(tmp_path: Path) -> None:
    machine = Machine()
    machine.images = ImageDisk(tmp_path, Written(5000, 0))
    machine.written["uid"] = PodDisk(layers={"main": Written(1000, 3)})
    runtime = (await machine.stats.summary())["node"]["runtime"]
    assert runtime["imageFs"]["usedBytes"] == 5000
    assert runtime["containerFs"]["usedBytes"] == 1000


async def test_who_wants_cpu_and_memory_only_waits_for_no_disk() -> None:
    machine = Machine()
    summary = await machine.stats.summary(cpu_and_memory_only=True)
    assert machine.reads_of_disks == 0
    assert set(summary["node"]) == {"nodeName", "startTime", "cpu", "memory"}
    (pod,) = summary["pods"]
    assert set(pod) == {"podRef", "startTime", "containers", "cpu", "memory"}
    assert set(pod["containers"][0]) == {"name", "startTime", "cpu", "memory"}


async def test_what_is_left_of_memory_is_told_where_there_is_a_limit(tmp_path: Path) -> None:
    machine = Machine()
    (tmp_path / "memory.max").write_text("5000\n")
    machine.group = Group("/kubepods/poduid/c1", {"": tmp_path})
    machine.written["uid"] = PodDisk()
    summary = await machine.stats.summary()
    assert summary["node"]["memory"]["availableBytes"] > 0
    ((container,),) = [pod["containers"] for pod in summary["pods"]]
    assert container["memory"]["availableBytes"] == 5000 - 2048
    assert "availableBytes" not in summary["pods"][0]["memory"]


def written(told: dict[str, Any]) -> tuple[int, int]:
    return told["usedBytes"], told["inodesUsed"]


def pressed(tmp_path: Path) -> Group:
    for name in ("cpu", "memory", "io"):
        some, full = (f"{what} avg10=1.50 avg60=0.50 avg300=0.00 total={total}\n" for what, total in TOTALS.items())
        (tmp_path / f"{name}.pressure").write_text(some + full)
    return Group("/kubepods/poduid/c1", {"": tmp_path})


TOTALS = {"some": 3_000_000, "full": 2_000_000}


async def test_how_long_tasks_have_waited_is_told(tmp_path: Path) -> None:
    """KubeletPSI, on since v1.34."""
    machine = Machine()
    machine.group = pressed(tmp_path)
    ((container,),) = [pod["containers"] for pod in (await machine.stats.summary())["pods"]]
    average = {"avg10": 1.5, "avg60": 0.5, "avg300": 0.0}
    psi = {name: {**average, "total": total} for name, total in TOTALS.items()}
    assert [container[name]["psi"] for name in ("cpu", "memory", "io")] == [psi] * 3
    assert container["io"] == {"time": container["cpu"]["time"], "psi": psi}


async def test_what_no_kernel_tells_of_waiting_is_not_told() -> None:
    ((container,),) = [pod["containers"] for pod in (await Machine().stats.summary())["pods"]]
    assert "io" not in container and "psi" not in container["cpu"]


async def test_cadvisor_tells_how_long_tasks_have_waited(tmp_path: Path) -> None:
    one = CAdvisor(tmp_path)
    one.machine.group = pressed(tmp_path)
    lines = await one.lines()
    stamp = int(one.machine.clock.now().timestamp() * 1000)
    named = 'id="/kubepods/poduid/c1",image="app:1",name="c1",namespace="default",pod="web-0"'
    for what, shown in (("cpu", "CPU"), ("memory", "memory"), ("io", "IO")):
        name = f"container_pressure_{what}"
        assert f'{name}_stalled_seconds_total{{container="main",{named}}} 2 {stamp}' in lines
        assert f'{name}_waiting_seconds_total{{container="main",{named}}} 3 {stamp}' in lines
        text = f"Total time duration tasks in the container have waited due to {shown} congestion."
        assert f"# HELP {name}_waiting_seconds_total {text}" in lines


async def test_prometheus_can_read_it() -> None:
    machine = Machine()
    await machine.clock.advance(10)
    lines = resource_metrics.render(await machine.stats.sample()).decode().splitlines()
    stamp = int(machine.clock.now().timestamp() * 1000)
    labels = 'namespace="default",pod="web-0"'
    assert "# TYPE container_cpu_usage_seconds_total counter" in lines
    assert f'container_cpu_usage_seconds_total{{container="main",{labels}}} 5 {stamp}' in lines
    assert f"pod_memory_working_set_bytes{{{labels}}} 4096 {stamp}" in lines
    assert f"node_cpu_usage_seconds_total 20 {stamp}" in lines
    assert f'container_start_time_seconds{{container="main",{labels}}} {START.timestamp():.15g}' in lines
    assert "resource_scrape_error 0" in lines


class CAdvisor:
    """What it would tell of the same machine."""

    def __init__(self, tmp_path: Path) -> None:
        self.machine = Machine()
        self.root = tmp_path

    async def lines(self) -> list[str]:
        await self.machine.clock.advance(10)
        sampled = await self.machine.stats.sample()
        return cadvisor_metrics.render(sampled, NodeMachine.read(self.root), self.root).decode().splitlines()


async def test_cadvisors_names_and_labels(tmp_path: Path) -> None:
    one = CAdvisor(tmp_path)
    one.machine.group = Group("/kubepods/poduid/c1", {})
    one.machine.counted = GroupUse(
        memory=Memory(usage=5000, working_set=2048, kills=1), disks=(DiskUse("8:99", read_bytes=512),), tasks=4
    )
    one.machine.networks = (InterfaceUse("eth0", Traffic(10, 1, 0, 0), Traffic(20, 2, 0, 0)),)
    lines = await one.lines()
    stamp = int(one.machine.clock.now().timestamp() * 1000)
    named = 'id="/kubepods/poduid/c1",image="app:1",name="c1",namespace="default",pod="web-0"'
    own = f'container="main",{named}'
    assert "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds." in lines
    assert f'container_cpu_usage_seconds_total{{container="main",cpu="total",{named}}} 5 {stamp}' in lines
    assert f"container_memory_working_set_bytes{{{own}}} 2048 {stamp}" in lines
    assert f"container_memory_usage_bytes{{{own}}} 5000 {stamp}" in lines
    assert f"container_oom_events_total{{{own}}} 1 {stamp}" in lines
    assert f"container_threads{{{own}}} 4 {stamp}" in lines
    assert f"container_start_time_seconds{{{own}}} {START.timestamp():.15g}" in lines
    assert f'container_fs_reads_bytes_total{{container="main",device="8:99",{named}}} 512 {stamp}' in lines
    pod = 'id="",image="",interface="eth0",name="",namespace="default",pod="web-0"'
    assert f'container_network_transmit_bytes_total{{container="",{pod}}} 20 {stamp}' in lines
    assert f"machine_cpu_cores{{{machine_labels(one.root)}}} {NodeMachine.read(one.root).cpus}" in lines


def machine_labels(root: Path) -> str:
    read = NodeMachine.read(root)
    return f'boot_id="{read.boot_id}",machine_id="{read.machine_id}",system_uuid="{read.system_uuid}"'


async def test_cadvisors_count_of_kills_is_ours_where_we_look_in_the_kernels_place(tmp_path: Path) -> None:
    one = CAdvisor(tmp_path)
    one.machine.memory_kills = 2
    (told,) = [line for line in await one.lines() if line.startswith("container_oom_events_total")]
    assert 'name="c1"' in told
    assert told.split()[1] == "2"


async def test_cadvisor_tells_nothing_of_what_no_kernel_has_counted(tmp_path: Path) -> None:
    told = {line.partition("{")[0] for line in await CAdvisor(tmp_path).lines() if not line.startswith("#")}
    assert "container_cpu_usage_seconds_total" in told
    assert not told & {"container_memory_rss", "container_cpu_cfs_periods_total", "container_fs_reads_total"}
