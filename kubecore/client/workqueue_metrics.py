"""What client-go tells of workqueues, under its names. (component-base `metrics/prometheus/workqueue`.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubecore.client.workqueue import DURATIONS, RateLimitingQueue
from kubecore.metrics import Histogram, Metric, Named, Reading

Queues = Mapping[str, RateLimitingQueue[Any]]

_UNFINISHED = (
    "[ALPHA] How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large "
    "values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this "
    "increases."
)
_LONGEST = "[ALPHA] How many seconds has the longest running processor for workqueue been running."


def workqueue_metrics(queues: Queues) -> list[Metric]:
    """Of queues by their names."""
    waited = Histogram(
        _named(
            "queue_duration_seconds", "[ALPHA] How long in seconds an item stays in workqueue before being requested."
        ),
        DURATIONS,
    )
    worked = Histogram(
        _named("work_duration_seconds", "[ALPHA] How long in seconds processing an item from workqueue takes."),
        DURATIONS,
    )
    for name, queue in queues.items():
        waited.take(queue.waited, name)
        worked.take(queue.worked, name)

    def of_each(name: str, told: str, read: Callable[[RateLimitingQueue[Any]], float], kind: str = "gauge") -> Reading:
        def values() -> Iterable[tuple[tuple[str, ...], float]]:
            return [((label,), read(queue)) for label, queue in queues.items()]

        return Reading(_named(name, told), values, kind)

    return [
        of_each("depth", "[ALPHA] Current depth of workqueue", len),
        of_each("adds_total", "[ALPHA] Total number of adds handled by workqueue", lambda one: one.added, "counter"),
        waited,
        worked,
        of_each("unfinished_work_seconds", _UNFINISHED, lambda one: sum(one.in_work())),
        of_each("longest_running_processor_seconds", _LONGEST, lambda one: max(one.in_work(), default=0.0)),
        of_each(
            "retries_total",
            "[ALPHA] Total number of retries handled by workqueue",
            lambda one: one.postponed,
            "counter",
        ),
    ]


def _named(name: str, told: str) -> Named:
    return Named(f"workqueue_{name}", told, ("name",))
