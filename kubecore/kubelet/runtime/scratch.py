"""Where a runtime of ours keeps what a container needs beside its image and its volumes, below its pod's folder."""

from __future__ import annotations

from pathlib import Path

_LETTERS = 12


def scratch_of(container_id: str) -> Path:
    return Path("scratch") / container_id[:_LETTERS]
