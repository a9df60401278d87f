"""The criterion benches of the core crate, run on one core, and what they found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from _servers import SERVER_CPU, pinned, scratch

ROOT = Path(__file__).resolve().parents[2]
_BRIEF = ("--warm-up-time", "0.5", "--measurement-time", "1.5", "--noplot")


def estimates(bench: str) -> dict[str, float]:
    """Median nanoseconds by criterion id (`group/function`) of one bench of native/core/benches, in its order."""
    if shutil.which("cargo") is None:
        raise SystemExit("cargo is missing: this bench is built from source")
    build = ["cargo", "bench", "--locked", "-p", "kubecore-core", "--bench", bench]
    subprocess.run([*build, "--no-run", "--quiet"], cwd=ROOT, check=True)
    with scratch("criterion-") as home:
        subprocess.run(
            pinned(SERVER_CPU, *build, "--quiet", "--", *_BRIEF),
            cwd=ROOT,
            check=True,
            env={**os.environ, "CRITERION_HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        found = [path.parent for path in Path(home).glob("**/new/benchmark.json")]
        found.sort(key=lambda folder: (folder / "benchmark.json").stat().st_mtime_ns)
        return dict(_estimate(folder) for folder in found)


def _estimate(folder: Path) -> tuple[str, float]:
    name = json.loads((folder / "benchmark.json").read_text())["full_id"]
    return str(name), float(json.loads((folder / "estimates.json").read_text())["median"]["point_estimate"])
