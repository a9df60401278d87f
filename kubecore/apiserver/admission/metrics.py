"""How long admission takes and how it ends, under Kubernetes' names.

After upstream k8s.io/apiserver `pkg/admission/metrics` and `pkg/admission/plugin/policy/*/metrics`. A plugin that has
nothing to do with a resource is not run for it, and so not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kubecore._native import Clock, TimedCalls, TimeSeries
from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.names import ORDERED
from kubecore.metrics import Counter, Histogram, Named

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.metrics import Metrics

ADMIT, VALIDATE = "admit", "validate"
# How webhooks are told apart, which is not how plugins are.
WEBHOOK_TYPES = {True: "admit", False: "validating"}

_KNOWN = frozenset(ORDERED)
_STEP_BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
_WEBHOOK_BOUNDS = (*_STEP_BOUNDS, 10.0, 25.0)
_CONDITION_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25)
_POLICY_BOUNDS = (0.0000005, 0.001, 0.01, 0.1, 1.0)
_OUTCOME = ("type", "operation", "rejected")
_HIGHEST_CODE = 600


def _of_admission(name: str, told: str, *labels: str) -> Named:
    return Named(f"apiserver_admission_{name}", told, labels)


class AdmissionMetrics:
    def __init__(self, metrics: Metrics | None = None, clock: Clock | None = None) -> None:
        """Where nobody asks for them, they are counted all the same."""
        self._clock = clock or Clock()
        self.step = Histogram(
            _of_admission(
                "step_admission_duration_seconds",
                "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API "
                "resource and step type (validate or admit).",
                *_OUTCOME,
            ),
            _STEP_BOUNDS,
        )
        self.controller = Histogram(
            _of_admission(
                "controller_admission_duration_seconds",
                "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for "
                "each operation and API resource and type (validate or admit).",
                "name",
                *_OUTCOME,
            ),
            _STEP_BOUNDS,
        )
        self.webhooks = WebhookMetrics()
        self.conditions = ConditionMetrics()
        self.policies = PolicyMetrics()
        if metrics is not None:
            metrics.add(self.step, self.controller)
            for part in (self.webhooks, self.conditions, self.policies):
                metrics.add(*part.all)

    def plugins(self, name: str, type_: str, operation: str) -> TimeSeries:
        """Of the requests that a plugin lets pass. What is none of Kubernetes' plugins is not told."""
        return self._controller(name, type_, operation, "false")

    def timed(self, calls: Iterable[tuple[str, Callable[..., Any], bool]], type_: str, operation: str) -> TimedCalls:
        """Methods of plugins, to be called for requests one after the other; what is True is one more of a plugin whose
        other method is counted."""
        counted = [
            (
                call,
                self._controller(name, type_, operation, "false"),
                is_more,
                self._controller(name, type_, operation, "true"),
                self._step(type_, operation, "true") if name in _KNOWN else TimeSeries(()),
            )
            for name, call, is_more in calls
        ]
        return TimedCalls(counted, self._step(type_, operation, "false"), StatusError, self._clock)

    def admitted(self, ctx: RequestContext) -> None:
        """A request has come through all that mutates."""
        self._step(ADMIT, ctx.operation, "false").observe(ctx.admit_seconds)
        ctx.admit_seconds = 0.0

    def validated(self, ctx: RequestContext) -> None:
        """A request has come through all that validates."""
        self._step(VALIDATE, ctx.operation, "false").observe(ctx.validate_seconds)
        ctx.validate_seconds = 0.0

    def refused(self, name: str, type_: str, operation: str, *, plugin_seconds: float, step_seconds: float) -> None:
        if name in _KNOWN:
            self._controller(name, type_, operation, "true").observe(plugin_seconds)
            self._step(type_, operation, "true").observe(step_seconds)

    def _step(self, type_: str, operation: str, rejected: str) -> TimeSeries:
        return self.step.series(type_, operation, rejected)

    def _controller(self, name: str, type_: str, operation: str, rejected: str) -> TimeSeries:
        return self.controller.series(name, type_, operation, rejected) if name in _KNOWN else TimeSeries(())


