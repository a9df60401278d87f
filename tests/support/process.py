"""A `kubecore up` of its own for a test: a real process, real sockets, a real kubeconfig."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds for what takes one or a few, on a machine with other work to do."""
ON_THE_HOST = () if os.geteuid() == 0 else ("--pod-network", "loopback")
"""Options of `kubecore up` for who connects from the host to addresses of pods, nodes and Services."""


def stopped_within(process: subprocess.Popen[str], seconds: float, number: int) -> int:
    """Send a signal and return the exit status, which comes within that time. It does not count while others have the
    processors or the disk (Linux `Documentation/accounting/psi.rst`); where the kernel does not tell of that, any time
    will do."""
    began, waited = time.monotonic(), _waited()
    process.send_signal(number)
    status = process.wait(timeout=PATIENCE + seconds)
    if waited is not None:
        own = time.monotonic() - began - ((_waited() or 0.0) - waited)
        assert own < seconds, f"it took {own:.1f} s"
    return status


def _waited() -> float | None:
    """Seconds, since the machine was started, in which somebody waited for a processor, or for a disk."""
    try:
        some = [Path(f"/proc/pressure/{of}").read_text().splitlines()[0] for of in ("cpu", "io")]
    except (OSError, IndexError):
        return None
    return sum(int(one.partition("total=")[2]) for one in some) / 1e6


@dataclass
class RunningCluster:
    """`process` has printed its ready line; `url` and `kubeconfig` come from it."""

    process: subprocess.Popen[str]
    data_dir: Path
    url: str
    kubeconfig: Path

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)

    def stop_within(self, seconds: float, *, number: int = signal.SIGTERM) -> int:
        """As `stopped_within`."""
        return stopped_within(self.process, seconds, number)


class Command:
    """A `kubecore` command as a process of its own, in a session of its own; what it says on standard error is kept.

    `program` and `environment`, the whole of it, are for a kubecore that is not this source tree's.
    """

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m", "kubecore"),
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  (lives as long as the process)
        self.process = subprocess.Popen(
            [*program, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            start_new_session=True,
        )

    @property
    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def wait_ready(self) -> str:
        """The URL of its ready line; RuntimeError with its standard error when it says something else or ends."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("kubecore is ready: "):
            self.kill()
            raise RuntimeError(f"kubecore printed {line!r} and said:\n{self.errors}")
        return line.removeprefix("kubecore is ready: ").split(" ")[0]

    def wait_for(self, text: str) -> str:
        """The line of its standard output that says so; RuntimeError with its standard error when it ends first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise RuntimeError(f"kubecore ended without {text!r} and said:\n{self.errors}")

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)

    def stop_within(self, seconds: float) -> int:
        """As `stopped_within`."""
        return stopped_within(self.process, seconds, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(
    data_dir: Path, *arguments: str, secure_port: int = 0, environment: Mapping[str, str] | None = None
) -> RunningCluster:
    """Start `kubecore up` and wait for its ready line; RuntimeError with its standard error when it ends first."""
    ports = ("--secure-port", str(secure_port), "--grpc-port", "0")
    command = Command("up", "--data-dir", str(data_dir), *ports, *arguments, environment=environment)
    url = command.wait_ready()
    return RunningCluster(command.process, data_dir, url, data_dir / "admin.kubeconfig")


@contextmanager
def running_cluster(
    data_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningCluster]:
    """`environment`: the whole of it, if not this process's."""
    cluster = start(data_dir, *arguments, environment=environment)
    try:
        yield cluster
    finally:
        if cluster.process.poll() is None:
            cluster.stop()
