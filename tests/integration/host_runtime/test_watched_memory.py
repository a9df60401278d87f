"""Limits on memory where no cgroup enforces them: real processes that take more than they may."""

from __future__ import annotations

import os

import pytest

from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.runtime.interface import ContainerState, MemoryDirectory, Mount
from tests.integration.host_runtime.conftest import Node, processes, settled, until

MEBI = 1024 * 1024
pytestmark = pytest.mark.usefixtures("own_processes")


@pytest.fixture(autouse=True)
def watched(node: Node) -> None:
    node.watch_memory()


def take(mebi: int) -> str:
    """A script with a process that has so much in memory, and waits for somebody to read it."""
    return f"head -c {mebi}m /dev/zero | tail -c {mebi}m | sleep 1000"


async def test_a_container_that_takes_more_memory_than_it_may_is_killed_and_says_why(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "/bin/sh", "-c", take(200), limits=Limits(memory=48 * MEBI))
    status = await node.end()
    assert (status.state, status.exit_code, status.signal) == (ContainerState.EXITED, 137, 9)
    assert status.reason == "OOMKilled"


async def test_nothing_is_left_of_a_container_that_was_killed(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    marker = f"3{os.getpid()}{node.pods}"
    script = f"sleep {marker} & setsid sleep {marker} & {take(200)}"
    await node.start(sandbox, "/bin/sh", "-c", script, limits=Limits(memory=48 * MEBI))
    assert (await node.end()).reason == "OOMKilled"
    assert await settled(lambda: processes(marker) == [])


async def test_a_container_that_stays_within_its_limit_ends_as_it_likes(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "/bin/sh", "-c", "sleep 1; exit 3", limits=Limits(memory=64 * MEBI))
    status = await node.end()
    assert (status.exit_code, status.reason) == (3, "")


async def test_a_container_without_a_limit_takes_what_it_likes(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "sleep", "1000", limits=Limits(memory=64 * MEBI))
    script = "head -c 200m /dev/zero | tail -c 200m > /dev/null; sleep 1; exit 4"
    await node.start(sandbox, "/bin/sh", "-c", script, name="free")
    status = await node.end()
    assert (status.name, status.exit_code, status.reason) == ("free", 4, "")


async def test_a_command_in_a_container_counts_as_its_own(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000", limits=Limits(memory=48 * MEBI))
    result = await node.runtime.exec_sync(container, ["/bin/sh", "-c", take(200)], 60)
    assert result.exit_code == 137
    assert (await node.end()).reason == "OOMKilled"


async def test_a_limit_may_be_changed_while_the_container_runs(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "taking.log"
    script = "echo begins; head -c 100m /dev/zero | tail -c 100m | (head -c 1 > /dev/null; echo has; exec sleep 1000)"
    container = await node.start(sandbox, "/bin/sh", "-c", script, log_path=log, limits=Limits(memory=400 * MEBI))
    await until(lambda: b" has" in log.read_bytes())
    await node.runtime.update_container_limits(container, Limits(memory=48 * MEBI))
    assert (await node.end()).reason == "OOMKilled"


async def test_a_pods_containers_have_no_more_together_than_it_may(node: Node) -> None:
    sandbox, _ = await node.sandbox(limits=Limits(memory=150 * MEBI))
    await node.start(sandbox, "sleep", "1000", name="idle")
    large = await node.start(sandbox, "/bin/sh", "-c", take(300), name="large")
    status = await node.end()
    assert (status.id, status.reason) == (large, "OOMKilled")
    await node.runtime.update_pod_sandbox_limits(sandbox, Limits())
    script = "head -c 300m /dev/zero | tail -c 300m > /dev/null; sleep 1; exit 5"
    await node.start(sandbox, "/bin/sh", "-c", script, name="again")
    assert (await node.end()).exit_code == 5


async def test_files_in_memory_count(node: Node, isolated: Node) -> None:
    folder = node.root / "memory"
    folder.mkdir()
    sandbox, _ = await node.sandbox(memory_directories=(MemoryDirectory(folder, 400 * MEBI),))
    await node.start(
        sandbox,
        "/bin/sh",
        "-c",
        "head -c 200m /dev/zero > /memory/file; sleep 1000",
        mounts=(Mount(folder, "/memory", in_memory=True),),
        limits=Limits(memory=48 * MEBI),
    )
    assert (await node.end()).reason == "OOMKilled"


async def test_where_one_process_is_to_be_killed_the_others_go_on(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "one.log"
    script = (
        "/bin/sh -c 'kept=$(seq 9000000); sleep 1000; exit';"  # which is not its last, and not run in its place
        " trap 'exit 7' TERM; echo goes on; while :; do sleep 0.1; done"
    )
    limits = Limits(memory=400 * MEBI, together=False)
    container = await node.start(sandbox, "/bin/sh", "-c", script, log_path=log, limits=limits)
    assert node.runtime.container_status(container).memory_kills == 0
    await node.runtime.update_container_limits(container, Limits(memory=32 * MEBI, together=False))
    await until(lambda: b"goes on" in log.read_bytes())
    await until(lambda: node.runtime.container_status(container).memory_kills == 1)
    assert node.runtime.container_status(container).state is ContainerState.RUNNING
    await node.runtime.stop_container(container, 60)
    status = await node.end()
    assert (status.exit_code, status.reason) == (7, "OOMKilled")
