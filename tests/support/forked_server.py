"""`kubecore apiserver`, forked from an interpreter that has loaded it already: a third of the time a fresh one needs.

For tests that start a server a hundred times. What runs is the command's own code, in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.forked_server", "kubecore.cli.main", "kubecore.apiserver.server"])


def _serve(arguments: list[str], output: Connection) -> None:
    from kubecore.cli.main import app

    os.dup2(output.fileno(), 1)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    app(arguments)


class ForkedServer:
    def __init__(self, data_dir: Path) -> None:
        arguments = ["apiserver", "--data-dir", str(data_dir), "--secure-port", "0", "--grpc-port", "0"]
        reading, writing = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_serve, args=(arguments, writing))
        self._process.start()
        writing.close()
        self._output = os.fdopen(os.dup(reading.fileno()))
        reading.close()

    def wait_ready(self) -> str:
        """The URL of the ready line. RuntimeError when it says something else or ends."""
        line = self._output.readline()
        if not line.startswith("kubecore is ready: "):
            raise RuntimeError(f"kubecore apiserver printed {line!r}")
        return line.removeprefix("kubecore is ready: ").split(" ")[0]

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        self._process.kill()
        self._process.join()
        if not self._output.closed:
            assert self._process.exitcode == -signal.SIGKILL, "it ended before it was killed"
        self._output.close()
