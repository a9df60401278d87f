"""The picks of Linux's own IPVS, which native/core/tests/ipvs_golden.rs has ours repeat, taken from a kernel again.

`python -m tests.e2e.test_ipvs` writes the file anew when the scripts have changed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ipvs.kernel import answers, fetched
from tests.e2e.ipvs.scripts import scripts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GOLDEN = Path(__file__).resolve().parents[2] / "native" / "core" / "tests" / "ipvs_golden.json"


def taken(folder: Path) -> list[dict[str, Any]]:
    """The scripts with the kernel's answers."""
    asked = scripts()
    found = answers(fetched(folder), folder, asked)
    return [script | {"answers": found[script["name"]]} for script in asked]


def test_the_kernel_still_gives_the_answers_that_ours_are_held_against(tmp_path: Path) -> None:
    recorded = {script["name"]: script for script in json.loads(GOLDEN.read_text())["scripts"]}
    now = {script["name"]: script for script in taken(tmp_path)}
    assert recorded.keys() == now.keys()
    assert [name for name in now if now[name] != recorded[name]] == []


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ipvs-") as folder:
        lines = [json.dumps(script, separators=(",", ":")) for script in taken(Path(folder))]
    GOLDEN.write_text('{"scripts":[\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
