"""What is counted and timed in Python under Kubernetes' names, as Prometheus text.

Series that every write adds to are looked up once and kept by who counts (`Histogram.series`). Counting happens on the
event loop, rendering on any thread: what is read meanwhile is of one moment or the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from kubecore._native import TimeSeries

# One series of a histogram.
Series = TimeSeries

Source = Callable[[], bytes]


class Metric(Protocol):
    def lines(self) -> Iterator[str]:
        """Its text, a line each; nothing while nothing was counted."""


class Named(NamedTuple):
    """`told` begins with how stable the metric is, as Kubernetes' own do; `labels` name the values that series have."""

    name: str
    told: str
    labels: tuple[str, ...] = ()

    def head(self, kind: str) -> Iterator[str]:
        yield f"# HELP {self.name} {self.told}"
        yield f"# TYPE {self.name} {kind}"

    def told_of(self, values: Sequence[str], *more: tuple[str, str]) -> str:
        """The labels of one series, in braces where there are any."""
        pairs = sorted([*zip(self.labels, values, strict=True), *more])
        inner = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
        return f"{{{inner}}}" if inner else ""


class Counter:
    def __init__(self, named: Named) -> None:
        self.named = named
        self._counts: dict[tuple[str, ...], int] = {}
        if not named.labels:
            self._counts[()] = 0

    def add(self, *values: str, by: int = 1) -> None:
        self.count(values, by)

    def count(self, values: tuple[str, ...], by: int = 1) -> None:
        """The same of values that are kept as they are."""
        self._counts[values] = self._counts.get(values, 0) + by

    def forget(self, gone: Callable[[tuple[str, ...]], bool]) -> None:
        """The series of those values are told no more."""
        self._counts = {values: count for values, count in self._counts.items() if not gone(values)}

    def lines(self) -> Iterator[str]:
        counts = sorted(self._counts.copy().items())
        if counts:
            yield from self.named.head("counter")
        for values, count in counts:
            yield f"{self.named.name}{self.named.told_of(values)} {count}"


class Gauge:
    def __init__(self, named: Named) -> None:
        self.named = named
        self._values: dict[tuple[str, ...], float] = {}

    def set(self, value: float, *values: str) -> None:
        self._values[values] = value

    def forget(self, gone: Callable[[tuple[str, ...]], bool]) -> None:
        """The series of those values are told no more."""
        self._values = {values: value for values, value in self._values.items() if not gone(values)}

    def lines(self) -> Iterator[str]:
        held = sorted(self._values.copy().items())
        if held:
            yield from self.named.head("gauge")
        for values, value in held:
            yield f"{self.named.name}{self.named.told_of(values)} {value:.15g}"


class Reading:
    """A gauge whose values are asked for when somebody wants to know, or a counter that somebody else keeps. `read`
    gives the values of labels and what is there; it is called on any thread."""

    def __init__(
        self, named: Named, read: Callable[[], Iterable[tuple[tuple[str, ...], float]]], kind: str = "gauge"
    ) -> None:
        self.named = named
        self._read = read
        self._kind = kind

    @classmethod
    def alone(cls, named: Named, read: Callable[[], float], kind: str = "gauge") -> Self:
        """A single value."""
        return cls(named, lambda: [((), read())], kind)

    def lines(self) -> Iterator[str]:
        held = sorted(self._read())
        if held:
            yield from self.named.head(self._kind)
        for values, value in held:
            yield f"{self.named.name}{self.named.told_of(values)} {value:.15g}"


def exponential(first: float, factor: float, count: int) -> tuple[float, ...]:
    """Upper bounds of a histogram, each so many times the one before."""
    return tuple(first * factor**number for number in range(count))


class Samples:
    """What others have counted, to be told once. `kind`: `gauge` or `counter`."""

    def __init__(self, named: Named, kind: str = "gauge") -> None:
        self.named = named
        self._kind = kind
        self._held: list[str] = []

    def add(self, value: float, *values: str, at: float | None = None) -> None:
        """`at`: when it was so, in seconds since the epoch; None for now."""
        number = value if isinstance(value, int) else f"{value:.15g}"
        stamp = "" if at is None else f" {int(at * 1000)}"
        self._held.append(f"{self.named.name}{self.named.told_of(values)} {number}{stamp}")

    def lines(self) -> Iterator[str]:
        if self._held:
            yield from self.named.head(self._kind)
            yield from self._held


class Histogram:
    def __init__(self, named: Named, bounds: tuple[float, ...]) -> None:
        """`bounds` are the upper ones in seconds, in order."""
        self.named = named
        self._bounds = bounds
        self._series: dict[tuple[str, ...], Series] = {}

    def series(self, *values: str) -> Series:
        """To be kept by who observes often; it is told once something was observed."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = Series(self._bounds)
        return found

    def take(self, series: Series, *values: str) -> None:
        """Tell a series, of the same bounds, that was made elsewhere."""
        self._series[values] = series

    def observe(self, seconds: float, *values: str) -> None:
        self.series(*values).observe(seconds)

    def forget(self, gone: Callable[[tuple[str, ...]], bool]) -> None:
        """The series of those values are told no more."""
        self._series = {values: one for values, one in self._series.items() if not gone(values)}

    def lines(self) -> Iterator[str]:
        every = [(values, one.told(), one) for values, one in sorted(self._series.copy().items(), key=_values)]
        seen = [one for one in every if any(one[1])]
        if seen:
            yield from self.named.head("histogram")
        for values, counts, one in seen:
            yield from _told(self.named, values, self._bounds, counts, one.seconds)


class ReadHistogram:
    """One without labels that somebody else keeps. `read` gives the upper bounds, the counts as of a Series, and the
    seconds of all together; it is called on any thread."""

    def __init__(self, named: Named, read: Callable[[], tuple[Sequence[float], Sequence[int], float]]) -> None:
        self.named = named
        self._read = read

    def lines(self) -> Iterator[str]:
        yield from self.named.head("histogram")
        yield from _told(self.named, (), *self._read())


def _told(
    named: Named, values: Sequence[str], bounds: Sequence[float], counts: Sequence[int], seconds: float
) -> Iterator[str]:
    """One series of a histogram."""
    total = 0
    for bound, count in zip(bounds, counts, strict=False):
        total += count
        yield f"{named.name}_bucket{named.told_of(values, ('le', f'{bound:g}'))} {total}"
    total += counts[-1]
    yield f"{named.name}_bucket{named.told_of(values, ('le', '+Inf'))} {total}"
    yield f"{named.name}_sum{named.told_of(values)} {seconds:.15g}"
    yield f"{named.name}_count{named.told_of(values)} {total}"


def _values(pair: tuple[tuple[str, ...], Series]) -> tuple[str, ...]:
    return pair[0]


class Metrics:
    """All of a server, and the texts of others that are told with them."""

    def __init__(self) -> None:
        self._metrics: list[Metric] = []
        self._sources: list[Source] = []

    def add(self, *metrics: Metric) -> None:
        self._metrics += metrics

    def join(self, source: Source) -> None:
        """What another part of the process has to tell; called on a thread of its own."""
        self._sources.append(source)

    def render(self) -> bytes:
        lines = [line for metric in self._metrics for line in metric.lines()]
        own = "".join(f"{line}\n" for line in lines).encode()
        return own + b"".join(source() for source in self._sources)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
