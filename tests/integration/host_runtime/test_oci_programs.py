"""What is so only where a program such as runc starts containers, with real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubecore.kubelet.networks import loopback_ranges
from kubecore.kubelet.networks.network import LoopbackNetwork
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from kubecore.kubelet.runtime.oci_programs.seccomp_spec import runtime_default
from tests.integration.host_runtime.conftest import Node, make_program_node, processes, settled, until


@pytest.fixture
async def runtime(node: Node) -> ProgramRuntime:
    assert isinstance(node.runtime, ProgramRuntime)
    return node.runtime


@pytest.fixture
async def node(tmp_path: Path, programs_image: Path) -> AsyncIterator[Node]:
    network = LoopbackNetwork(loopback_ranges.pods_of(loopback_ranges.services_of(29), os.getpid() % 32))
    node = await make_program_node(tmp_path, network, programs_image, "programs")
    yield node
    await node.runtime.close()
    assert isinstance(node.runtime, ProgramRuntime)
    await node.runtime.monitor.close()
    network.close()


async def test_a_first_process_that_is_killed_ends_its_container_and_another_can_be_started(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    first = await node.start(sandbox, "sleep", "1000")
    os.kill(node.runtime.container_status(first).pid, signal.SIGKILL)
    ended = await node.end()
    assert (ended.id, ended.exit_code, ended.signal) == (first, 137, 9)
    assert await node.output(sandbox, "echo again") == "again"


async def test_nothing_of_it_outlives_its_runtime(node: Node, runtime: ProgramRuntime) -> None:
    sandbox, _ = await node.sandbox()
    marker = f"4{os.getpid()}"
    await node.start(sandbox, "sleep", marker)
    await until(lambda: processes(marker) != [])
    await runtime.monitor.close()
    assert await settled(lambda: processes(marker) == [])
    assert (await node.end()).exit_code == 137


async def test_a_monitor_that_is_killed_takes_its_containers_along_and_another_one_comes(
    node: Node, runtime: ProgramRuntime
) -> None:
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "sleep", "1000")
    os.kill(runtime.monitor.pid, signal.SIGKILL)
    assert (await node.end()).exit_code == 137
    assert await node.output(sandbox, "echo again") == "again"


async def test_a_removed_pod_leaves_no_state_of_the_program(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "sleep", "1000")
    assert list(node.root.glob("pod*/oci-runtime/*"))
    await node.runtime.remove_pod_sandbox(sandbox)
    assert not list(node.root.glob("pod*/oci-runtime"))
    assert not list(node.root.glob("pod*/scratch/*"))


def test_known_personalities_pass_the_default_filter_and_others_do_not() -> None:
    rules = [one["args"][0] for one in runtime_default(frozenset())["syscalls"] if one["names"] == ["personality"]]

    def refused(value: int) -> bool:
        return any(value & one["value"] == one["valueTwo"] for one in rules)

    assert not any(map(refused, (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)))
    assert all(map(refused, (0x1, 0x40000, 0x0040000, 0xFFFFFFF7, 0xFFFDFFFF, 0x80000000, 0x20009)))
