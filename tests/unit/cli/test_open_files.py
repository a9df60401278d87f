"""Pods take many descriptors; the usual limit of 1024 is not enough for a node full of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

RAISED = """
import resource
from kubecore.cli import open_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
open_files.allow_many()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [(64, 512, "512 512"), (512, 512, "512 512")],
)
def test_the_limit_is_raised_as_far_as_the_user_may(soft: int, hard: int, then: str) -> None:
    program = RAISED.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == then
