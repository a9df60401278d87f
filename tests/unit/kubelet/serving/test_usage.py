"""What processes use, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from kubecore.kubelet.cgroups.measuring import Groups
from kubecore.kubelet.serving import usage
from kubecore.kubelet.serving.usage import RunningContainer, RunningPod, UsageReader

# The work is done by a child, which has ended by the time it is told.
BUSY = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", work], check=True)
kept = b"x" * (32 << 20)
print("done", flush=True)
sys.stdin.read()
"""


def test_what_is_gone_uses_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        pass
    assert usage.of_processes(process.pid) is None


def test_a_running_process_shows_its_memory_and_its_childrens_time() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"done\n"
        found = usage.of_processes(process.pid)
        process.stdin.close()
    assert found is not None
    # told in hundredths of a second, each part rounded down
    assert found.cpu >= 0.25e9
    assert found.memory >= 32 << 20


def test_the_machine_has_used_some_of_both() -> None:
    found = usage.of_machine()
    assert found.cpu > 0
    assert found.memory > 0


OWN = RunningContainer("main", "c1", os.getpid(), datetime(2026, 1, 1, tzinfo=UTC))


def machine_with_groups(tmp_path: Path, name: str) -> Groups:
    """Of version 2 in a folder: this process, by its number, is in a container's group."""
    for process, group in (("self", "/"), (str(os.getpid()), name)):
        (tmp_path / process).mkdir()
        (tmp_path / process / "cgroup").write_text(f"0::{group}\n")
    (tmp_path / "self/mountinfo").write_text(f"31 23 0:28 / {tmp_path}/fs rw - cgroup2 cgroup2 rw\n")
    for folder, microseconds, bytes_ in ((name, 3_000_000, 4096), (name.rpartition("/")[0], 5_000_000, 8192)):
        group = tmp_path / "fs" / folder.lstrip("/")
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.stat").write_text(f"usage_usec {microseconds}\n")
        (group / "memory.current").write_text(f"{bytes_}\n")
        (group / "cgroup.procs").write_text("1\n2\n")
    return Groups(tmp_path / "self")


def test_what_the_kernel_has_counted_of_a_container_is_not_summed_up_over_its_processes(tmp_path: Path) -> None:
    read = UsageReader(machine_with_groups(tmp_path, "/node/kubepods/poduid/c1"))
    found = read([RunningPod("default", "web-0", "uid", (OWN,))])
    own, pod = found["c1"], found["uid"]
    assert (own.cpu, own.memory, own.processes) == (3_000_000_000, 4096, 2)
    assert own.group is not None and own.group.name == "/kubepods/poduid/c1"
    # A pod's group may have had more than what runs now.
    assert (pod.cpu, pod.memory) == (5_000_000_000, 8192)


async def test_who_limits_memory_hears_what_the_kernel_holds_the_group_to(tmp_path: Path) -> None:
    """With what is only cached, which the kernel would have to drop."""
    groups = machine_with_groups(tmp_path, "/node/kubepods/poduid/c1")
    (tmp_path / "fs/node/kubepods/poduid/c1/memory.stat").write_text("inactive_file 4000\n")
    gone = RunningContainer("gone", "c2", 0, OWN.started_at)
    pod = RunningPod("default", "web-0", "uid", (OWN, gone))
    assert await UsageReader(groups).memory_of(pod) == ({"main": 4096}, 8192)
    assert await UsageReader(groups).memory_of(RunningPod("default", "web-0", "uid", (gone,))) == ({}, None)


async def test_where_the_kernel_counts_nothing_it_is_what_processes_have(tmp_path: Path) -> None:
    groups = machine_with_groups(tmp_path, "/user.slice/session")
    found = await UsageReader(groups).memory_of(RunningPod("default", "web-0", "uid", (OWN,)))
    assert found.containers["main"] == found.pod
    assert found.containers["main"] > 4096


def test_a_group_that_is_not_the_containers_own_tells_nothing_of_it(tmp_path: Path) -> None:
    read = UsageReader(machine_with_groups(tmp_path, "/user.slice/session"))
    found = read([RunningPod("default", "web-0", "uid", (OWN,))])
    assert found["c1"].group is None
    assert found["c1"].memory > 4096
    assert found["uid"].memory == found["c1"].memory


def test_a_container_without_a_process_is_left_out() -> None:
    gone = RunningContainer("main", "c1", 0, OWN.started_at)
    assert set(UsageReader()([RunningPod("default", "web-0", "uid", (gone,))])) == {""}
