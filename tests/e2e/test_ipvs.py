"""A kernel with IPVS: its picks, which native/core/tests/ipvs_golden.rs has ours repeat, are taken again, and mode ipvs
has it carry connections.

`python -m tests.e2e.test_ipvs` writes the file anew when the scripts have changed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ipvs.kernel import MODE, answers, fetched, told_by
from tests.e2e.ipvs.scripts import scripts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GOLDEN = Path(__file__).resolve().parents[2] / "native" / "core" / "tests" / "ipvs_golden.json"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetched(tmp_path_factory.mktemp("uml"))


def taken(unpacked: Path, folder: Path) -> list[dict[str, Any]]:
    """The scripts with the kernel's answers."""
    asked = scripts()
    found = answers(unpacked, folder, asked)
    return [script | {"answers": found[script["name"]]} for script in asked]


def test_the_kernel_still_gives_the_answers_that_ours_are_held_against(unpacked: Path, tmp_path: Path) -> None:
    recorded = {script["name"]: script for script in json.loads(GOLDEN.read_text())["scripts"]}
    now = {script["name"]: script for script in taken(unpacked, tmp_path)}
    assert recorded.keys() == now.keys()
    assert [name for name in now if now[name] != recorded[name]] == []


def test_mode_ipvs_has_the_kernel_carry_connections(unpacked: Path, tmp_path: Path) -> None:
    assert told_by(MODE, unpacked, tmp_path) == {
        "problems": [],
        "spread": ["a", "a", "b", "b"],
        "node port": "b",
        "udp": ["a", "b"],
        "udp, two flows": ["a", "b"],
        "sticky": 1,
        "six": "six",
        "policy local, outside": ["a", "a", "a"],
        "policy local, inside": ["a", "a", "b", "b"],
        "policy local, inside, six": "six",
        "several nodes": [["a", "a", "a"], ["b", "b", "b"]],
        "rows": [["10.9.0.1", 1, 1], ["10.9.0.2", 1, 1]],
        "counted": [6, True, True],
        "to be made again": None,
        "udp, two flows, after a change": ["b", "b"],
        "after a change": ["b", "b", "b"],
        "who is connected stays so": "a",
        "without endpoints": "ConnectionRefusedError",
        "counted, without endpoints": 9,
        "services": [["TCP", "10.8.0.1", 80]],
        "with a mark": True,
        "to be made again, after all is cleared": ["default/apart", "default/local", "default/web"],
        "once it is": ["a", "b"],
        "at the end": [],
        "with another proxy": ["cannot listen on TCP 10.8.0.1:80: another cluster on this host has it", "a", "a"],
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ipvs-") as folder:
        found = taken(fetched(Path(folder)), Path(folder))
        lines = [json.dumps(script, separators=(",", ":")) for script in found]
    GOLDEN.write_text('{"scripts":[\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
