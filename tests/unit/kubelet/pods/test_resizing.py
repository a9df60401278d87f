"""Pods that are resized while they run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from kubecore.kubelet.cgroups import detection
from kubecore.kubelet.cgroups.interface import CgroupError, Limits, Places
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.serving.usage import MemoryUse, RunningPod, UsageReader
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]


def sized(cpu: str, **fields: Any) -> Object:
    asked = {"cpu": cpu, "memory": "1Mi"}
    return container(resources={"requests": asked, "limits": asked}, **fields)


async def resize(node: Node, wanted: Object) -> None:
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [wanted]})
    await node.settle()


def conditions(node: Node) -> list[tuple[str, str]]:
    found = [one for one in node.status()["conditions"] if one["type"].startswith("PodResize")]
    return [(one["type"], one.get("reason", "")) for one in found]


def amounts(node: Node) -> tuple[str, str]:
    """CPU that the container has been granted, and that it has."""
    told = node.container()
    return told["allocatedResources"]["cpu"], told["resources"]["limits"]["cpu"]


BUSY = RuntimeFailure("UpdateContainerError", "device or resource busy")


async def test_a_running_container_gets_other_limits_and_is_not_restarted(node: Node) -> None:
    await node.run(sized("10m"))
    await resize(node, sized("20m"))
    assert node.runtime.limits["main"] == Limits(20, 2000, 1024 * 1024)
    assert node.container()["resources"]["limits"]["cpu"] == "20m"
    assert node.container()["allocatedResources"]["cpu"] == "20m"
    assert (node.container()["restartCount"], conditions(node)) == (0, [])
    assert len(node.events("ResizeStarted")) == len(node.events("ResizeCompleted")) == 1


async def test_a_container_whose_limits_stay_is_left_alone(node: Node) -> None:
    await node.run(sized("10m"), sized("30m", name="other"))
    spec = {**node.pod()["spec"], "containers": [sized("20m"), sized("30m", name="other")]}
    node.api.change("pods", "pod", spec=spec)
    await node.settle()
    assert set(node.runtime.limits) == {"main"}


async def test_a_container_whose_policy_says_so_is_restarted_with_its_new_limits(node: Node) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    await node.run(sized("10m", resizePolicy=policy))
    await resize(node, sized("20m", resizePolicy=policy))
    await node.settle(60)
    assert node.runtime.config("main").limits.cpu_quota == 2000
    assert node.container()["restartCount"] == 1


async def test_what_no_node_of_this_size_can_give_is_infeasible_and_the_old_limits_stay(node: Node) -> None:
    await node.run(sized("10m"))
    await resize(node, sized("1000"))
    assert conditions(node) == [("PodResizePending", "Infeasible")]
    assert node.container()["resources"]["limits"]["cpu"] == "10m"
    assert node.runtime.limits == {}
    await resize(node, sized("10m"))
    assert conditions(node) == []


async def test_what_others_have_taken_is_deferred_until_they_are_gone(node: Node) -> None:
    free = int(node.api.get("nodes", "node")["status"]["allocatable"]["cpu"])  # type: ignore[index]
    await node.run(sized("10m"), name="pod")
    await node.run(sized(str(free - 1)), name="other")
    await resize(node, sized(f"{free}"))
    assert conditions(node) == [("PodResizePending", "Deferred")]
    await node.delete("other")
    await node.settle(31)
    assert conditions(node) == []
    assert node.container()["resources"]["limits"]["cpu"] == str(free)


async def test_a_resize_that_the_kernel_refuses_is_told_and_tried_again(node: Node) -> None:
    await node.run(sized("10m"))
    node.runtime.fail_update.append(BUSY)
    await resize(node, sized("20m"))
    assert conditions(node) == [("PodResizeInProgress", "Error")]
    assert node.condition("PodResizeInProgress")["message"] == "device or resource busy"
    assert amounts(node) == ("20m", "10m")
    await node.settle(10)
    assert conditions(node) == []
    assert amounts(node) == ("20m", "20m")
    assert node.runtime.limits["main"].cpu_quota == 2000
    assert len(node.events("ResizeStarted")) == len(node.events("ResizeCompleted")) == 1


RESTARTED: Object = {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}


async def test_a_container_that_could_not_be_stopped_for_its_restart_is_stopped_later(node: Node) -> None:
    await node.run(sized("10m", **RESTARTED))
    node.runtime.fail_stop["main"] = [RuntimeFailure("KillContainerError", "it hangs")]
    await resize(node, sized("20m", **RESTARTED))
    assert (conditions(node), amounts(node)) == ([("PodResizeInProgress", "Error")], ("20m", "10m"))
    await node.settle(10)
    assert (conditions(node), amounts(node)) == ([], ("20m", "20m"))
    assert node.container()["restartCount"] == 1


async def test_a_resize_goes_on_for_as_long_as_a_container_takes_to_end(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run(sized("10m", **RESTARTED))
    await resize(node, sized("20m", **RESTARTED))
    assert (conditions(node), amounts(node)) == ([("PodResizeInProgress", "")], ("20m", "10m"))
    await node.settle(30)
    assert (conditions(node), amounts(node)) == ([], ("20m", "20m"))


async def test_what_was_granted_is_carried_out_though_more_is_asked_for(node: Node) -> None:
    await node.run(sized("10m"))
    node.runtime.fail_update.append(BUSY)
    await resize(node, sized("20m"))
    await resize(node, sized("1000"))
    await node.settle(10)
    assert conditions(node) == [("PodResizePending", "Infeasible")]
    assert amounts(node) == ("20m", "20m")


# ---- memory that is in use


def in_memory(limit: str | None, name: str = "main", **fields: Any) -> Object:
    amount = {"memory": limit} if limit else {}
    return container(name, resources={"requests": {"cpu": "10m"}, "limits": amount}, **fields)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that containers have, by name; the pod has them all."""
    found: dict[str, int] = {}

    async def memory_of(reader: UsageReader, pod: RunningPod) -> MemoryUse:
        assert {one.name for one in pod.containers} >= found.keys()
        return MemoryUse(found, sum(found.values()) if found else None)

    monkeypatch.setattr(UsageReader, "memory_of", memory_of)
    return found


