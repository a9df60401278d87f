"""What is told of autoscalers, under upstream's names (kubernetes `pkg/controller/podautoscaler/monitor`)."""

from __future__ import annotations

from collections.abc import Callable

from kubecore.metrics import Counter, Gauge, Histogram, Metric, Named, Reading, exponential

NONE, SPEC, INTERNAL = "none", "spec", "internal"
"""What failed: nothing, because of what the autoscaler says, or something else."""

_ACTION = "The label 'action' should be either 'scale_down', 'scale_up', or 'none'."
_ERROR = "the label 'error' should be either 'spec', 'internal', or 'none'."
_FIRST = (
    "Note that if both spec and internal errors happen during a reconciliation, the first one to occur is reported in "
    "`error` label."
)
_KIND = "The label 'metric_type' corresponds to HPA.spec.metrics[*].type"
_BOUNDS = exponential(0.001, 2, 15)


def _named(name: str, told: str, *labels: str) -> Named:
    return Named(f"horizontal_pod_autoscaler_controller_{name}", f"[ALPHA] {told}", labels)


class AutoscalerMeasures:
    def __init__(self, count: Callable[[], int]) -> None:
        """`count` says how many autoscalers there are."""
        of_look = ("action", "error")
        self._looks = Counter(
            _named(
                "reconciliations_total",
                f"Number of reconciliations of HPA controller. {_ACTION} Also, {_ERROR} {_FIRST}",
                *of_look,
            )
        )
        self._durations = Histogram(
            _named(
                "reconciliation_duration_seconds",
                f"The time(seconds) that the HPA controller takes to reconcile once. {_ACTION} Also, {_ERROR} {_FIRST}",
                *of_look,
            ),
            _BOUNDS,
        )
        of_metric = (*of_look, "metric_type")
        self._metrics = Counter(
            _named(
                "metric_computation_total",
                f"Number of metric computations. {_ACTION} Also, {_ERROR} {_KIND}",
                *of_metric,
            )
        )
        self._metric_durations = Histogram(
            _named(
                "metric_computation_duration_seconds",
                f"The time(seconds) that the HPA controller takes to calculate one metric. {_ACTION} "
                f"T{_ERROR[1:]} {_KIND}",
                *of_metric,
            ),
            _BOUNDS,
        )
        self._desired = Gauge(
            _named("desired_replicas", "Current desired replica count for HPA objects.", "namespace", "hpa_name")
        )
        held = _named("num_horizontal_pod_autoscalers", "Current number of controlled HPA objects.")
        self.all: tuple[Metric, ...] = (
            self._looks,
            self._durations,
            self._metrics,
            self._metric_durations,
            self._desired,
            Reading.alone(held, count),
        )

    def looked(self, seconds: float, *, current: int, desired: int | None, error: str) -> None:
        """At one autoscaler, whose target has `current` replicas and was told to have `desired`, if anything."""
        labels = (_action(current, current if desired is None else desired), error)
        self._looks.count(labels)
        self._durations.observe(seconds, *labels)

    def computed(self, kind: str, seconds: float, *, current: int, proposed: int, error: str) -> None:
        """What one metric asks for; `current` is what the status says."""
        labels = (_action(current, proposed) if error == NONE else "none", error, kind)
        self._metrics.count(labels)
        self._metric_durations.observe(seconds, *labels)

    def desired(self, namespace: str, name: str, replicas: int) -> None:
        self._desired.set(replicas, namespace, name)

    def forget(self, namespace: str, name: str) -> None:
        self._desired.forget(lambda values: values == (namespace, name))


def _action(current: int, desired: int) -> str:
    if desired == current:
        return "none"
    return "scale_up" if desired > current else "scale_down"
