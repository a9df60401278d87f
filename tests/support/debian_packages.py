"""Packages of the distribution, unpacked for a test; nothing is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def fetched(folder: Path, *packages: str) -> Path:
    """Under `folder`."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    # Own lists: those of the machine may be old, and are root's.
    apt = ["apt-get", "--quiet", f"--option=Dir::State::lists={lists}", "--option=APT::Sandbox::User=root"]
    apt += [f"--option=Dir::Cache={folder / 'cache'}", "--option=Debug::NoLocking=true"]
    for command in (["update"], ["download", *packages]):
        _run([*apt, *command], folder)
    for package in packages:
        [archive] = folder.glob(f"{package}_*.deb")
        _run(["dpkg-deb", "--extract", str(archive), "unpacked"], folder)
    return folder / "unpacked"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