async def test_no_memory_limit_is_lowered_below_what_there_is(used: dict[str, int], node: Node) -> None:
    await node.run(in_memory("4096"))
    used["main"] = 2048
    await resize(node, in_memory("2048"))
    assert conditions(node) == [("PodResizeInProgress", "Error")]
    assert node.condition("PodResizeInProgress")["message"] == (
        "cannot decrease memory limits: [attempting to set pod memory limit (2048) below current usage (2048), "
        'attempting to set container "main" memory limit (2048) below current usage (2048)]'
    )
    assert (node.runtime.limits, len(node.events("ResizeError"))) == ({}, 1)
    assert node.container()["resources"]["limits"]["memory"] == "4096"
    used["main"] = 2047
    await node.settle(10)
    assert (conditions(node), node.runtime.limits["main"].memory) == ([], 2048)


async def test_a_limit_where_there_was_none_is_none_below_use_either(used: dict[str, int], node: Node) -> None:
    await node.run(in_memory(None), in_memory(None, "other"))
    used |= {"main": 2048, "other": 4096}
    spec = {**node.pod()["spec"], "containers": [in_memory("1024"), in_memory(None, "other")]}
    node.api.change("pods", "pod", spec=spec)
    await node.settle()
    assert node.condition("PodResizeInProgress")["message"] == (
        'cannot decrease memory limits: attempting to set container "main" memory limit (1024) '
        "below current usage (2048)"
    )


async def test_what_nobody_can_tell_the_use_of_keeps_its_limits(used: dict[str, int], node: Node) -> None:
    await node.run(in_memory("4096"))
    await resize(node, in_memory("2048"))
    assert node.condition("PodResizeInProgress")["message"] == (
        'cannot decrease memory limits: [missing pod memory usage, missing container "main" memory usage]'
    )


async def test_limits_that_are_raised_or_of_containers_that_start_anew_may_be_any(
    used: dict[str, int], node: Node
) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    await node.run(in_memory("4096", resizePolicy=policy))
    used["main"] = 4000
    await resize(node, in_memory("8192", resizePolicy=policy))
    await node.settle(60)
    assert (conditions(node), node.container()["restartCount"]) == ([], 1)
    used["main"] = 8000
    await resize(node, in_memory("1024", resizePolicy=policy))
    await node.settle(60)
    assert (conditions(node), node.container()["restartCount"]) == ([], 2)
    assert node.runtime.config("main").limits.memory == 1024


# ---- the pod's own group


class Kernel:
    """Control groups as the kernel has them: no quota above that of the group around, none below one within."""

    version = "v1"
    places = Places("v1")
    limits_memory = True

    def __init__(self) -> None:
        self.quotas: dict[str, int | None] = {}
        self.refuse: int | None = None
        """A quota that no container gets."""

    def make(self, path: str, limits: Limits, *, inner: bool) -> None:
        self.limit(path, limits)

    def limit(self, path: str, limits: Limits) -> None:
        quota = limits.cpu_quota
        if quota is not None and quota == self.refuse and "/container" in path:
            raise CgroupError(f"{path}: device or resource busy")
        around = self.quotas.get(str(PurePosixPath(path).parent))
        within = [one for name, one in self.quotas.items() if name.startswith(f"{path}/")]
        if around is not None and (quota is None or quota > around):
            raise CgroupError(f"{path}: {quota} is above {around}")
        if quota is not None and any(one is None or one > quota for one in within):
            raise CgroupError(f"{path}: {quota} is below {within}")
        self.quotas[path] = quota

    def remove(self, path: str) -> None:
        return

    def close(self) -> None:
        return


