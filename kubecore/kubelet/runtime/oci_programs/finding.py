"""Where a program that runs containers is."""

from __future__ import annotations

import os
import shutil

FURTHER = ("/usr/local/sbin", "/usr/sbin", "/sbin")
USUAL = "runc"
"""The one that is served wherever it is installed, by its own name."""


def find(program: str) -> str | None:
    """The path of one that is named by its path, or by its name alone; None where there is none that may be run.
    Whoever is not root seldom has the folders on PATH where runc is."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *FURTHER)))


def lack(handler: str) -> str:
    """That of a node without a program for this handler, in containerd's words."""
    return f'failed to get sandbox runtime: no runtime for "{handler}" is configured'
