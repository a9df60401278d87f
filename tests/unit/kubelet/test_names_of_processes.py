"""A process may give itself a name of any bytes, which the kernel tells as they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.processes import is_ending
from kubecore.kubelet.serving import usage

CALLS_ITSELF = r"open('/proc/self/comm', 'wb').write(b'\xff\rRssAnon: x'); print(flush=True); input()"
HEADS = "Inter-|   Receive\n face |bytes\n"


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


def test_an_interface_of_a_pod_may_have_such_a_name_as_well(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    line = b" \xff\x1ca: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n"
    (tmp_path / "net/dev").write_bytes(HEADS.encode() + line)
    (found,) = usage._interfaces(tmp_path)
    assert (found.name, found.received.bytes, found.sent.bytes) == ("\N{REPLACEMENT CHARACTER}\x1ca", 1, 3)