@pytest.fixture
async def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Node, Kernel]]:
    node, kernel = Node(tmp_path), Kernel()
    monkeypatch.setattr(detection, "detect", lambda mark, join: detection.Detection(kernel, ""))  # type: ignore[arg-type]

    async def update(container_id: str, limits: Limits) -> None:
        try:
            kernel.limit(f"{node.runtime.sandboxes['sandbox1'].cgroup}/{container_id}", limits)
        except CgroupError as error:
            raise RuntimeFailure("UpdateContainerError", str(error)) from error

    monkeypatch.setattr(node.runtime, "update_container_limits", update)
    await node.start(cgroups=True)
    yield node, kernel
    await node.stop()


@pytest.mark.parametrize("wanted", ["20m", "500m", "10m"])
async def test_the_pods_own_limit_is_raised_before_its_containers_and_lowered_after_them(
    kernel: tuple[Node, Kernel], wanted: str
) -> None:
    node, groups = kernel
    await node.run(sized("10m"))
    for cpu in ("15m", wanted):
        await resize(node, sized(cpu))
        assert (conditions(node), node.events("ResizeError")) == ([], [])
    quota = int(wanted.removesuffix("m")) * 100
    assert [one for name, one in groups.quotas.items() if "/pod" in f"/{name}"] == [quota, quota]


async def test_a_resize_that_failed_and_is_taken_back_leaves_the_limits_as_they_were(
    kernel: tuple[Node, Kernel],
) -> None:
    node, groups = kernel
    await node.run(sized("10m"))
    (pod,) = [name for name in groups.quotas if name.startswith("pod")]
    groups.refuse = 2000
    await resize(node, sized("20m"))
    assert conditions(node) == [("PodResizeInProgress", "Error")]
    await resize(node, sized("10m"))
    assert (conditions(node), groups.quotas[pod]) == ([], 1000)


# ---- another kubelet takes over


async def restart(node: Node, *, orderly: bool = False) -> None:
    """Containers go on, unless it is `orderly`."""
    await (node.stop() if orderly else node.kill())
    await node.start()


@pytest.mark.parametrize("orderly", [False, True])
async def test_what_was_not_granted_is_not_granted_by_another_kubelet_either(node: Node, orderly: bool) -> None:
    await node.run(sized("10m"))
    await resize(node, sized("1000"))
    refused = node.events("ResizeInfeasible")
    await restart(node, orderly=orderly)
    await node.settle(60)
    assert conditions(node) == [("PodResizePending", "Infeasible")]
    assert node.container()["allocatedResources"]["cpu"] == "10m"
    assert node.runtime.config("main").limits.cpu_quota == 1000
    assert node.runtime.limits == {}
    assert node.events("ResizeInfeasible") == refused


async def test_what_came_while_no_kubelet_ran_is_granted_and_carried_out(node: Node) -> None:
    await node.run(sized("10m"))
    await node.kill()
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [sized("20m")]})
    await node.start()
    assert node.runtime.limits["main"].cpu_quota == 2000
    assert node.container()["allocatedResources"]["cpu"] == "20m"


async def test_what_the_kernel_refused_is_tried_again_by_another_kubelet(node: Node) -> None:
    await node.run(sized("10m"))
    node.runtime.fail_update += [BUSY] * 2
    await resize(node, sized("20m"))
    await restart(node)
    assert conditions(node) == [("PodResizeInProgress", "Error")]
    assert len(node.events("ResizeError")) == 1
    await node.settle(10)
    assert conditions(node) == []
    assert node.runtime.limits["main"].cpu_quota == 2000


async def test_another_kubelet_knows_what_was_granted_though_more_has_been_asked_for(node: Node) -> None:
    await node.run(sized("10m"))
    node.runtime.fail_update.append(BUSY)
    await resize(node, sized("20m"))
    await node.kill()
    node.api.change("pods", "pod", spec={**node.pod()["spec"], "containers": [sized("1000")]})
    await node.start()
    assert conditions(node) == [("PodResizePending", "Infeasible")]
    assert amounts(node) == ("20m", "20m")
    assert node.runtime.limits["main"].cpu_quota == 2000


async def test_what_a_pod_asks_for_and_has_not_been_granted_takes_no_room_from_others(node: Node) -> None:
    await node.run(sized("10m"))
    await resize(node, sized("1000"))
    await node.run(sized("20m"), name="other")
    assert node.status("other")["phase"] == "Running"
