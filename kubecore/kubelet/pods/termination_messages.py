"""What a container leaves as its last words: in the file of its terminationMessagePath, or at the end of its log."""

from __future__ import annotations

import os
from pathlib import Path

from kubecore.kubelet.pods.records import ContainerRecord

_MESSAGE_BYTES = 4096
_FALLBACK_BYTES, _FALLBACK_LINES = 2048, 80


def termination_message(file: Path, record: ContainerRecord, exit_code: int) -> str:
    """`file`: what it has seen at its terminationMessagePath, of which the end counts."""
    try:
        with file.open("rb") as written:
            written.seek(max(written.seek(0, os.SEEK_END) - _MESSAGE_BYTES, 0))
            message = written.read(_MESSAGE_BYTES).decode("utf-8", "replace")
    except OSError:
        message = ""
    fallback = record.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    if message or not fallback or exit_code == 0:
        return message
    return last_output(record.log_path) if record.log_path else ""


def last_output(path: Path) -> str:
    """The end of a log as a termination message: 2048 bytes and 80 lines at most, without the CRI prefix."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 2 * _FALLBACK_BYTES - 64 * _FALLBACK_LINES, 0))
            raw = file.read().split(b"\n")[-_FALLBACK_LINES - 1 :]
    except OSError:
        return ""
    heads = [line.split(b" ", 3) for line in raw if line.count(b" ") >= 3]
    said = b"".join(content if tags.startswith(b"P") else content + b"\n" for _, _, tags, content in heads)
    return said[-_FALLBACK_BYTES:].decode("utf-8", "replace")
