"""How PodSecurity has judged, under Kubernetes' names.

After upstream k8s.io/pod-security-admission `metrics/metrics.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.apiserver.admission.pod_security.policy import LATEST, PRIVILEGED, Standard
from kubecore.apiserver.version import MINOR
from kubecore.metrics import Counter, Named

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.metrics import Metrics

_REQUEST = ("request_operation", "resource", "subresource")
_EVERYTHING = Standard(PRIVILEGED)
_RESOURCES = {"pods": "pod", "namespaces": "namespace"}


class PodSecurityMetrics:
    def __init__(self, metrics: Metrics | None = None) -> None:
        self._evaluations = Counter(
            Named(
                "pod_security_evaluations_total",
                "[ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt requests.",
                ("decision", "policy_level", "policy_version", "mode", *_REQUEST),
            )
        )
        self._exemptions = Counter(
            Named(
                "pod_security_exemptions_total",
                "[ALPHA] Number of exempt requests, not counting ignored or out of scope requests.",
                _REQUEST,
            )
        )
        self._errors = Counter(
            Named(
                "pod_security_errors_total",
                "[ALPHA] Number of errors preventing normal evaluation. Non-fatal errors may result in the latest "
                "restricted profile being used for evaluation.",
                ("fatal", *_REQUEST),
            )
        )
        # What most requests come to is told from the start.
        self._passes: dict[tuple[str, str], tuple[str, ...]] = {}
        for operation in ("create", "update"):
            passes = ("allow", PRIVILEGED, "latest", "enforce", operation, "pod", "")
            self._passes[operation.upper(), ""] = passes
            self._evaluations.count(passes, by=0)
            self._exemptions.add(operation, "pod", "", by=0)
            self._exemptions.add(operation, "controller", "", by=0)
        if metrics is not None:
            metrics.add(self._evaluations, self._exemptions, self._errors)

    def evaluated(self, ctx: RequestContext, standard: Standard, mode: str, *, allowed: bool) -> None:
        decision = "allow" if allowed else "deny"
        self._evaluations.add(decision, standard.level, _version(standard), mode, *_request(ctx))

    def passed(self, ctx: RequestContext) -> None:
        """A pod in a namespace where everything may be."""
        passes = self._passes.get((ctx.operation, ctx.subresource))
        if passes is None:
            self.evaluated(ctx, _EVERYTHING, "enforce", allowed=True)
        else:
            self._evaluations.count(passes)

    def exempted(self, ctx: RequestContext) -> None:
        self._exemptions.add(*_request(ctx))

    def failed(self, ctx: RequestContext, *, fatal: bool) -> None:
        self._errors.add(str(fatal).lower(), *_request(ctx))


def _version(standard: Standard) -> str:
    """Privileged is the same in all versions; what is to come is not told apart."""
    if standard.version == LATEST or standard.level == PRIVILEGED:
        return "latest"
    return "future" if standard.version > MINOR else f"v1.{standard.version}"


def _request(ctx: RequestContext) -> tuple[str, str, str]:
    return ctx.operation.lower(), _RESOURCES.get(ctx.resource_key, "controller"), ctx.subresource
