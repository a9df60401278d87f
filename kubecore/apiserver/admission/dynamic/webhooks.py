"""Webhooks as they are configured, ready to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.apiserver.admission.dynamic.rules import Match
from kubecore.apiserver.webhooks.calling import ServiceTarget, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON = dict[str, Any]

_SECONDS = 10
_HTTPS = 443
_HARMLESS = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True, eq=False)
class Webhook:
    configuration: str
    name: str
    match: Match
    conditions: _native.AdmissionRules | None
    ignores_failure: bool
    seconds: int
    harmless: bool
    """It may be asked in a dry run."""
    reinvoked: bool
    """It wants to see what others have changed after it."""
    review_versions: tuple[str, ...]
    target: Target


def webhooks_of(configurations: Sequence[JSON]) -> list[Webhook]:
    """In the order they are asked in: configurations by name, in each as written."""
    by_name = sorted(configurations, key=lambda one: one["metadata"]["name"])
    return [_webhook(one["metadata"]["name"], webhook) for one in by_name for webhook in one.get("webhooks") or []]


def _webhook(configuration: str, webhook: JSON) -> Webhook:
    conditions = [("condition", one["expression"]) for one in webhook.get("matchConditions") or []]
    return Webhook(
        configuration=configuration,
        name=webhook["name"],
        match=Match.of(webhook, "rules"),
        conditions=_native.AdmissionRules(conditions, params=False) if conditions else None,
        ignores_failure=webhook.get("failurePolicy") == "Ignore",
        seconds=webhook.get("timeoutSeconds") or _SECONDS,
        harmless=webhook.get("sideEffects") in _HARMLESS,
        reinvoked=webhook.get("reinvocationPolicy") == "IfNeeded",
        review_versions=tuple(webhook.get("admissionReviewVersions") or []),
        target=_target(webhook.get("clientConfig") or {}),
    )


def _target(config: JSON) -> Target:
    service = config.get("service")
    reached = None
    if service is not None:
        port, path = service.get("port") or _HTTPS, service.get("path") or ""
        reached = ServiceTarget(service["namespace"], service["name"], port, path)
    return Target(url=config.get("url") or "", service=reached, ca_bundle=config.get("caBundle") or "")
