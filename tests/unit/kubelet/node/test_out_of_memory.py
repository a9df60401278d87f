"""The kernel's word of a machine without memory, in its own lines."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kubecore.kubelet.node import out_of_memory
from kubecore.kubelet.node.out_of_memory import Reports

BEGINS = "tail invoked oom-killer: gfp_mask=0x1100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0"
OF_THE_MACHINE = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/kubepods/pod1/c1,"
    "task=python3,pid=4711,uid=0"
)
OF_A_GROUP = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c1,mems_allowed=0,oom_memcg=/kubepods/pod1/c1,"
    "task_memcg=/kubepods/pod1/c1,task=tail,pid=4712,uid=0"
)
KILLED = "Out of memory: Killed process 4711 (python3) total-vm:4000kB, anon-rss:3000kB, file-rss:0kB, UID:0"
IN_A_GROUP = "Memory cgroup out of memory: Killed process 4712 (tail) total-vm:4000kB, anon-rss:3000kB, UID:0"
TOLD = "System OOM encountered, victim process: python3, pid: 4711"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([BEGINS, "Mem-Info:", OF_THE_MACHINE, KILLED], [TOLD]),
        ([BEGINS, KILLED], [TOLD]),  # of kernels before 5.0
        ([BEGINS, OF_A_GROUP, IN_A_GROUP], []),
        ([BEGINS, OF_A_GROUP, IN_A_GROUP, BEGINS, OF_THE_MACHINE, KILLED, "usb 1-1: new device"], [TOLD]),
        ([KILLED, OF_THE_MACHINE], []),
    ],
)
def test_of_whom_the_kernel_kills_only_those_are_told_that_died_for_the_machine(
    lines: list[str], told: list[str]
) -> None:
    heard: list[str] = []
    reports = Reports(heard.append)
    for line in lines:
        reports.line(line)
    assert heard == told


async def test_what_the_kernel_says_is_heard_record_by_record(tmp_path: Path) -> None:
    """A pipe in packet mode has records as the kernel's log does."""
    heard: list[str] = []
    reading, writing = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    for number, line in enumerate((BEGINS, OF_THE_MACHINE, KILLED)):
        os.write(writing, f"6,{number},123456,-;{line}\n SUBSYSTEM=mm\n".encode())
    os.close(writing)
    await asyncio.wait_for(out_of_memory.watch(heard.append, Path(f"/proc/self/fd/{reading}")), 60)
    os.close(reading)
    assert heard == [TOLD]


@pytest.mark.parametrize("instead", ["/dev/null", "file"])
async def test_what_else_is_in_its_place_is_none(tmp_path: Path, instead: str) -> None:
    """As where containers are nested."""
    (tmp_path / "file").write_text(KILLED)
    await asyncio.wait_for(out_of_memory.watch(lambda message: None, tmp_path / instead), 60)


async def test_a_log_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    await out_of_memory.watch(lambda message: None, tmp_path / "none")
