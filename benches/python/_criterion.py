"""The criterion benches of the core crate, run on one core, and what they found."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from _servers import SERVER_CPU, pinned, scratch

ROOT = Path(__file__).resolve().parents[2]
_BRIEF = ("--warm-up-time", "0.5", "--measurement-time", "1.5", "--noplot")


@dataclass(frozen=True)
class Estimate:
    """Nanoseconds of one call: the median of criterion's samples, and the tenth of them that strangers on the machine
    held up least, which is what targets are held against."""

    median: float
    quiet: float


def estimates(bench: str) -> dict[str, Estimate]:
    """What each criterion id (`group/function`) of one bench of native/core/benches takes, in the bench's order."""
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


def _estimate(folder: Path) -> tuple[str, Estimate]:
    name = json.loads((folder / "benchmark.json").read_text())["full_id"]
    sample = json.loads((folder / "sample.json").read_text())
    each = sorted(time / count for time, count in zip(sample["times"], sample["iters"], strict=True))
    return str(name), Estimate(statistics.median(each), each[len(each) // 10])
