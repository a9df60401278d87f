# ruff: noqa: ASYNC110
"""Containers that mean ill, or have gone wrong: none harms its node, or another pod."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecore.clock import RealClock
from kubecore.kubelet.logs.reading import LogOptions, read_log
from kubecore.kubelet.logs.writing import LogBook, LogRotation, LogWriter
from kubecore.kubelet.runtime.cri.runtime import CriRuntime
from kubecore.kubelet.runtime.interface import Mount, RuntimeFailure
from tests.integration.host_runtime.conftest import Node

SWAP = """
import os, sys
os.chdir(sys.argv[1])
while True:
    for target in (sys.argv[2], "inside"):
        os.symlink(target, "next")
        os.rename("next", "link")
"""
GIBI, MEBI = 1 << 30, 1 << 20


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most that this process has had in memory since then, in bytes."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("node", ["kept"], indirect=True)
async def test_a_container_that_writes_a_gigabyte_in_one_line_costs_neither_memory_nor_disk(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "line/0.log"
    log.parent.mkdir()
    forget_peak()
    before = peak()
    script = f"head -c {GIBI} /dev/zero | tr '\\0' x; echo; echo after"
    await node.start(sandbox, "/bin/sh", "-c", script, log_path=log)
    assert (await asyncio.wait_for(node.ends.get(), 500)).exit_code == 0
    assert peak() - before < 64 * MEBI
    rotation = LogRotation()
    assert sum(one.stat().st_size for one in log.parent.iterdir()) <= rotation.files * (rotation.file_bytes + MEBI)
    assert b"".join([piece async for piece in read_log(log, LogOptions(tail=1), LogBook())]) == b"after\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
async def test_a_full_disk_costs_lines_of_the_log_but_no_container(isolated: Node, small_disk: Path) -> None:
    """And what comes once there is room again is whole, where we write the log: a container runtime's own writer may go
    on behind the half of a line that still went onto the disk, wherever that was cut."""
    sandbox, _ = await isolated.sandbox()
    log, ballast, go = small_disk / "0.log", small_disk / "ballast", isolated.root / "go"
    ballast.write_bytes(b"x" * 700_000)
    script = (
        "i=0; while [ $i -lt 20000 ]; do echo $i a line that is long enough to fill a disk; i=$((i+1)); done; "
        "touch /go/full; until [ -e /go/on ]; do sleep 0.05; done; echo there is room again; exit 5"
    )
    go.mkdir(mode=0o777)
    await isolated.start(sandbox, "/bin/sh", "-c", script, log_path=log, mounts=(Mount(go, "/go"),))
    async with asyncio.timeout(60):
        while not (go / "full").exists():
            await asyncio.sleep(0.02)
    ballast.unlink()
    (go / "on").touch()
    assert (await isolated.end()).exit_code == 5
    lines = log.read_text().splitlines()
    assert lines[-1].endswith(" stdout F there is room again")
    if not isinstance(isolated.runtime, CriRuntime):
        assert all(line.split(" ", 3)[1:3] == ["stdout", "F"] for line in lines)
    assert 1000 < len(lines) < 20_000


def test_a_line_that_was_cut_by_a_full_disk_is_left_out(tmp_path: Path) -> None:
    """As the next one would be taken for its end."""
    writer = LogWriter(tmp_path / "0.log", RealClock(), LogBook())
    writer.write("stdout", b"one\n")
    size = (tmp_path / "0.log").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + 10, hard))
    try:
        writer.write("stdout", b"two\nthree, which is too long\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write("stdout", b"four\n")
    writer.close()
    said = [line.rpartition(" ")[2] for line in (tmp_path / "0.log").read_text().splitlines()]
    assert said == ["one", "two", "four"]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Where changes without a pause hold nobody up who writes to the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


async def test_a_link_that_is_changed_while_it_is_mounted_never_leads_out_of_its_volume(
    isolated: Node, in_memory: Path
) -> None:
    """Whoever looks first and mounts then would now and then mount what is outside."""
    volume, outside = in_memory / "volume", in_memory / "outside"
    for folder in (volume / "inside", outside):
        folder.mkdir(parents=True)
    (outside / "secret").touch()
    (volume / "link").symlink_to("inside")
    swapping = await asyncio.create_subprocess_exec(sys.executable, "-c", SWAP, str(volume), str(outside))
    sandbox, _ = await isolated.sandbox()
    said, refused = list[str](), 0
    try:
        # Each of the two some times: who tries so and so often may meet one state of the link only, between two turns
        # of the process that changes it.
        while len(said) < 3 or refused < 3:
            mounts = (Mount(volume, "/no/such/place", sub_path="link"),)
            try:
                attempt = len(said) + refused
                said.append(await isolated.output(sandbox, "ls /no/such/place", mounts=mounts, attempt=attempt))
            except RuntimeFailure:
                refused += 1
        assert swapping.returncode is None
    finally:
        swapping.kill()
        await swapping.wait()
    assert set(said) == {""}


async def test_what_a_container_changes_of_its_image_is_told_where_only_its_runtime_knows(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    if not isinstance(node.runtime, CriRuntime):  # containers of `host` would write to this machine's own folders
        await node.start(sandbox, "/bin/sh", "-c", "exec sleep 1000")
        assert await node.runtime.written_layers() == {}
        return
    container = await node.start(sandbox, "/bin/sh", "-c", "head -c 3000000 /dev/zero > /written; exec sleep 1000")
    while True:  # it looks every ten seconds
        written = (await node.runtime.written_layers()).get(container)
        if written is not None and written.bytes >= 3_000_000:
            break
        await asyncio.sleep(0.5)
    assert written.inodes > 0
