"""`kubecore up`: time to the ready line with an empty data directory and with the same one again, idle memory, idle
CPU. No peer; the figures have targets of their own.
"""

from __future__ import annotations

import time
from pathlib import Path

from _report import ROUNDS, Target, median, row, spread
from _servers import kubecore, scratch

SETTLE_SECONDS, IDLE_SECONDS = 10, 30
READY = Target("< 1 s", 1.0, "at most")
MEMORY = Target("< 120 MB", 120.0, "at most")
CPU = Target("< 1% of a core", 1.0, "at most")


def started(folder: Path) -> tuple[float, float]:
    """Seconds until the ready line, and the CPU seconds that had gone into it."""
    with kubecore("up", cpu=None, data_dir=folder) as server:
        return server.ready_seconds, server.cpu_seconds()


def told(starts: list[tuple[float, float]]) -> str:
    wall, cpu = zip(*starts, strict=True)
    return f"ready in {spread(wall)} s, {median(cpu):.2f} s of CPU"


def ready() -> None:
    first, second = [], []
    for _ in range(ROUNDS + 1):
        with scratch("kubecore-start-") as folder:
            first.append(started(Path(folder)))
            second.append(started(Path(folder)))
    # The very first one read the program from the disk; from then on it is in memory.
    first, second = first[1:], second[1:]
    verdict = READY.verdict(median([wall for wall, _ in first]))
    row("start, empty data dir", told(first), target=READY.text, verdict=verdict)
    row("start, same data dir again", told(second))


def idle() -> None:
    with kubecore("up", cpu=None) as server:
        time.sleep(SETTLE_SECONDS)
        before = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        share = (server.cpu_seconds() - before) / IDLE_SECONDS * 100
        memory = server.rss_mib() * 1024 * 1024 / 1e6
        told = f"{memory:.0f} MB, {server.threads()} threads"
        row("start, idle RSS", told, target=MEMORY.text, verdict=MEMORY.verdict(memory))
        row("start, idle CPU", f"{share:.2f}% of a core", target=CPU.text, verdict=CPU.verdict(share))


def main() -> None:
    ready()
    idle()


if __name__ == "__main__":
    main()
