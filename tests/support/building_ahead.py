"""Builds the Go programs of slow tests while others leave the machine time: `python -m tests.support.building_ahead`.

What cannot be built is left to the tests that need it, which say why.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess

from tests.support import go_programs, kubectl


def main() -> None:
    if shutil.which("go") is None:
        return
    with contextlib.suppress(subprocess.CalledProcessError):
        for version in kubectl.FROM_MODULES:
            kubectl.program(version)
        for module in sorted(go_programs.MODULES.glob("*/go.mod")):
            if module.parent != kubectl.SOURCES:
                go_programs.built(module.parent.name)


if __name__ == "__main__":
    main()
