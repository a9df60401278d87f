"""A `kubecore up` of its own for a test: a real process, real sockets, a real kubeconfig."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


@dataclass
class RunningCluster:
    """`process` has printed its ready line; `url` and `kubeconfig` come from it."""

    process: subprocess.Popen[str]
    data_dir: Path
    url: str
    kubeconfig: Path

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)


def start(data_dir: Path, *arguments: str, secure_port: int = 0) -> RunningCluster:
    """Start `kubecore up` and wait for its ready line; RuntimeError with its standard error when it ends first."""
    errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  (lives as long as the process)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "kubecore", "up", "--data-dir", str(data_dir)),
            *("--secure-port", str(secure_port), "--grpc-port", "0", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("kubecore is ready: "):
        process.kill()
        process.wait()
        errors.seek(0)
        raise RuntimeError(f"kubecore up printed {line!r} and said:\n{errors.read()}")
    url = line.removeprefix("kubecore is ready: ").split(" ")[0]
    return RunningCluster(process, data_dir, url, data_dir / "admin.kubeconfig")


@contextmanager
def running_cluster(data_dir: Path, *arguments: str) -> Iterator[RunningCluster]:
    cluster = start(data_dir, *arguments)
    try:
        yield cluster
    finally:
        if cluster.process.poll() is None:
            cluster.stop()
