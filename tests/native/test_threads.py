"""The extension is used by threads that come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The thread that loads the extension ends before others make, use and free what is its allocator's.
PROGRAM = """
import threading

def work():
    from kubecore import _native
    _native.WatchCache()

for _ in range(3):
    one = threading.Thread(target=work)
    one.start()
    one.join()
print("well")
"""


def test_threads_go_on_when_the_one_that_loaded_it_has_ended() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
