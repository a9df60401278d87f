# ruff: noqa: ASYNC240
"""What containers of the host runtime are limited to, by the control groups of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.cgroups import detection, limits, v1
from kubecore.kubelet.cgroups.interface import Cgroups, Limits
from kubecore.kubelet.pods.pod_cgroups import PodCgroups
from kubecore.kubelet.runtime.cri.runtime import CriRuntime
from kubecore.kubelet.runtime.interface import ContainerState
from kubecore.kubelet.serving.usage import RunningContainer, RunningPod, UsageReader
from tests.integration.host_runtime.conftest import Node, cgroups_named, processes, settled, until

MEBI = 1024 * 1024
POD = "podtest"


@pytest.fixture
async def cgroups(node: Node) -> AsyncIterator[Cgroups]:
    found = detection.detect(f"test-{os.getpid()}")
    if isinstance(node.runtime, CriRuntime) and isinstance(found.cgroups, v1.CgroupsV1):
        found = detection.Detection(at_one_path(found.cgroups), "")
    if found.cgroups is None:
        pytest.skip(found.reason)
    found.cgroups.make(POD, Limits(1024), inner=True)
    node.use(found.cgroups)
    yield found.cgroups
    for sandbox in node.runtime.list_pod_sandboxes():  # a group goes when nobody is in it any more
        await node.runtime.remove_pod_sandbox(sandbox.id)
    found.cgroups.close()


def at_one_path(cgroups: v1.CgroupsV1) -> v1.CgroupsV1:
    """A container runtime can be told but one for all hierarchies; this process may be in different groups of them."""
    cgroups.close()
    hierarchies = detection.list_hierarchies(Path("/proc/self"))
    name = f"kubecore-test-{os.getpid()}/kubepods"
    found = v1.CgroupsV1(
        {controller: one.mount / name for one in hierarchies for controller in one.controllers & {*v1.CONTROLLERS}}
    )
    found.start()
    return found


def groups() -> list[Path]:
    """All that is left of this test's."""
    return cgroups_named(f"kubecore-test-{os.getpid()}/*")


async def test_a_container_that_takes_more_memory_than_it_may_is_killed_and_says_why(
    node: Node, cgroups: Cgroups
) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    script = "head -c 100000000 /dev/zero | tail > /dev/null"
    await node.start(sandbox, "/bin/sh", "-c", script, limits=Limits(memory=16 * MEBI))
    status = await node.end()
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 137, "OOMKilled")


async def test_a_container_that_stays_within_its_limits_ends_as_it_likes(node: Node, cgroups: Cgroups) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    await node.start(sandbox, "/bin/sh", "-c", "exit 3", limits=Limits(memory=64 * MEBI))
    status = await node.end()
    assert (status.exit_code, status.reason) == (3, "")


async def test_a_fork_bomb_stays_within_the_limit_of_processes(node: Node, cgroups: Cgroups) -> None:
    # A container runtime's own processes count, too, with all their threads, while a container starts and is stopped.
    cgroups.limit(POD, Limits(1024, pids=64))
    sandbox, _ = await node.sandbox(cgroup=POD)
    marker = f"5{os.getpid()}{node.pods}"
    log = node.root / "bomb.log"
    script = f"for i in $(seq 120); do sleep {marker} & done; wait"
    container = await node.start(sandbox, "/bin/sh", "-c", script, log_path=log)
    await until(lambda: b"fork" in log.read_bytes())
    assert len(processes(marker)) <= 64
    await node.runtime.stop_container(container, 0)


async def test_limits_hold_for_commands_in_a_container_and_may_be_changed(node: Node, cgroups: Cgroups) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000", limits=Limits(512, 50_000, 32 * MEBI))
    marker = f"6{os.getpid()}{node.pods}"
    command = asyncio.create_task(node.runtime.exec_sync(container, ["sleep", marker], 60))
    await until(lambda: bool(processes(marker)))
    (pid,) = processes(marker)
    assert f"{POD}/{container}" in Path(f"/proc/{pid}/cgroup").read_text()
    os.kill(pid, signal.SIGKILL)
    await command
    await node.runtime.update_container_limits(container, Limits(512, 50_000, 48 * MEBI))
    written = [one.read_text().strip() for one in limit_files(container)]
    assert written == [str(48 * MEBI)]


