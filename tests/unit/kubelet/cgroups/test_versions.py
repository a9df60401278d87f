"""What is written to the files of either version, in a folder that stands for the kernel's file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubecore.kubelet.cgroups import detection, v2
from kubecore.kubelet.cgroups.interface import CgroupError, Limits
from kubecore.kubelet.cgroups.v1 import CgroupsV1

LIMITS = Limits(512, 50_000, 4096, 9)


def files(folder: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in folder.iterdir() if one.is_file()}


def test_version_1_has_a_hierarchy_for_each_controller(tmp_path: Path) -> None:
    groups = CgroupsV1({name: tmp_path / name / "node" for name in ("cpu", "memory", "pids")})
    groups.start()
    (tmp_path / "cpu/node/pod").mkdir()
    (tmp_path / "cpu/node/pod/cpu.cfs_quota_us").touch()
    groups.make("pod", LIMITS, inner=True)
    assert files(tmp_path / "cpu/node/pod") == {
        "cpu.shares": "512",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
    }
    assert files(tmp_path / "memory/node/pod")["memory.limit_in_bytes"] == "4096"
    assert files(tmp_path / "pids/node/pod") == {"pids.max": "9"}
    groups.limit("pod", Limits())
    assert files(tmp_path / "cpu/node/pod")["cpu.cfs_quota_us"] == "-1"
    assert files(tmp_path / "memory/node/pod")["memory.limit_in_bytes"] == "-1"
    assert files(tmp_path / "pids/node/pod") == {"pids.max": "max"}


def test_a_process_enters_groups_of_version_1_by_its_only_thread(tmp_path: Path) -> None:
    """For which the kernel need not wait for all processors."""
    groups = CgroupsV1({name: tmp_path / name / "node" for name in ("cpu", "memory")})
    groups.start()
    groups.make("pod", LIMITS, inner=False)
    for name in ("cpu", "memory"):
        (tmp_path / name / "node/pod/tasks").touch()
    for door in groups.doors("pod"):
        os.write(door, b"0")
        os.close(door)
    assert [(tmp_path / name / "node/pod/tasks").read_text() for name in ("cpu", "memory")] == ["0", "0"]


def version_2(base: Path, controllers: str = "cpu io memory pids") -> v2.CgroupsV2:
    (base / "cgroup.controllers").write_text(controllers)
    return v2.CgroupsV2(base, base / "node" / "kubepods")


def test_version_2_hands_its_controllers_down_to_where_pods_are(tmp_path: Path) -> None:
    groups = version_2(tmp_path)
    groups.start()
    groups.make("pod", LIMITS, inner=True)
    groups.make("pod/container", LIMITS, inner=False)
    for group in (tmp_path, tmp_path / "node", tmp_path / "node/kubepods", tmp_path / "node/kubepods/pod"):
        assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    container = files(tmp_path / "node/kubepods/pod/container")
    assert container == {
        "cpu.weight": "20",
        "cpu.max": "50000 100000",
        "memory.max": "4096",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "9",
    }


@pytest.mark.parametrize(("swap", "told"), [(False, ("4096", "0")), (True, ("-1", "max"))])
def test_swap_counts_with_memory_unless_there_may_be_as_much_as_there_is(
    tmp_path: Path, swap: bool, told: tuple[str, str]
) -> None:
    limits = Limits(memory=4096, swap=swap)
    first = CgroupsV1({"memory": tmp_path / "v1" / "node"})
    first.start()
    first.limit("", limits)
    second = version_2(tmp_path)
    second.start()
    second.limit("", limits)
    written = files(tmp_path / "v1/node"), files(tmp_path / "node/kubepods")
    assert (written[0]["memory.limit_in_bytes"], written[1]["memory.max"]) == ("4096", "4096")
    assert (written[0]["memory.memsw.limit_in_bytes"], written[1]["memory.swap.max"]) == told


def test_version_2_does_with_the_controllers_there_are(tmp_path: Path) -> None:
    groups = version_2(tmp_path, "memory")
    groups.start()
    groups.make("pod", Limits(), inner=False)
    assert set(files(tmp_path / "node/kubepods/pod")) == {"memory.max", "memory.oom.group", "memory.swap.max"}


@pytest.mark.parametrize("together", [True, False])
def test_version_2_is_told_whether_all_processes_of_a_container_are_killed_where_one_is(
    tmp_path: Path, together: bool
) -> None:
    groups = version_2(tmp_path, "memory")
    groups.start()
    groups.make("pod", Limits(together=together), inner=False)
    assert files(tmp_path / "node/kubepods/pod")["memory.oom.group"] == str(int(together))


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262_144, 10_000)])
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert v2.weight(shares) == weight


def test_processes_killed_for_want_of_memory_are_counted(tmp_path: Path) -> None:
    one = CgroupsV1({"memory": tmp_path / "v1"})
    one.start()
    (tmp_path / "v1/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert (one.out_of_memory_kills(""), one.out_of_memory_kills("gone")) == (2, 0)
    other = version_2(tmp_path)
    other.start()
    (tmp_path / "node/kubepods/memory.events").write_text("low 0\noom 1\noom_kill 3\n")
    assert other.out_of_memory_kills("") == 3


def test_what_the_kernel_refuses_is_told_with_its_file(tmp_path: Path) -> None:
    groups = CgroupsV1({"pids": tmp_path / "pids"})
    with pytest.raises(CgroupError, match=r'failed to write "max" to nowhere/pids.max: No such file'):
        groups.limit("nowhere", Limits())


# --- which one there is


def process(folder: Path, groups: str, mounts: str) -> Path:
    (folder / "cgroup").write_text(groups)
    (folder / "mountinfo").write_text(mounts.replace("ROOT", str(folder)))
    return folder


def test_hierarchies_are_found_with_the_group_this_process_is_in(tmp_path: Path) -> None:
    found = detection.list_hierarchies(
        process(
            tmp_path,
            "3:cpu,cpuacct:/own\n2:memory:/docker/x/own\n1:name=systemd:/\n0::/whole\n",
            "30 1 0:1 / ROOT/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
            "31 1 0:2 /docker/x ROOT/memory rw shared:1 - cgroup cgroup rw,memory\n"
            "32 1 0:3 / ROOT/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
            "33 1 0:4 / /proc rw - proc proc rw\n",
        )
    )
    assert [(one.own.relative_to(tmp_path).as_posix(), sorted(one.controllers)) for one in found] == [
        ("cpu/own", ["cpu", "cpuacct"]),
        ("memory/own", ["memory"]),
        ("unified/whole", []),
    ]


def test_others_may_mount_where_names_are_of_any_bytes(tmp_path: Path) -> None:
    process(tmp_path, "2:memory:/own\n", "31 1 0:2 / ROOT/memory rw - cgroup cgroup rw,memory\n")
    with (tmp_path / "mountinfo").open("ab") as file:
        file.write(b"33 1 0:4 / /mnt/\xff\r\x0c rw - tmpfs tmpfs rw\n")
    assert [one.own for one in detection.list_hierarchies(tmp_path)] == [tmp_path / "memory/own"]


def test_a_machine_without_controllers_says_so(tmp_path: Path) -> None:
    mounts = "32 1 0:3 / ROOT/unified rw - cgroup2 cgroup2 rw\n"
    found = detection.detect("mark", process=process(tmp_path, "0::/\n", mounts))
    assert found == (None, "no cgroup hierarchy with a memory or cpu controller is mounted")


def test_groups_that_may_not_be_made_say_so(tmp_path: Path) -> None:
    mounts = "32 1 0:3 / ROOT/gone/memory rw - cgroup cgroup rw,memory\n"
    (tmp_path / "gone").write_text("not a folder")
    found = detection.detect("mark", process=process(tmp_path, "2:memory:/\n", mounts))
    assert found.cgroups is None
    assert found.reason.startswith("failed to create cgroup")
