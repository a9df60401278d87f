"""Programs in Go that tests compare with; whoever has no Go skips these tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def build(module: Path, into: str | Path, packages: str = ".", *, flags: Sequence[str] = ()) -> None:
    """Build `packages` of the Go module in that folder to the file `into`, or to a folder if it ends with a slash."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    subprocess.run([go, "build", *flags, "-o", str(into), packages], cwd=module, check=True)
