"""Pods of a node that is short of something, and pods that take more disk than they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.eviction import machine
from kubecore.kubelet.eviction.manager import EvictionConfig
from kubecore.kubelet.eviction.thresholds import Observation, parse
from kubecore.kubelet.pods.disks import written_in
from kubecore.kubelet.runtime.interface import RuntimeFailure, Written
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]
PLENTY = {"memory.available": Observation(1000, 1000), "nodefs.available": Observation(1000, 1000)}

LIMITS = parse(
    "memory.available<100,nodefs.available<100,nodefs.inodesFree<100", "memory.available<500", "memory.available=1m"
)
EVICTION = EvictionConfig(LIMITS, most_grace_seconds=5.0)


class Machine:
    """What the node finds."""

    def __init__(self) -> None:
        self.seen: dict[str, Observation] = dict(PLENTY)

    def observe(self, root: Path) -> Mapping[str, Observation]:
        return self.seen

    def short(self, signal: str, available: int = 1) -> None:
        self.seen[signal] = Observation(available, 1000)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine()
    monkeypatch.setattr(machine, "observe", one.observe)
    return one


@pytest.fixture
async def node(tmp_path: Path, found: Machine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        """Threads know nothing of virtual time, which would go on without them."""
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    one = Node(tmp_path)
    await one.start(eviction=EVICTION)
    one.kubelet._eviction._observe = found.observe
    yield one
    await one.stop()


def pressure(node: Node, kind: str = "MemoryPressure") -> tuple[str, str]:
    told = node.api.get("nodes", "node")
    assert told is not None
    found = next(one for one in told["status"]["conditions"] if one["type"] == kind)
    return found["status"], found["reason"]


async def test_a_pod_goes_when_memory_is_short_and_says_that_it_was_not_its_fault(node: Node, found: Machine) -> None:
    await node.run(name="important", priority=5)
    await node.run(name="other")
    found.short("memory.available")
    await node.settle(10)
    status = node.status("other")
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert status["message"].startswith("The node was low on resource: memory. Threshold quantity: 100, available: 1. ")
    assert node.condition("DisruptionTarget", "other")["reason"] == "TerminationByKubelet"
    assert node.status("important")["phase"] == "Running"
    assert pressure(node) == ("True", "KubeletHasInsufficientMemory")
    assert "Attempting to reclaim memory" in node.events("EvictionThresholdMet")
    assert node.events("NodeHasInsufficientMemory")


async def test_a_condition_holds_for_five_minutes_after_it_was_last_found(node: Node, found: Machine) -> None:
    found.short("nodefs.available")
    await node.settle(10)
    found.seen = dict(PLENTY)
    await node.settle(250)
    assert pressure(node, "DiskPressure") == ("True", "KubeletHasDiskPressure")
    await node.settle(60)
    assert pressure(node, "DiskPressure") == ("False", "KubeletHasNoDiskPressure")


async def test_each_turn_of_a_condition_is_told_once_be_it_by_the_next_kubelet(node: Node, found: Machine) -> None:
    found.short("nodefs.available")
    await node.settle(30)
    await node.kill()
    await node.start(eviction=EVICTION)
    node.kubelet._eviction._observe = found.observe
    await node.settle(30)
    told = [one.rpartition(" ")[2] for one in node.events() if "DiskPressure" in one]
    assert told == ["NodeHasNoDiskPressure", "NodeHasDiskPressure"] * 2


async def test_a_soft_threshold_must_be_met_for_its_grace_period(node: Node, found: Machine) -> None:
    await node.run()
    found.short("memory.available", 400)
    await node.settle(50)
    assert node.status()["phase"] == "Running"
    assert pressure(node)[0] == "True"
    await node.settle(30)
    assert node.status()["reason"] == "Evicted"


async def test_a_node_under_pressure_takes_no_pod_that_asks_for_nothing(node: Node, found: Machine) -> None:
    found.short("memory.available")
    await node.settle(10)
    await node.run(name="nothing")
    await node.run(container(resources={"requests": {"memory": "1Mi"}}), name="something")
    assert node.status("nothing")["reason"] == "Evicted"
    assert node.status("nothing")["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "
    assert node.status("something")["phase"] == "Running"


async def test_where_inodes_are_short_who_has_most_files_goes_first(node: Node, found: Machine) -> None:
    for name, files in (("few", 2), ("many", 50)):
        await node.run(name=name, volumes=[{"name": "data", "emptyDir": {}}])
        folder = node.root / "pods" / node.pod(name)["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/data"
        for number in range(files):
            (folder / str(number)).touch()
        (folder / "large").write_bytes(b"x" * (1 << 20 if name == "few" else 1))
    found.seen |= {"nodefs.inodesFree": Observation(5, 1000)}
    await node.settle(10)
    assert node.status("few")["phase"] == "Running"
    assert node.status("many")["message"] == (
        "The node was low on resource: inodes. Threshold quantity: 100, available: 5. "
    )


async def test_a_volume_that_holds_more_than_it_may_ends_its_pod(node: Node) -> None:
    volumes = [{"name": "data", "emptyDir": {"sizeLimit": "64Ki"}}]
    await node.run(volumes=volumes)
    uid = node.pod()["metadata"]["uid"]
    folder = node.root / "pods" / uid / "volumes/kubernetes.io~empty-dir/data"
    (folder / "file").write_bytes(b"x" * 1024)
    await node.settle(10)
    assert node.status()["phase"] == "Running"
    (folder / "file").write_bytes(b"x" * 100 * 1024)
    await until_evicted(node)
    assert node.status()["message"] == 'Usage of EmptyDir volume "data" exceeds the limit "64Ki". '


async def test_a_pod_that_writes_more_than_its_containers_may_is_ended(node: Node) -> None:
    limits = {"limits": {"ephemeral-storage": "64Ki"}}
    await node.run(container(resources=limits), volumes=[{"name": "data", "emptyDir": {}}])
    uid = node.pod()["metadata"]["uid"]
    (node.root / "pods" / uid / "volumes/kubernetes.io~empty-dir/data/file").write_bytes(b"x" * 100 * 1024)
    await until_evicted(node)
    assert node.status()["message"] == "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. "


async def test_what_a_container_changes_of_its_image_counts(node: Node) -> None:
    limits = {"limits": {"ephemeral-storage": "64Ki"}}
    await node.run(container(resources=limits))
    container_id = node.status()["containerStatuses"][0]["containerID"].partition("://")[2]
    own = node.root / "pods" / node.pod()["metadata"]["uid"] / "scratch" / container_id[:12] / "image/upper"
    own.mkdir(parents=True)
    (own / "file").write_bytes(b"x" * 100 * 1024)
    await until_evicted(node)
    assert node.status()["message"] == "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. "


async def test_it_counts_where_only_the_runtime_knows_it(node: Node) -> None:
    limits = {"limits": {"ephemeral-storage": "64Ki"}}
    await node.run(container(resources=limits))
    container_id = node.status()["containerStatuses"][0]["containerID"].partition("://")[2]
    node.runtime.layers = {container_id: Written(100 * 1024, 1)}
    await until_evicted(node)
    assert node.status()["message"] == "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. "


async def test_a_runtime_that_does_not_tell_keeps_no_other_limit(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent() -> dict[str, Written]:
        raise RuntimeFailure("RuntimeNotReady", "it does not answer")

    monkeypatch.setattr(node.runtime, "written_layers", silent)
    await node.run(volumes=[{"name": "data", "emptyDir": {"sizeLimit": "64Ki"}}])
    uid = node.pod()["metadata"]["uid"]
    (node.root / "pods" / uid / "volumes/kubernetes.io~empty-dir/data/file").write_bytes(b"x" * 100 * 1024)
    await until_evicted(node)
    assert node.status()["message"] == 'Usage of EmptyDir volume "data" exceeds the limit "64Ki". '


async def test_secrets_and_what_is_in_memory_count_for_no_limit(node: Node) -> None:
    node.api.add("secrets", {"metadata": {"name": "large"}, "data": {"file": "eHh4eA==" * 20_000}})
    await node.run(
        container(resources={"limits": {"ephemeral-storage": "64Ki"}}),
        volumes=[
            {"name": "secret", "secret": {"secretName": "large"}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    )
    uid = node.pod()["metadata"]["uid"]
    (node.root / "pods" / uid / "volumes/kubernetes.io~empty-dir/memory/file").write_bytes(b"x" * 100 * 1024)
    await node.settle(10)
    assert node.status()["phase"] == "Running"


async def test_a_container_that_writes_more_than_its_own_limit_ends_its_pod(node: Node) -> None:
    """Though all of them together may write as much."""
    await node.run(
        container("small", resources={"limits": {"ephemeral-storage": "64Ki"}}),
        container("large", resources={"limits": {"ephemeral-storage": "1Mi"}}),
    )
    pod = node.pod()["metadata"]
    log = node.root / "var/log/pods" / f"default_{pod['name']}_{pod['uid']}" / "small/0.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"x" * 100 * 1024)
    await until_evicted(node)
    assert node.status()["message"] == 'Container small exceeded its local ephemeral storage limit "64Ki". '


async def until_evicted(node: Node) -> None:
    await node.settle(10)
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "Evicted")


def test_a_file_counts_once_however_many_names_it_has(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 8192)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert 8192 <= written_in(tmp_path).bytes < 16384
    assert written_in(tmp_path).inodes == 2
