"""How long the rules of custom kinds take, as Rust measures them (apiserver `pkg/cel/metrics`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kubecore import _native
from kubecore.metrics import Named, ReadHistogram


def cel_metrics() -> list[ReadHistogram]:
    """Of the process, whichever server it was for."""
    return [
        ReadHistogram(
            Named(f"apiserver_cel_{word}_duration_seconds", f"[BETA] CEL {word} time in seconds."),
            partial(_read, place),
        )
        for place, word in enumerate(("compilation", "evaluation"))
    ]


def _read(place: int) -> tuple[Sequence[float], Sequence[int], float]:
    bounds, *times = _native.cel_times()
    return bounds, *times[place]
