"""How long a stop waits for the parts of a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubecore import background_tasks
from kubecore import cluster as cluster_module
from kubecore.cluster import Cluster, ClusterConfig
from kubecore.kubelet.settings.kubelet_config import CriConfig


class Slow:
    """A part that ends when it is let, whatever it is told."""

    def __init__(self, cluster: Cluster) -> None:
        self.let = asyncio.Event()
        self.ready = asyncio.Event()
        self.ended = False
        cluster._run("slow", self)

    async def run(self) -> None:
        try:
            self.ready.set()
            await asyncio.Event().wait()
        finally:
            await self.let.wait()
            self.ended = True


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left for what ends with its process."""
    monkeypatch.setattr(cluster_module, "STOP_BUDGET_SECONDS", 0.0)


def of_runtime(tmp_path: Path) -> Cluster:
    return Cluster(ClusterConfig(data_dir=tmp_path, cri=CriConfig("unix:///nowhere")))


async def begun(cluster: Cluster) -> Slow:
    part = Slow(cluster)
    await part.ready.wait()
    return part


@pytest.mark.usefixtures("no_time")
async def test_no_part_is_waited_for_longer_than_its_budget(tmp_path: Path) -> None:
    cluster = Cluster(ClusterConfig(data_dir=tmp_path))
    part = await begun(cluster)
    await cluster.stop()
    assert not part.ended


@pytest.mark.usefixtures("no_time")
async def test_but_a_container_runtime_outside_gets_the_time_it_takes(tmp_path: Path) -> None:
    cluster = of_runtime(tmp_path)
    part = await begun(cluster)
    stopping = asyncio.create_task(cluster.stop())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not stopping.done()
    part.let.set()
    await stopping
    assert part.ended


async def test_unless_the_stop_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_tasks, "AFTER_CUT_SECONDS", 0.0)
    cluster = of_runtime(tmp_path)
    part = await begun(cluster)
    stopping = asyncio.create_task(cluster.stop())
    await asyncio.sleep(0)
    cluster.cut_stop()
    await stopping
    assert not part.ended


async def test_which_leaves_the_time_of_an_end_as_it_should_be(tmp_path: Path) -> None:
    cluster = of_runtime(tmp_path)
    part = await begun(cluster)
    cluster.cut_stop()
    stopping = asyncio.create_task(cluster.stop())
    for _ in range(20):
        await asyncio.sleep(0)
    part.let.set()
    await stopping
    assert part.ended
