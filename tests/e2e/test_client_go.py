"""client-go, built from the Go module proxy: informers over every served kind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_client_go_informers_sync_over_every_kind_and_see_changes(cluster: RunningCluster, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    program = tmp_path / "informers"
    subprocess.run([go, "build", "-o", str(program), "."], cwd=Path(__file__).parent / "informers", check=True)
    done = subprocess.run([program, cluster.kubeconfig], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert "one change seen" in done.stdout
