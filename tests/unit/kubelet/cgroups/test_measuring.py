"""What is read of a group's files, of either version, in a folder that stands for the kernel's file system."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kubecore.kubelet.cgroups.measuring import (
    DiskUse,
    Group,
    GroupLimits,
    Groups,
    GroupUse,
    Memory,
    Pressure,
    Stall,
    Throttled,
    pressures_of_machine,
)


def fill(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


V1_MEMORY = {
    "memory.usage_in_bytes": "10000\n",
    "memory.max_usage_in_bytes": "20000\n",
    "memory.failcnt": "2\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "memory.stat": "cache 1\ntotal_cache 4000\ntotal_rss 5000\ntotal_inactive_file 3000\ntotal_pgfault 9\n",
    "cgroup.procs": "7\n8\n",
}
V2_MEMORY = {
    "memory.current": "10000\n",
    "memory.stat": "anon 5000\nfile 4000\ninactive_file 3000\npgfault 9\n",
    "memory.events": "low 0\nmax 2\noom_kill 1\n",
    "memory.peak": "20000\n",
    "memory.max": "max\n",
    "cgroup.procs": "7\n8\n",
}
MEMORY = Memory(10000, 7000, rss=5000, cache=4000, inactive_files=3000, most=20000, failures=2, kills=1, faults=9)


def test_version_1_counts_by_controller(tmp_path: Path) -> None:
    ticks = 100  # in a second, as every Linux that Python knows has it
    group = Group(
        "/pod",
        {
            "cpuacct": fill(tmp_path / "cpuacct", {"cpuacct.usage": "123\n", "cpuacct.stat": "user 5\nsystem 7\n"}),
            "cpu": fill(
                tmp_path / "cpu",
                {
                    "cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 99\n",
                    "cpu.shares": "512\n",
                    "cpu.cfs_quota_us": "-1\n",
                    "cpu.cfs_period_us": "100000\n",
                },
            ),
            "memory": fill(tmp_path / "memory", V1_MEMORY),
            "pids": fill(tmp_path / "pids", {"pids.current": "5\n", "pids.max": "max\n"}),
            "blkio": fill(
                tmp_path / "blkio",
                {
                    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 512\n8:0 Write 1024\nTotal 1536\n",
                    "blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
                },
            ),
        },
    )
    assert group.use() == GroupUse(
        cpu=123,
        user=5 * 10**9 // ticks,
        system=7 * 10**9 // ticks,
        throttled=Throttled(4, 2, 99),
        memory=MEMORY,
        disks=(DiskUse("8:0", 512, 1024, 1, 2),),
        tasks=5,
        processes=2,
    )
    assert group.limits() == GroupLimits(512, 0, 100_000, 0, 0)


def test_version_2_counts_in_one_place(tmp_path: Path) -> None:
    files = {
        **V2_MEMORY,
        "cpu.stat": "usage_usec 12\nuser_usec 5\nsystem_usec 7\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n",
        "cpu.weight": "39\n",
        "cpu.max": "50000 100000\n",
        "pids.current": "5\n",
        "pids.max": "64\n",
        "io.stat": "8:0 rbytes=512 wbytes=1024 rios=1 wios=2 dbytes=0 dios=0\n",
    }
    group = Group("/pod", {"": fill(tmp_path, files)})
    assert group.use() == GroupUse(
        cpu=12_000,
        user=5_000,
        system=7_000,
        throttled=Throttled(4, 2, 9_000),
        memory=MEMORY,
        disks=(DiskUse("8:0", 512, 1024, 1, 2),),
        tasks=5,
        processes=2,
    )
    assert group.limits() == GroupLimits(998, 50_000, 100_000, 0, 64)


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    old = {"memory": fill(tmp_path / "old", V1_MEMORY), "pids": fill(tmp_path / "old", {"pids.current": "5\n"})}
    new = {"": fill(tmp_path / "new", {**V2_MEMORY, "pids.current": "5\n"})}
    for folders in (old, new):
        used = Group("/pod", folders).use(details=False)
        assert used.memory == replace(MEMORY, most=None, failures=0, kills=0)
        assert (used.processes, used.tasks) == (2, None)


def test_where_both_versions_are_each_tells_what_is_its_own(tmp_path: Path) -> None:
    old = fill(tmp_path / "old", {"pids.current": "5\n"})
    new = fill(tmp_path / "new", {**V2_MEMORY, "pids.current": "6\n"})
    used = Group("/pod", {"pids": old, "": new}).use()
    assert (used.tasks, used.memory) == (5, MEMORY)


def test_of_a_group_that_is_gone_nothing_is_known(tmp_path: Path) -> None:
    for folders in ({"": tmp_path / "gone"}, {"memory": tmp_path / "gone", "cpu": tmp_path / "gone"}):
        assert Group("/gone", folders).use() == GroupUse()
        assert Group("/gone", folders).limits() == GroupLimits()


def hybrid(tmp_path: Path, groups: str) -> Groups:
    """A machine with two hierarchies of version 1 beside one of version 2; process 9 is in `groups`."""
    fill(tmp_path / "self", {"cgroup": "2:memory:/own\n1:cpu,cpuacct:/\n0::/\n"})
    mounts = [
        f"31 23 0:28 / {tmp_path}/fs/memory rw - cgroup cgroup rw,memory",
        f"32 23 0:29 / {tmp_path}/fs/cpu rw - cgroup cgroup rw,cpu,cpuacct",
        f"33 23 0:30 / {tmp_path}/fs/unified rw - cgroup2 cgroup2 rw",
    ]
    (tmp_path / "self/mountinfo").write_text("\n".join(mounts) + "\n")
    fill(tmp_path / "9", {"cgroup": groups})
    return Groups(tmp_path / "self")


def test_a_process_is_found_in_the_hierarchies_in_which_its_container_has_a_group(tmp_path: Path) -> None:
    groups = hybrid(tmp_path, "2:memory:/own/node/kubepods/podu/c1\n1:cpu,cpuacct:/node/kubepods/podu/c1\n0::/\n")
    found = groups.of_process(9, "c1")
    fs = tmp_path / "fs"
    assert found == Group(
        "/kubepods/podu/c1",
        {
            "memory": fs / "memory/own/node/kubepods/podu/c1",
            "cpu": fs / "cpu/node/kubepods/podu/c1",
            "cpuacct": fs / "cpu/node/kubepods/podu/c1",
        },
    )
    assert found.parent().name == "/kubepods/podu"
    assert found.parent().folders["memory"] == fs / "memory/own/node/kubepods/podu"


def test_a_group_that_others_are_in_is_not_the_containers(tmp_path: Path) -> None:
    assert hybrid(tmp_path, "2:memory:/own\n1:cpu,cpuacct:/c1/other\n0::/\n").of_process(9, "c1") is None
    assert Groups(tmp_path / "self").of_process(10, "c1") is None


SOME, FULL = (
    "some avg10=1.25 avg60=0.50 avg300=0.00 total=1500000\n",
    "full avg10=0.10 avg60=0.00 avg300=0.00 total=7\n",
)
WAITED, STALLED = Stall(1.25, 0.5, 0.0, 1_500_000), Stall(0.1, 0.0, 0.0, 7)


def test_for_what_a_group_has_waited_is_told_by_version_2(tmp_path: Path) -> None:
    """Kernels before 5.13 know no time in which all waited for a CPU, and some tell nothing."""
    fill(tmp_path, {"cpu.pressure": SOME, "memory.pressure": SOME + FULL, "io.pressure": ""})
    assert Group("/pod", {"": tmp_path}).pressures() == {
        "cpu": Pressure(WAITED, Stall()),
        "memory": Pressure(WAITED, STALLED),
    }
    assert Group("/pod", {"cpu": tmp_path}).pressures() == {}
    assert Group("/pod", {"": tmp_path / "gone"}).pressures() == {}


def test_the_machine_tells_for_what_it_has_waited(tmp_path: Path) -> None:
    fill(tmp_path, {"io": SOME + FULL})
    assert pressures_of_machine(tmp_path) == {"io": Pressure(WAITED, STALLED)}
    assert pressures_of_machine(tmp_path / "none") == {}
