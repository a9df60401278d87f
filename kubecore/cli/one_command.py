"""`kubecore up -- go test ./...`: a cluster that is there for one command, and nothing of it is left behind that."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kubecore.background_tasks import unless
from kubecore.cli import options
from kubecore.cli.leading import GoFlags

Command = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- COMMAND [ARGUMENT]...]",
        help="Run this, with KUBECONFIG set, once the cluster is ready, and end with its exit status. The cluster is a "
        "new one in a temporary folder, at free ports, where options do not say otherwise.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        parser=options.named,
        metavar="<path>",
        callback=options.folder_if_any,
        help=options.KEPT_THERE,
        show_default=str(options.DATA_DIR),
    ),
]
LONELY_POD_SECONDS = 300.0
"""Whoever throws a cluster away by kill -9 leaves nothing that runs for ever."""
CANNOT_BE_RUN = 126
"""The exit status that shells have for a command of that kind."""
_PORT = {"min": 0, "max": 65535}
SecurePort = Annotated[int | None, typer.Option(**_PORT, help="HTTPS port; 0 picks a free one.", show_default="6443")]
GrpcPort = Annotated[
    int | None,
    typer.Option(**_PORT, help="gRPC port; 0 picks a free one (see ports.json).", show_default="6444"),
]


class TakesCommand(GoFlags):
    """What comes behind `--` is a command; words before it are none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = args[: args.index("--")] if "--" in args else args
        rest = super().parse_args(ctx, own)
        if ctx.params.get("command"):
            ctx.fail(f"Got unexpected extra argument(s) ({' '.join(ctx.params['command'])})")
        ctx.params["command"] = args[len(own) + 1 :]
        return rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a cluster is, as far as it was said."""

    command: Sequence[str]
    data_dir: Path | None
    secure_port: int
    grpc_port: int

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The data directory; a temporary one is removed in the end."""
        if self.data_dir is not None:
            yield self.data_dir
        elif not self.command:
            yield options.folder(options.DATA_DIR)
        else:
            with tempfile.TemporaryDirectory(prefix="kubecore-", ignore_cleanup_errors=True) as folder:
                yield Path(folder)

    @property
    def settings(self) -> dict[str, Any]:
        """Of its ClusterConfig. Nothing waits for a disk of which nothing is kept."""
        keeps = self.data_dir is not None or not self.command
        return {
            "secure_port": self.secure_port,
            "grpc_port": self.grpc_port,
            "durable": keeps,
            "lonely_pod_seconds": LONELY_POD_SECONDS if keeps else None,
        }


def place(
    command: Command = None,
    data_dir: DataDir = None,
    secure_port: SecurePort = None,
    grpc_port: GrpcPort = None,
) -> Place:
    """Of the options; BadParameter for a command that is not there."""
    if command and shutil.which(command[0]) is None:
        raise typer.BadParameter(f"there is no command {command[0]}", param_hint="COMMAND")
    secure, grpc = (0, 0) if command else (6443, 6444)
    return Place(
        command=command or (),
        data_dir=data_dir,
        secure_port=secure if secure_port is None else secure_port,
        grpc_port=grpc if grpc_port is None else grpc_port,
    )


class Stopping:
    """What a process was told about its end: `asked` at first, `cut` when it is not to be waited for any longer."""

    def __init__(self) -> None:
        self.asked, self.cut = asyncio.Event(), asyncio.Event()
        self.by: signal.Signals | None = None

    @property
    def status(self) -> int:
        """That of a process which the signal has ended."""
        return 128 + self.by if self.by is not None else 0

    def told(self, number: signal.Signals) -> bool:
        """False for the first time."""
        again = self.asked.is_set()
        if again:
            self.cut.set()
        else:
            self.by = number
        self.asked.set()
        return again


async def run(command: Sequence[str], kubeconfig: Path, stopping: Stopping) -> int:
    """Its exit status, 128 and the signal's number where one ended it. When this process is to stop, so is the command;
    when its end is not waited for any longer, or this is cancelled, it is killed. OSError where it cannot be run."""
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "KUBECONFIG": str(kubeconfig)})
    try:
        ended, _ = await unless(stopping.asked, process.wait())
        if not ended:
            assert stopping.by is not None
            # Who presses Ctrl-C tells the command, too: a terminal signals all of its foreground.
            if stopping.by is not signal.SIGINT or not _in_foreground():
                process.send_signal(stopping.by)
            await unless(stopping.cut, process.wait())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    status = process.returncode
    assert status is not None
    return status if status >= 0 else 128 - status


def _in_foreground() -> bool:
    """Whether this process, and with it its command, is what its terminal's Ctrl-C is for."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
