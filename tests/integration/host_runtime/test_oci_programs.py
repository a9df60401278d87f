"""What is so only where a program such as runc starts containers, with real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubecore.kubelet.networks.network import LoopbackNetwork
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.runtime.oci_programs import finding
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from kubecore.kubelet.runtime.oci_programs.seccomp_spec import runtime_default
from kubecore.kubelet.runtime.streams import StreamsWanted
from tests.integration.host_runtime.conftest import (
    Node,
    make_program_node,
    open_descriptors,
    processes,
    settled,
    until,
)
from tests.support.own_ranges import own_pod_range

_NUMBERS = itertools.count()


@pytest.fixture
async def runtime(node: Node) -> ProgramRuntime:
    assert isinstance(node.runtime, ProgramRuntime)
    return node.runtime


@dataclass(frozen=True)
class Program:
    """The one that the node has: runc, until something else is put in its place."""

    path: Path
    runc: str

    def install(self) -> None:
        self.path.parent.mkdir()
        self.path.symlink_to(self.runc)

    @contextmanager
    def replaced(self, script: str) -> Iterator[None]:
        """By what a shell is told, which is given `runc`."""
        self.path.unlink()
        self.path.write_text(f"#!/bin/sh\nrunc={self.runc}\n{script}\n")
        self.path.chmod(0o755)
        try:
            yield
        finally:
            self.path.unlink()
            self.path.symlink_to(self.runc)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "bin" / "runc", finding.find("runc") or "")


@pytest.fixture
def marker() -> str:
    """By which to tell the processes of a test."""
    return f"4{os.getpid()}{next(_NUMBERS):02}"


@pytest.fixture
async def bare_node(tmp_path: Path, programs_image: Path, program: Program) -> AsyncIterator[Node]:
    """Its program is not installed yet."""
    network = LoopbackNetwork(own_pod_range())
    node = await make_program_node(tmp_path, network, programs_image, "programs", program=str(program.path))
    yield node
    await node.runtime.close()
    assert isinstance(node.runtime, ProgramRuntime)
    await node.runtime.monitor.close()
    network.close()


@pytest.fixture
def node(bare_node: Node, program: Program) -> Node:
    program.install()
    return bare_node


async def test_a_first_process_that_is_killed_ends_its_container_and_another_can_be_started(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    first = await node.start(sandbox, "sleep", "1000")
    os.kill(node.runtime.container_status(first).pid, signal.SIGKILL)
    ended = await node.end()
    assert (ended.id, ended.exit_code, ended.signal) == (first, 137, 9)
    assert await node.output(sandbox, "echo again") == "again"


async def test_nothing_of_it_outlives_its_runtime(node: Node, runtime: ProgramRuntime, marker: str) -> None:
    sandbox, _ = await node.sandbox()
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


async def test_a_program_that_is_installed_after_the_node_has_started_is_used(
    bare_node: Node, program: Program
) -> None:
    with pytest.raises(RuntimeFailure, match='no runtime for "runc" is configured'):
        await bare_node.sandbox()
    program.install()
    sandbox, _ = await bare_node.sandbox()
    assert await bare_node.output(sandbox, "echo late") == "late"


# ---- commands inside


def files_of_commands(node: Node) -> list[Path]:
    """What is there for as long as a command is being started."""
    kinds = ("pid-*", "process-*", "console-*", "runtime.log-*")
    return [file for kind in kinds for file in node.root.glob(f"pod*/scratch/*/{kind}")]


async def test_what_a_command_has_started_ends_with_it(node: Node, marker: str) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    script = ["sh", "-c", f"sleep {marker} & echo begun"]
    assert (await node.runtime.exec_sync(container, script, 0)).stdout == b"begun\n"
    assert await settled(lambda: processes(marker) == [])


async def test_a_command_that_is_given_up_ends_with_what_it_has_started(node: Node, marker: str) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    before = open_descriptors()
    running = asyncio.create_task(node.runtime.exec_sync(container, ["sh", "-c", f"sleep {marker}; true"], 0))
    await until(lambda: processes(marker) != [])
    running.cancel()
    await asyncio.wait([running])
    assert await settled(lambda: processes(marker) == [])
    assert await settled(lambda: open_descriptors() == before)


async def test_the_time_of_a_command_is_that_of_its_start_as_well(node: Node, program: Program, marker: str) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    with program.replaced(f"exec sleep {marker}"):
        running = asyncio.create_task(node.runtime.exec_sync(container, ["true"], 0.2))
        await asyncio.wait([running], timeout=60)
    with pytest.raises(TimeoutError):
        running.result()


@pytest.mark.parametrize("tty", [False, True])
async def test_a_command_whose_client_goes_while_it_is_being_started_ends_and_nothing_stays_open(
    node: Node, runtime: ProgramRuntime, program: Program, marker: str, tty: bool
) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    gate = node.root / "gate"
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR | os.O_CLOEXEC)  # whoever says so waits for nobody to hear it
    before = open_descriptors()
    with program.replaced(f'"$runc" "$@"; code=$?; read line < {gate}; exit $code'):
        wanted = StreamsWanted(stdin=True, stdout=True, tty=tty)
        running = asyncio.create_task(runtime.exec(container, ["sleep", marker], wanted))
        await until(lambda: processes(marker) != [])
        running.cancel()
        await asyncio.wait([running])
        os.write(opened, b"\n")
        assert await settled(lambda: processes(marker) == [] and runtime.monitor.idle)
    assert await settled(lambda: open_descriptors() == before)
    assert files_of_commands(node) == []
    os.close(opened)


async def test_a_command_whose_terminal_is_not_handed_over_is_ended(node: Node, program: Program, marker: str) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    before = open_descriptors()
    script = f'while [ "$1" != --pid-file ]; do shift; done; setsid sleep {marker} & echo $! > "$2"'
    with program.replaced(script), pytest.raises(RuntimeFailure, match="OCI runtime exec failed"):
        await node.runtime.exec(container, ["sh"], StreamsWanted(stdin=True, stdout=True, tty=True))
    assert await settled(lambda: processes(marker) == [])
    assert await settled(lambda: open_descriptors() == before)
    assert files_of_commands(node) == []


def test_known_personalities_pass_the_default_filter_and_others_do_not() -> None:
    rules = [one["args"][0] for one in runtime_default(frozenset())["syscalls"] if one["names"] == ["personality"]]

    def refused(value: int) -> bool:
        return any(value & one["value"] == one["valueTwo"] for one in rules)

    assert not any(map(refused, (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)))
    assert all(map(refused, (0x1, 0x40000, 0x0040000, 0xFFFFFFF7, 0xFFFDFFFF, 0x80000000, 0x20009)))
