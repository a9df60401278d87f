"""What containers of images see of control groups: their own, by whichever runtime they are run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kubecore.kubelet.cgroups import detection
from kubecore.kubelet.cgroups.interface import Cgroups, Limits
from kubecore.kubelet.networks.network import LoopbackNetwork
from kubecore.kubelet.runtime import host, mapped_roots
from kubecore.kubelet.runtime.interface import Mount
from kubecore.kubelet.runtime.isolation import probe_isolation
from tests.integration.host_runtime.conftest import Node, cgroups_named, make_oci_node, make_program_node
from tests.support.own_ranges import own_pod_range

MEBI = 1024 * 1024
POD = "podseen"
MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null"
OWN = "cat /proc/self/cgroup; grep ' /sys/fs/cgroup/' /proc/self/mountinfo"
ours = pytest.mark.parametrize("node", ["oci"], indirect=True)


@pytest.fixture(params=["oci", "runc"])
async def node(request: pytest.FixtureRequest, tmp_path: Path, programs_image: Path) -> AsyncIterator[Node]:
    """By our own launcher, and by a program of the OCI runtime specification."""
    pods = own_pod_range()
    make = make_oci_node if request.param == "oci" else make_program_node
    node = await make(tmp_path, LoopbackNetwork(pods), programs_image, "programs")
    yield node
    await node.runtime.close()


@pytest.fixture
async def cgroups(node: Node) -> AsyncIterator[Cgroups]:
    found = detection.detect(f"test-{os.getpid()}")
    if found.cgroups is None:
        pytest.skip(found.reason)
    found.cgroups.make(POD, Limits(1024), inner=True)
    node.use(found.cgroups)
    yield found.cgroups
    for sandbox in node.runtime.list_pod_sandboxes():
        await node.runtime.remove_pod_sandbox(sandbox.id)
    found.cgroups.close()


async def inside(node: Node, container: str, script: str) -> str:
    answer = await node.runtime.exec_sync(container, ["sh", "-c", script], 60)
    return (answer.stdout + answer.stderr).decode().strip()


async def test_a_container_reads_its_own_limits_and_what_they_are_resized_to(node: Node, cgroups: Cgroups) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000", limits=Limits(512, None, 32 * MEBI))
    assert await inside(node, container, MEMORY) == str(32 * MEBI)
    await node.runtime.update_container_limits(container, Limits(512, None, 48 * MEBI))
    assert await inside(node, container, MEMORY) == str(48 * MEBI)


async def test_it_finds_the_hosts_controllers_at_their_places_and_no_group_of_its_pod(
    node: Node, cgroups: Cgroups
) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000")
    places = {str(one.mount) for one in detection.list_hierarchies(Path("/proc/self")) if one.controllers}
    told = (await inside(node, container, "ls -R /sys/fs/cgroup")).split("\n")
    assert {f"{one}:" for one in places} <= set(told)
    assert not [line for line in told if POD in line]


@pytest.mark.parametrize("privileged", [False, True])
async def test_it_may_make_groups_within_its_own_if_it_is_privileged(
    node: Node, cgroups: Cgroups, privileged: bool
) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000", privileged=privileged)
    await inside(node, container, "mkdir /sys/fs/cgroup/memory/inner || mkdir /sys/fs/cgroup/inner")
    assert bool(cgroups_named(f"{POD}/{container}/inner")) == privileged


@ours
async def test_its_group_is_the_root_of_those_that_it_hears_of(node: Node, cgroups: Cgroups) -> None:
    """In commands that are run inside as well."""
    sandbox, _ = await node.sandbox(cgroup=POD)
    first = (await node.output(sandbox, OWN)).split("\n")
    container = await node.start(sandbox, "sleep", "1000")
    second = (await inside(node, container, OWN)).split("\n")
    for told in (first, second):
        roots = [line.split()[3] if "/sys/fs/cgroup" in line else line.split(":")[2] for line in told]
        assert set(roots) == {"/"}


@ours
async def test_it_reads_its_limits_where_there_are_no_namespaces_of_groups(
    node: Node, cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "probe_isolation", lambda: replace(probe_isolation(), cgroup_namespace=False))
    await node.begin()
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000", limits=Limits(512, None, 32 * MEBI))
    assert await inside(node, container, MEMORY) == str(32 * MEBI)
    assert f"{POD}/{container}" in await inside(node, container, "cat /proc/self/cgroup")


@pytest.mark.parametrize("target", ["/sys/fs/cgroup", "/host/cgroup"])
async def test_who_has_the_hosts_groups_mounted_sees_those(node: Node, cgroups: Cgroups, target: str) -> None:
    sandbox, _ = await node.sandbox(cgroup=POD)
    container = await node.start(sandbox, "sleep", "1000", mounts=(Mount(Path("/sys/fs/cgroup"), target),))
    told = (await inside(node, container, f"ls -R {target}")).split("\n")
    assert [line for line in told if f"{POD}/{container}:" in line]


@ours
@pytest.mark.root
async def test_a_pod_with_users_of_its_own_reads_its_limits(node: Node, cgroups: Cgroups) -> None:
    if why := mapped_roots.lack(node.root):
        pytest.skip(why)
    sandbox, _ = await node.sandbox(cgroup=POD, own_users=True)
    container = await node.start(sandbox, "sleep", "1000", limits=Limits(512, None, 32 * MEBI))
    assert await inside(node, container, MEMORY) == str(32 * MEBI)
    assert set(line.split(":")[2] for line in (await inside(node, container, "cat /proc/self/cgroup")).split()) == {"/"}
