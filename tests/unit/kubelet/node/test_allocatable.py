"""All pods of a node together have what the node has for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.kubelet.cgroups import detection
from kubecore.kubelet.cgroups.interface import CgroupError, Limits
from kubecore.kubelet.node import allocatable
from kubecore.kubelet.node.node import Machine
from tests.unit.kubelet.conftest import Node
from tests.unit.kubelet.pods.test_resizing import Kernel

GIB = 1024**3


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(4, 8 * GIB, 0, "", "", "", "", "", "", "")


def test_pods_have_what_is_not_reserved(machine: Machine) -> None:
    reserved = {"cpu": 500 * 10**6, "memory": GIB * 10**9}
    assert allocatable.of_all_pods(machine, reserved) == Limits(3584, memory=7 * GIB, swap=True)
    assert allocatable.of_all_pods(machine, {"memory": 9 * GIB * 10**9}).memory == 0


def test_process_ids_are_limited_where_some_are_reserved(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pid_max").write_text("4000\n")
    monkeypatch.setattr(allocatable, "_MOST_PIDS", tmp_path / "pid_max")
    assert allocatable.of_all_pods(machine, {"pid": 1000 * 10**9}).pids == 3000
    assert allocatable.of_all_pods(machine, {}).pids is None


class Whole(Kernel):
    """`given`: what all pods together have. `busy`: how often that cannot be changed."""

    def __init__(self, busy: int = 0) -> None:
        super().__init__()
        self.given: list[Limits] = []
        self.busy = busy

    def limit(self, path: str, limits: Limits) -> None:
        if path:
            super().limit(path, limits)
        elif self.busy:
            self.busy -= 1
            raise CgroupError("kubepods/memory.limit_in_bytes: device or resource busy")
        else:
            self.given.append(limits)


async def start(node: Node, kernel: Whole, monkeypatch: pytest.MonkeyPatch, *, enforced: bool = True) -> None:
    monkeypatch.setattr(detection, "detect", lambda mark, join: detection.Detection(kernel, ""))  # type: ignore[arg-type]
    await node.start(cgroups=True, reserved={"memory": GIB * 10**9}, enforce_allocatable=enforced)


@pytest.mark.parametrize("enforced", [True, False])
async def test_a_kubelet_enforces_it_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enforced: bool
) -> None:
    node, kernel = Node(tmp_path), Whole()
    await start(node, kernel, monkeypatch, enforced=enforced)
    there = node.kubelet.machine.memory
    assert [one.memory for one in kernel.given] == [there - GIB if enforced else there]
    assert node.events("NodeAllocatableEnforced") == ["Updated Node Allocatable limit across pods"]
    await node.stop()


async def test_what_the_kernel_refuses_is_told_and_tried_again_a_minute_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, kernel = Node(tmp_path), Whole(busy=1)
    await start(node, kernel, monkeypatch)
    assert node.events("FailedNodeAllocatableEnforcement") == [
        'Failed to update Node Allocatable Limits ["kubepods"]: kubepods/memory.limit_in_bytes: device or resource busy'
    ]
    assert kernel.given == []
    await node.settle(60)
    assert len(kernel.given) == len(node.events("NodeAllocatableEnforced")) == 1
    await node.stop()
