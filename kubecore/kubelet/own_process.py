"""Processes of the node's own that run a module of this program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import kubecore


def start(
    module: str, *arguments: str, keeps: tuple[int, ...], output: BinaryIO | int | None
) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C in the kubelet's terminal is not for it. `keeps`: the descriptors that
    it has from us. `output`: where it says what it has to say. Raises OSError."""
    package = Path(kubecore.__file__).resolve().parent.parent
    paths = [str(package), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # The program that runs need not be reached any more by the path that it was started by.
    reachable = os.access(sys.executable, os.X_OK)
    return subprocess.Popen(
        # -P: the working directory is the user's, and its modules are none of ours.
        [sys.executable, "-P", "-m", module, *arguments],
        executable=sys.executable if reachable else "/proc/self/exe",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=keeps,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )
