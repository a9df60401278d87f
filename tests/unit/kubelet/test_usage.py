"""What processes use, read from /proc."""

from __future__ import annotations

import subprocess
import sys

from kubecore.kubelet import usage

# The work is done by a child, which has ended by the time it is told.
BUSY = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", work], check=True)
kept = b"x" * (32 << 20)
print("done", flush=True)
sys.stdin.read()
"""


def test_what_is_gone_uses_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        pass
    assert usage.of_processes(process.pid) is None


def test_a_running_process_shows_its_memory_and_its_childrens_time() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"done\n"
        found = usage.of_processes(process.pid)
        process.stdin.close()
    assert found is not None
    # told in hundredths of a second, each part rounded down
    assert found.cpu >= 0.25e9
    assert found.memory >= 32 << 20


def test_the_machine_has_used_some_of_both() -> None:
    found = usage.of_machine()
    assert found.cpu > 0
    assert found.memory > 0
