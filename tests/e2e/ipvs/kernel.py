"""Asks a real kernel: Debian's User-Mode Linux, which is a program, needs no privilege, and has IPVS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE = "user-mode-linux"
GUEST = Path(__file__).with_name("guest.py")
MEMORY = "mem=256M"


def fetched(folder: Path) -> Path:
    """The package of the distribution, unpacked under `folder`; nothing is installed."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    # Own lists: those of the machine may be old, and are root's.
    apt = ["apt-get", "--quiet", f"--option=Dir::State::lists={lists}", "--option=APT::Sandbox::User=root"]
    apt += [f"--option=Dir::Cache={folder / 'cache'}", "--option=Debug::NoLocking=true"]
    for command in (["update"], ["download", PACKAGE]):
        _run([*apt, *command], folder)
    [archive] = folder.glob(f"{PACKAGE}_*.deb")
    _run(["dpkg-deb", "--extract", str(archive), "unpacked"], folder)
    return folder / "unpacked"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


def answers(unpacked: Path, folder: Path, scripts: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What the kernel's IPVS did, by script. The guest sees this machine's files, and writes one of them."""
    [modules] = (unpacked / "usr/lib/uml/modules").iterdir()
    asked, answered, first = (folder / name for name in ("scripts.json", "answers.json", "init"))
    asked.write_text(json.dumps(scripts))
    words = (Path(sys.executable).resolve(), GUEST, modules, asked, answered)
    # Arguments of the kernel's own would reach its first process too, so it is one that takes none.
    first.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + "\n")
    first.chmod(0o755)
    kernel = [str(unpacked / "usr/bin/linux.uml"), MEMORY, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw"]
    consoles = ["con=null", "con0=null,fd:1", "quiet", f"uml_dir={folder}/", f"init={first}"]
    # Where the guest's memory is kept, so that nothing else has to have room for it.
    environment = os.environ | {"TMPDIR": str(folder), "HOME": str(folder)}
    done = subprocess.run(
        [*kernel, *consoles], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False
    )
    assert answered.exists(), done.stdout.decode(errors="replace")[-5000:]
    found = json.loads(answered.read_text())
    assert "failed" not in found, found["failed"]
    result: dict[str, list[Any]] = found["answers"]
    return result