class WebhookMetrics:
    def __init__(self) -> None:
        broken_out = "identified by name and broken out for each"
        self._duration = Histogram(
            _of_admission(
                "webhook_admission_duration_seconds",
                f"[STABLE] Admission webhook latency histogram in seconds, {broken_out} operation and API resource "
                "and type (validate or admit).",
                "name",
                *_OUTCOME,
            ),
            _WEBHOOK_BOUNDS,
        )
        self._rejections = Counter(
            _of_admission(
                "webhook_rejection_count",
                f"[ALPHA] Admission webhook rejection count, {broken_out} admission type (validating or admit) and "
                "operation. Additional labels specify an error type (calling_webhook_error or "
                "apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero "
                "rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver "
                "when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the "
                "metrics cardinality bounded.",
                "name",
                "type",
                "operation",
                "error_type",
                "rejection_code",
            )
        )
        self._fail_open = Counter(
            _of_admission(
                "webhook_fail_open_count",
                f"[ALPHA] Admission webhook fail open count, {broken_out} admission type (validating or admit).",
                "name",
                "type",
            )
        )
        self._requests = Counter(
            _of_admission(
                "webhook_request_total",
                f"[ALPHA] Admission webhook request total, {broken_out} admission type (validating or admit) and "
                "operation. Additional labels specify whether the request was rejected or not and an HTTP status "
                "code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
                "name",
                "type",
                "operation",
                "code",
                "rejected",
            )
        )
        self.all = (self._duration, self._rejections, self._fail_open, self._requests)

    def called(self, name: str, operation: str, seconds: float, *, mutating: bool, code: int, error: str = "") -> None:
        """One call; `error` says why the request is rejected by it, and is empty where it is not."""
        type_, told = WEBHOOK_TYPES[mutating], str(min(code, _HIGHEST_CODE))
        rejected = str(bool(error)).lower()
        if error:
            self._rejections.add(name, type_, operation, error, told)
        self._requests.add(name, type_, operation, told, rejected)
        self._duration.observe(seconds, name, type_, operation, rejected)

    def failed_open(self, name: str, *, mutating: bool) -> None:
        self._fail_open.add(name, WEBHOOK_TYPES[mutating])


class ConditionMetrics:
    """`kind` is webhook or policy."""

    def __init__(self) -> None:
        def told(what: str) -> str:
            return (
                f"[ALPHA] Admission match condition evaluation {what}, identified by name of resource containing the "
                "match condition and broken out for each kind containing matchConditions (webhook or policy), "
                "operation and admission type (validate or admit)."
            )

        labels = ("name", "kind", "type", "operation")
        self._errors = Counter(_of_admission("match_condition_evaluation_errors_total", told("errors count"), *labels))
        self._exclusions = Counter(_of_admission("match_condition_exclusions_total", told("exclusions count"), *labels))
        self._seconds = Histogram(
            _of_admission("match_condition_evaluation_seconds", told("time in seconds"), *labels), _CONDITION_BOUNDS
        )
        self.all = (self._errors, self._exclusions, self._seconds)

    def evaluated(self, name: str, kind: str, type_: str, operation: str, seconds: float, *, errors: int) -> None:
        labels = (name, kind, type_, operation)
        self._seconds.observe(seconds, *labels)
        if errors:
            self._errors.add(*labels, by=errors)

    def excluded(self, name: str, kind: str, type_: str, operation: str) -> None:
        """A request that is not for a webhook by its conditions."""
        self._exclusions.add(name, kind, type_, operation)


class PolicyMetrics:
    def __init__(self) -> None:
        labels = ("policy", "policy_binding", "error_type")
        validating = (*labels, "enforcement_action")
        self._checks = Counter(
            Named(
                "apiserver_validating_admission_policy_check_total",
                "[BETA] Validation admission policy check total, labeled by policy and further identified by binding "
                "and enforcement action taken.",
                validating,
            )
        )
        self._seconds = Histogram(
            Named(
                "apiserver_validating_admission_policy_check_duration_seconds",
                "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by "
                "policy and further including binding and enforcement action taken.",
                validating,
            ),
            _POLICY_BOUNDS,
        )
        self._mutations = Counter(
            Named(
                "apiserver_mutating_admission_policy_check_total",
                "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
                labels,
            )
        )
        self._mutation_seconds = Histogram(
            Named(
                "apiserver_mutating_admission_policy_check_duration_seconds",
                "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy "
                "and binding.",
                labels,
            ),
            _POLICY_BOUNDS,
        )
        self.all = (self._checks, self._seconds, self._mutations, self._mutation_seconds)

    def checked(self, policy: str, binding: str, seconds: float, *, error: str, action: str) -> None:
        """A validation that was not simply passed."""
        self._checks.add(policy, binding, error, action)
        self._seconds.observe(seconds, policy, binding, error, action)

    def mutated(self, policy: str, binding: str, seconds: float, *, error: str) -> None:
        self._mutations.add(policy, binding, error)
        self._mutation_seconds.observe(seconds, policy, binding, error)
