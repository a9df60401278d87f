"""Names that Go has for the types of fields, beside those that its reflection tells."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import go_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def test_the_names_are_gos(tmp_path: Path) -> None:
    go_programs.build(ROOT / "tests/e2e/protobuf", tmp_path / "named", "./named")
    printed = subprocess.run([tmp_path / "named"], capture_output=True, text=True, check=True).stdout
    assert printed == (ROOT / "native/core/src/go/named.txt").read_text()