def limit_files(container: str) -> list[Path]:
    names = ("memory.limit_in_bytes", "memory.max")
    return [one / name for one in cgroups_named(f"{POD}/{container}") for name in names if (one / name).exists()]


async def test_a_pod_and_its_container_are_resized_up_and_down(node: Node, cgroups: Cgroups) -> None:
    def pod(cpu: str) -> dict[str, Any]:
        container = {"name": "main", "resources": {"limits": {"cpu": cpu, "memory": "64Mi"}}}
        return {"metadata": {"uid": "resized"}, "spec": {"containers": [container]}}

    def of_container(cpu: str) -> Limits:
        return limits.of_container(pod(cpu)["spec"]["containers"][0], {})

    pods = PodCgroups(cgroups, "")
    path = pods.make(pod("500m"))
    sandbox, _ = await node.sandbox(cgroup=path)
    container = await node.start(sandbox, "sleep", "1000", limits=of_container("500m"))
    for cpu, quota in (("700m", "70000"), ("300m", "30000")):
        pods.widen(pod(cpu))
        await node.runtime.update_container_limits(container, of_container(cpu))
        pods.limit(pod(cpu))
        assert {name: {one.split()[0] for one in quotas(name)} for name in ("podresized", container)} == {
            "podresized": {quota},
            container: {quota},
        }


def quotas(group: str) -> list[str]:
    names = ("cpu.cfs_quota_us", "cpu.max")
    return [(one / name).read_text() for one in cgroups_named(group) for name in names if (one / name).exists()]


async def test_what_containers_and_pods_have_used_is_read_from_their_own_groups(node: Node, cgroups: Cgroups) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    # What the child has used is not lost with it, nor is it that of the command that runs.
    script = "/bin/sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; echo done; sleep 1000"
    log = node.root / "busy.log"
    container = await node.start(sandbox, "/bin/sh", "-c", script, log_path=log, limits=Limits(512, None, 64 * MEBI))
    await until(lambda: b"done" in log.read_bytes())
    status = node.runtime.container_status(container)
    one = RunningContainer("main", container, status.pid, status.created_at)
    found = UsageReader()([RunningPod("default", "pod", POD.removeprefix("pod"), (one,))])
    own, pod = found[container], found[POD.removeprefix("pod")]
    assert own.group is not None and own.group.name.endswith(f"{POD}/{container}")
    assert own.group.limits().memory == 64 * MEBI
    assert own.counted.memory is not None
    assert own.memory == own.counted.memory.working_set <= 64 * MEBI
    assert (own.counted.cpu, own.processes) == (own.cpu, own.counted.processes)
    assert pod.group is not None and pod.group.name.endswith(POD)
    assert pod.cpu >= own.cpu > 10_000_000


async def test_nothing_is_left_of_the_groups_of_what_has_ended(node: Node, cgroups: Cgroups) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000")
    assert groups()
    await node.runtime.remove_pod_sandbox(sandbox)
    assert not [one for one in groups() if container in one.name]
    cgroups.remove(POD)
    cgroups.close()
    assert groups() == []


@pytest.mark.usefixtures("own_processes")
async def test_the_next_start_ends_what_is_left_in_the_groups_of_a_dead_run(node: Node, cgroups: Cgroups) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    marker = f"4{os.getpid()}{node.pods}"
    await node.start(sandbox, "sleep", marker)
    cgroups.start()
    assert (await node.end()).signal == 9
    assert await settled(lambda: processes(marker) == [])


def test_a_node_removes_the_groups_of_dead_nodes_and_leaves_those_of_living_ones() -> None:
    names = [f"test-{os.getpid()}-{name}" for name in ("living", "dead", "new")]
    living = detection.detect(names[0]).cgroups
    if living is None:
        pytest.skip(detection.detect(names[0]).reason)
    groups = cgroups_named(f"kubecore-{names[0]}/kubepods")
    dead = [one.parent.parent / f"kubecore-{names[1]}/kubepods" for one in groups]
    for folder in dead:
        folder.mkdir(parents=True)
        os.utime(folder.parent, (0, 0))
    new = detection.detect(names[2]).cgroups
    assert new is not None
    assert [one for one in dead if one.exists()] == []
    living.make(POD, Limits(), inner=True)
    for cgroups in (living, new):
        cgroups.close()
    assert cgroups_named(f"kubecore-test-{os.getpid()}-*") == []
