"""What is counted of authorization webhooks, under Kubernetes' names.

After upstream k8s.io/apiserver `plugin/pkg/authorizer/webhook/metrics` and `pkg/authorization/cel/metrics.go`.
"""

from __future__ import annotations

from kubecore.metrics import Counter, Histogram, Metric, Named

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONDITION_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25)
_WEBHOOK = "Webhook"


def _named(name: str, told: str, *labels: str) -> Named:
    return Named(f"apiserver_authorization_{name}", f"[ALPHA] {told}", labels)


class WebhookMetrics:
    """Results of a round-trip are `success`, `error`, `timeout` and `canceled`."""

    def __init__(self) -> None:
        self._evaluations = Counter(
            _named("webhook_evaluations_total", "Round-trips to authorization webhooks.", "name", "result")
        )
        self._durations = Histogram(
            _named("webhook_duration_seconds", "Request latency in seconds.", "name", "result"), _BOUNDS
        )
        self._fail_open = Counter(
            _named(
                "webhook_evaluations_fail_open_total",
                "NoOpinion results due to webhook timeout or error.",
                "name",
                "result",
            )
        )
        self._condition_errors = Counter(
            _named(
                "match_condition_evaluation_errors_total",
                "Total number of errors when an authorization webhook encounters a match condition error split by "
                "authorizer type and name.",
                "type",
                "name",
            )
        )
        self._condition_exclusions = Counter(
            _named(
                "match_condition_exclusions_total",
                "Total number of exclusions when an authorization webhook is skipped because match conditions exclude "
                "it.",
                "type",
                "name",
            )
        )
        self._condition_seconds = Histogram(
            _named(
                "match_condition_evaluation_seconds",
                "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
                "type",
                "name",
            ),
            _CONDITION_BOUNDS,
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        conditions = self._condition_errors, self._condition_exclusions, self._condition_seconds
        return self._evaluations, self._durations, self._fail_open, *conditions

    def heard(self, name: str, result: str, seconds: float) -> None:
        """One round-trip."""
        self._evaluations.add(name, result)
        self._durations.observe(seconds, name, result)

    def failed_open(self, name: str, result: str) -> None:
        self._fail_open.add(name, result)

    def evaluated(self, name: str, seconds: float, *, excluded: bool = False, failed: bool = False) -> None:
        """Its match conditions."""
        self._condition_seconds.observe(seconds, _WEBHOOK, name)
        if excluded:
            self._condition_exclusions.add(_WEBHOOK, name)
        if failed:
            self._condition_errors.add(_WEBHOOK, name)
