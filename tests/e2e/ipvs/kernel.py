"""Asks a real kernel: Debian's User-Mode Linux, which is a program, needs no privilege, and has IPVS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import debian_packages
from tests.support.process import ROOT

PACKAGE = "user-mode-linux"
GUEST, MODE, SHIM = (Path(__file__).with_name(name) for name in ("guest.py", "mode.py", "whole_fpu_state.c"))
MEMORY = "mem=256M"


def fetched(folder: Path) -> Path:
    """The package of the distribution, unpacked under `folder`; nothing is installed."""
    return debian_packages.fetched(folder, PACKAGE)


def answers(unpacked: Path, folder: Path, scripts: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What the kernel's IPVS did, by script."""
    asked = folder / "scripts.json"
    asked.write_text(json.dumps(scripts))
    result: dict[str, list[Any]] = told_by(GUEST, unpacked, folder, asked)["answers"]
    return result


def told_by(guest: Path, unpacked: Path, folder: Path, *arguments: Path) -> dict[str, Any]:
    """What a program tells of a kernel whose first process it is: it is given the folder of the kernel's modules,
    `arguments`, and the file to tell it in. It sees this machine's files, and has what this process may import."""
    [modules] = (unpacked / "usr/lib/uml/modules").iterdir()
    answered, first = folder / "answers.json", folder / "init"
    words = (Path(sys.executable).resolve(), guest, modules, *arguments, answered)
    imported = ":".join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])
    # Arguments of the kernel's own would reach its first process too, so it is one that takes none.
    command = f"PYTHONPATH='{imported}' exec " + " ".join(f"'{word}'" for word in words)
    first.write_text(f"#!/bin/sh\n{command}\n")
    first.chmod(0o755)
    kernel = [str(unpacked / "usr/bin/linux.uml"), MEMORY, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw"]
    consoles = ["con=null", "con0=null,fd:1", "quiet", f"uml_dir={folder}/", f"init={first}"]
    # Where the guest's memory is kept, so that nothing else has to have room for it.
    environment = os.environ | {"TMPDIR": str(folder), "HOME": str(folder), "LD_PRELOAD": str(_shim(folder))}
    done = subprocess.run(
        [*kernel, *consoles], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False
    )
    assert answered.exists(), done.stdout.decode(errors="replace")[-5000:]
    found: dict[str, Any] = json.loads(answered.read_text())
    assert "failed" not in found, found["failed"]
    return found


def _shim(folder: Path) -> Path:
    """Without it the kernel runs on no processor that has more registers than it knows."""
    made = folder / "whole_fpu_state.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, SHIM, "-ldl"], check=True, timeout=60)
    return made
