"""A process may give itself a name of any bytes, which the kernel tells as they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.processes import is_ending
from kubecore.kubelet.serving import usage

CALLS_ITSELF = r"open('/proc/self/comm', 'wb').write(b'\xff\x80'); print(flush=True); input()"


@pytest.fixture
def named() -> Iterator[int]:
    """Its number."""
    given = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CALLS_ITSELF], stdin=given, stdout=given) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert b"\xff" in Path(f"/proc/{process.pid}/status").read_bytes()
        yield process.pid
        process.kill()


def test_whether_it_is_ending_is_known(named: int) -> None:
    assert not is_ending(named)


def test_what_memory_it_has_is_known(named: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / str(named)).mkdir()
    (tmp_path / f"{named}/status").write_bytes(Path(f"/proc/{named}/status").read_bytes())
    monkeypatch.setattr(usage, "_PROC", tmp_path)
    assert usage._memory(named) > 0
