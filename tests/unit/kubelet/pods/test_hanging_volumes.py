"""A volume whose server does not answer: what waits for it is given up once its pod is to end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from kubecore.clock import RealClock
from kubecore.kubelet.volumes import manager
from kubecore.kubelet.volumes.manager import VolumeManager
from tests.unit.kubelet.conftest import Node

VOLUMES = [{"name": "data", "emptyDir": {}}]


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Volumes are ready once it is set."""
    answers, set_up = asyncio.Event(), VolumeManager.set_up

    async def hang(self: VolumeManager, *arguments: Any) -> Any:
        await answers.wait()
        return await set_up(self, *arguments)

    monkeypatch.setattr(VolumeManager, "set_up", hang)
    return answers


async def test_a_pod_goes_though_its_volume_never_comes(node: Node, hung: asyncio.Event) -> None:
    await node.run(volumes=VOLUMES)
    await node.delete()
    assert node.api.get("pods", "pod") is None
    assert list((node.root / "pods").iterdir()) == []


async def test_the_deadline_of_a_pod_is_kept_though_its_volume_never_comes(node: Node, hung: asyncio.Event) -> None:
    await node.run(volumes=VOLUMES, activeDeadlineSeconds=60)
    await node.settle(125)
    assert node.status()["reason"] == "DeadlineExceeded"


async def test_a_volume_that_comes_late_is_used(node: Node, hung: asyncio.Event) -> None:
    await node.run(volumes=VOLUMES)
    for seconds in (1, 400):
        await node.settle(seconds)
        assert node.container()["state"] == {"waiting": {"reason": "ContainerCreating"}}
    hung.set()
    await node.settle()
    assert node.status()["phase"] == "Running"


async def test_who_asks_again_for_a_volume_waits_for_the_thread_that_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: list[dict[str, str]] = []
    looking, answers = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def look(source: dict[str, str]) -> Path:
        looks.append(source)
        loop.call_soon_threadsafe(looking.set)
        answers.wait(60)
        return Path(source["path"])

    monkeypatch.setattr(manager, "_host_path", look)
    volumes = VolumeManager(tmp_path, RealClock())
    pod = {"metadata": {"uid": "1"}, "spec": {"volumes": [{"name": "data", "hostPath": {"path": "/far"}}]}}
    around: Any = None
    for _ in range(3):
        asked = asyncio.create_task(volumes.set_up(pod, around))
        await looking.wait()
        asked.cancel()
        await asyncio.wait([asked])
    asked = asyncio.create_task(volumes.set_up(pod, around))
    answers.set()
    assert (await asked)["data"].path == Path("/far")
    assert looks == [{"path": "/far"}]
