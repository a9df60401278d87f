"""Programs in Go that tests compare with; whoever has no Go skips these tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.alone import alone

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests" / "e2e"
BUILT = ROOT / "target" / "go-programs"


def built(module: str, package: str = ".") -> Path:
    """The program of a package of the Go module in that folder of tests/e2e. The first one to ask builds all that are
    there; others get what there is, and another run what has not changed since."""
    source = MODULES / module
    folder = BUILT / module
    build(source, f"{folder}/", "./...")
    if package != ".":
        return folder / package
    named = source.joinpath("go.mod").read_text().split(maxsplit=2)[1]
    return folder / named.rpartition("/")[2]


def build(module: Path, into: str | Path, packages: str = ".", *, flags: Sequence[str] = (), link: str = "") -> None:
    """Build `packages` of the Go module in that folder to the file `into`, or to a folder if it ends with a slash.

    One at a time: what several need is compiled once. Without what only debuggers read.
    """
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    command = [go, "build", *flags, "-gcflags=all=-dwarf=false", f"-ldflags=-s -w {link}", "-o", str(into), packages]
    with alone(Path(sys.prefix, "go-build.lock")):
        subprocess.run(command, cwd=module, check=True)


def module_folder(module: Path, name: str) -> Path:
    """Where Go has the sources of a module that the one in that folder requires."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    subprocess.run([go, "mod", "download", name], cwd=module, check=True)
    asked = [go, "list", "-m", "-f", "{{.Dir}}", name]
    return Path(subprocess.run(asked, cwd=module, capture_output=True, text=True, check=True).stdout.strip())
