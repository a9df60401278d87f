"""Rounds in turn, and the rows of the table in benches/README.md: medians, ratios with their spread, targets."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from _load import Load

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
HEADER = "| bench | kubecore | peer | kubecore / peer | target | |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Target:
    """What DESIGN asks: a bound on a figure, told in `text`."""

    text: str
    bound: float
    sense: Literal["at least", "at most"]

    def verdict(self, value: float) -> str:
        met = value >= self.bound if self.sense == "at least" else value <= self.bound
        return "met" if met else "**missed**"


def interleaved(
    ours: Callable[[], Load], peer: Callable[[], Load], rounds: int = ROUNDS
) -> tuple[list[Load], list[Load]]:
    """Ours and the peer's in turn, after one of each that does not count; who goes first changes from round to round,
    so that drift of the machine hits both."""
    a, b = [ours()], [peer()]
    for number in range(rounds):
        turns = [(a, ours), (b, peer)]
        for results, run in turns if number % 2 else reversed(turns):
            results.append(run())
    return a[1:], b[1:]


def repeated(ours: Callable[[], Load], rounds: int = ROUNDS) -> list[Load]:
    """Rounds without a peer, after one that does not count."""
    return [ours() for _ in range(rounds + 1)][1:]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Median and range, to three digits: `0.18 (0.17-0.21)`."""
    return f"{median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def ratios(ours: Sequence[Load], peer: Sequence[Load], figure: str) -> list[float]:
    """Round by round, so that both sides of a ratio saw the same weather."""
    return [float(getattr(a, figure)) / float(getattr(b, figure)) for a, b in zip(ours, peer, strict=True)]


def figures(rounds: Sequence[Load]) -> str:
    rate, cpu = median([r.rate for r in rounds]), median([r.cpu_us for r in rounds])
    busy = median([r.cpu / r.seconds for r in rounds])
    return f"{rate:,.0f}/s, {cpu:,.3g} us, {busy:.0%} of a core"


def row(name: str, ours: str, peer: str = "", ratio: str = "", target: str = "", verdict: str = "") -> None:
    """Print one row of the table, and its head before the first of a run."""
    if not os.environ.get("BENCH_HEADER_DONE"):
        os.environ["BENCH_HEADER_DONE"] = "1"
        print(HEADER, flush=True)
    print(f"| {name} | {ours} | {peer} | {ratio} | {target} | {verdict} |", flush=True)


def compared(
    name: str,
    ours: Sequence[Load],
    peer: Sequence[Load],
    peer_name: str,
    *,
    target: Target | None = None,
    figure: str = "cpu_us",
    value: float | None = None,
) -> None:
    """A row beside a peer; the target is on `value`, by default the ratio of `figure`, a property of Load: `cpu_us`, or
    `per_core` where the target is told as a rate (each side has one core, but on a shared machine not all of it)."""
    rate, cpu = ratios(ours, peer, "rate"), ratios(ours, peer, "cpu_us")
    if value is None:
        value = median(ratios(ours, peer, figure))
    verdict = target.verdict(value) if target else ""
    told = f"rate x {spread(rate)}, CPU x {spread(cpu)}"
    row(name, figures(ours), f"{peer_name}: {figures(peer)}", told, target.text if target else "", verdict)
