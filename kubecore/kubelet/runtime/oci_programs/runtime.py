"""The `oci` runtime with its containers run by a program of the OCI runtime specification's command line, such as runc.

Image, volumes, network and logs are as they are without one. The program is given a bundle, sets the container up and
ends; the container's process is then a child of the monitor (`monitor.py`). Ends, signals and limits go by the kernel,
as for our own launcher: by pidfds and control groups.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson

from kubecore.clock import Clock
from kubecore.images.store import ImageStore, remove_tree
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import PodNetwork
from kubecore.kubelet.runtime import launching, leftovers, mounting
from kubecore.kubelet.runtime.cri import parents
from kubecore.kubelet.runtime.host_plans import CommandInside, Container, Sandbox
from kubecore.kubelet.runtime.interface import ContainerConfig, RuntimeFailure, SandboxConfig, SandboxStatus
from kubecore.kubelet.runtime.oci import OciRuntime
from kubecore.kubelet.runtime.oci_programs import finding, groups
from kubecore.kubelet.runtime.oci_programs.bundles import Bundles, Object
from kubecore.kubelet.runtime.oci_programs.consoles import Console
from kubecore.kubelet.runtime.oci_programs.link import Command, MonitorFailure, MonitorLink
from kubecore.kubelet.runtime.oci_programs.probing import Answer, can_mount_proc, can_mount_sysfs
from kubecore.kubelet.runtime.processes import Output, Running, above_standard, close_all, give_pipes
from kubecore.kubelet.runtime.streams import ClientStreams, StreamedProcess, StreamsWanted, watch_end

_STATE = "oci-runtime"
"""In a pod's folder: what the program keeps of the pod's containers."""
_LOG = "runtime.log"
_NO_SESSION = -2
_NOTHING = (-1, -1, -1)


class ProgramRuntime(OciRuntime):
    """Implements `interface.Runtime`."""

    def __init__(
        self,
        network: PodNetwork,
        clock: Clock,
        book: LogBook,
        images: ImageStore,
        *,
        node: str,
        handler: str,
        program: str,
        monitor: MonitorLink,
    ) -> None:
        """`program`: its path, or its name on PATH. `monitor`: to be closed by whoever made it."""
        super().__init__(network, clock, book, images, node=node)
        self.name = handler
        self.handlers = frozenset({handler})
        self.monitor = monitor
        self._program = program
        self._bundles: Bundles
        """Known with the first sandbox: the program may be installed later than the node is started."""
        self._can_mount_proc = Answer(can_mount_proc)
        self._can_mount_sysfs = Answer(can_mount_sysfs)
        self._numbers = itertools.count(1)
        self._starting: dict[str, asyncio.Task[None]] = {}

    # ---- sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        program = Path(self._found("FailedCreatePodSandBox"))
        own_proc = not self.isolation.user_namespace or self._can_mount_proc.yes()
        own_sys = not self.isolation.user_namespace or self._can_mount_sysfs.yes()
        self._bundles = Bundles(self._plans, program, own_proc, own_sys, parents.have_quotas(self.cgroups))
        return await super().run_pod_sandbox(config)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        await super().remove_pod_sandbox(sandbox_id)
        if sandbox is not None:
            await asyncio.to_thread(shutil.rmtree, sandbox.config.directory / _STATE, ignore_errors=True)
            if self.cgroups is not None:
                groups.remove_pod(self.cgroups, sandbox.config.cgroup, others_too=self.monitor.idle)

    async def close(self) -> None:
        await super().close()
        if self.cgroups is not None:
            groups.remove_node(self.cgroups)

    # ---- containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        container_id = await super().create_container(sandbox_id, config)
        user = self._plans.user(self._container(container_id).config)
        if self.isolation.user_namespace and (user.uid or user.gid):
            await self.remove_container(container_id)
            text = f"user {user.uid} and group {user.gid} are not to be had: without root a container has only user 0"
            raise RuntimeFailure("CreateContainerError", text)
        return container_id

    async def start_container(self, container_id: str) -> None:
        """What the program has begun is carried on, though nobody waits for it any more."""
        work = asyncio.create_task(super().start_container(container_id), name=f"{self.name} start {container_id[:12]}")
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if container_id not in self._starting:
                work.cancel()
            raise

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        if (starting := self._starting.get(container_id)) is not None:
            await asyncio.wait([starting])
        await super().stop_container(container_id, grace_seconds)

    async def _start_main(
        self, sandbox: Sandbox, container: Container, output: Output, target: Running | None
    ) -> launching.Process:
        self._note_start(container.status.id)
        first = target.pid if target is not None else sandbox.first.pid if sandbox.first is not None else 0
        cgroup = groups.path_of(self.cgroups, container.cgroup)
        config = self._bundles.config(sandbox, container, cgroup=cgroup, first=first)
        (container.scratch / "config.json").write_bytes(orjson.dumps(config))
        self._give(sandbox, container, output.child_ends)
        null = output.child_ends[0]
        stdio = (null, null, null) if container.config.tty else output.child_ends
        command = self._command(sandbox, container, "create", "--bundle", ".")
        command = replace(command, stdio=stdio, steps=self._bundles.preparing(sandbox, container))
        process, master = await self._leave(sandbox, container, command, terminal=container.config.tty)
        if master >= 0:
            output.stdout = master
            output.stdin = os.dup(master) if container.config.stdin else -1
        return process

    def _give(self, sandbox: Sandbox, container: Container, stdio: Sequence[int]) -> None:
        """What the program does itself where it is in the same user namespace."""
        user = self._plans.host_user(sandbox, container)
        if sandbox.users is not None and user is not None:
            give_pipes(stdio, user)

    def _note_start(self, container_id: str) -> None:
        """From now on it has to be waited for: there may be a process already."""
        work = asyncio.current_task()
        if work is not None:
            self._starting[container_id] = work
            work.add_done_callback(lambda _: self._starting.pop(container_id, None))

    async def _let_go(self, container: Container) -> None:
        """Has the program that waits in the container go on."""
        sandbox = self._sandboxes[container.status.sandbox_id]
        try:
            await self._run(container, self._command(sandbox, container, "start"))
        except (MonitorFailure, RuntimeFailure) as error:
            if container.running is not None:
                container.running.kill()
            await container.ended.wait()
            container.status = replace(container.status, exit_code=128)
            text = f"failed to create container process: {error}"
            raise RuntimeFailure("RunContainerError", text) from error

    def _open_output(self, sandbox: Sandbox, container: Container) -> Output:
        """A terminal is made by the program."""
        if not container.config.tty:
            return super()._open_output(sandbox, container)
        null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        return Output(-1, -1, (null, null, null))

    def _end_leftovers(self, container: Container) -> Callable[[int], object]:
        """Its process has been waited for, so that the number of its session may be another's."""
        mark = leftovers.container_mark(self._node, container.status.id)
        return lambda _: leftovers.end_of_container(mark, session=_NO_SESSION)

    def _remove_files(self, container: Container) -> asyncio.Future[None]:
        return asyncio.create_task(self._delete(container), name=f"{self.name} delete {container.status.id[:12]}")

    async def _delete(self, container: Container) -> None:
        """What the program keeps of it, and its files."""
        if (starting := self._starting.get(container.status.id)) is not None:
            await asyncio.wait([starting])
        sandbox = self._sandboxes.get(container.status.sandbox_id)
        if sandbox is not None:
            with suppress(MonitorFailure, RuntimeFailure):
                await self._run(container, self._command(sandbox, container, "delete", "--force"))
        await asyncio.to_thread(remove_tree, container.scratch)

    # ---- commands inside

    async def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        if not wanted.tty:
            return await super().exec(container_id, argv, wanted)
        container = self._container(container_id)
        process, master = await self._exec(container, CommandInside(argv, _NOTHING, terminal=True))
        os.set_blocking(master, True)
        stdin = os.dup(master) if wanted.stdin else -1
        return StreamedProcess(ClientStreams(stdin, master, terminal=os.dup(master)), watch_end(process))

    async def _start_inside(self, container: Container, command: CommandInside) -> launching.Process:
        process, _ = await self._exec(container, command)
        return process

    async def _exec(self, container: Container, command: CommandInside) -> tuple[launching.Process, int]:
        """As `_leave`."""
        if container.running is None:
            raise RuntimeFailure("ExecError", f"container {container.status.name} is not running")
        sandbox = self._sandboxes[container.status.sandbox_id]
        told = container.scratch / f"process-{next(self._numbers)}.json"
        try:
            process = self._bundles.process(sandbox, container, command.argv, terminal=command.terminal)
            told.write_bytes(orjson.dumps(process))
            self._give(sandbox, container, command.stdio)
            asked = self._command(sandbox, container, "exec", "--detach", "--process", told.name)
            steps = self._bundles.preparing_inside(sandbox, container)
            asked = replace(asked, stdio=command.stdio, ends_group=command.ends_group, inside=True, steps=steps)
            left, master = await self._leave(sandbox, container, asked, terminal=command.terminal)
            self.memory.started(container, left.pid)
            return left, master
        except (OSError, mounting.MountFailure, launching.ExecFailure) as error:
            raise RuntimeFailure("ExecError", f"OCI runtime exec failed: {error}") from error
        finally:
            told.unlink(missing_ok=True)

    # ---- the program

    async def _leave(
        self, sandbox: Sandbox, container: Container, command: Command, *, terminal: bool
    ) -> tuple[launching.Process, int]:
        """The process that the program leaves behind, and its terminal's master, -1 without one. It is started in the
        pod's namespaces, and where there are steps in a mount namespace of its own. Raises ExecFailure, OSError."""
        number = next(self._numbers)
        pid_file = container.scratch / f"pid-{number}"
        console = Console(container.scratch, f"console-{number}") if terminal else None
        where = ("--console-socket", f"console-{number}") if terminal else ()
        command = replace(
            command,
            arguments=(*command.arguments, "--pid-file", pid_file.name, *where),
            join=sandbox.namespaces.to_join(users=sandbox.users is None),
            namespaces=launching.NEW_MOUNT if command.steps else 0,
            pid_file=pid_file,
        )
        try:
            process = await self._run(container, command)
            if process is None:
                raise launching.ExecFailure(f"{command.arguments[0]} has left no process")
            return process, _terminal_of(process, console) if console is not None else -1
        except MonitorFailure as error:
            raise launching.ExecFailure(str(error)) from error
        finally:
            if console is not None:
                console.close()

    def _command(self, sandbox: Sandbox, container: Container, *asked: str) -> Command:
        """What the program is asked, to do with the container that `_run` names. Raises RuntimeFailure."""
        program = self._found("RunContainerError")
        state = sandbox.config.directory / _STATE
        log = container.scratch / f"{_LOG}-{next(self._numbers)}"
        told = ("--root", str(state), "--log", log.name, "--log-format", "json")
        return Command(arguments=(program, *told, *asked), directory=container.scratch, stdio=_NOTHING, log=log)

    async def _run(self, container: Container, command: Command) -> launching.Process | None:
        """Raises MonitorFailure with what the program says."""
        command = replace(command, arguments=(*command.arguments, container.status.id))
        try:
            code, process = await self.monitor.run(command)
            if code != 0:
                said = _last_error(command.log) if command.log is not None else ""
                raise MonitorFailure(said or f"{command.arguments[0]} has ended with exit status {code}")
            return process
        finally:
            if command.log is not None:
                command.log.unlink(missing_ok=True)

    def _found(self, reason: str) -> str:
        """Raises RuntimeFailure."""
        program = finding.find(self._program)
        if program is None:
            raise RuntimeFailure(reason, finding.lack(self.name))
        return program


def _terminal_of(process: launching.Process, console: Console) -> int:
    """Whose terminal cannot be had does not run on. Raises OSError."""
    try:
        return console.take()
    except OSError:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        close_all(process.pidfd, process.told)
        raise


def _last_error(log: Path) -> str:
    """What such a program has written last, a JSON object in each line; "" for nothing."""
    told = ""
    with suppress(OSError):
        for line in log.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError, AttributeError):
                entry: Object = orjson.loads(line)
                if entry.get("level") in ("error", "fatal"):
                    told = str(entry.get("msg", ""))
    return told
