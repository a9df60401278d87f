"""Ctrl-C before a command has anything to clean up."""

from __future__ import annotations

import signal
import subprocess
import sys

INTERRUPTED = """
import os, signal
import kubecore.__main__, kubecore.cli.main
kubecore.cli.main.main = lambda: os.kill(os.getpid(), signal.SIGINT)
kubecore.__main__.main()
"""


def test_it_ends_the_process_by_the_signal_and_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
