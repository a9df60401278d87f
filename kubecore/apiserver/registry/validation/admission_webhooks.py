"""Admission webhooks. After kubernetes `pkg/apis/admissionregistration/validation/validation.go`.

What was stored before a rule existed may stay, as long as all webhooks of the old object break it (`Leniency`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.admission_rules import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATION_POLICIES,
    validate_match_conditions,
    validate_rule,
    validate_selectors,
)
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.webhook_clients import validate_client_config

JSON = dict[str, Any]

_REVIEW_VERSIONS = ("v1", "v1beta1")
_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
_NO_EFFECTS = ("None", "NoneOnDryRun")
_LONGEST, _SHORTEST = 30, 1


@dataclass(frozen=True, slots=True)
class Leniency:
    """What an object already broke when it was stored."""

    side_effects: bool = False
    review_versions: bool = False
    same_names: bool = False
    same_conditions: bool = False


def leniency(webhooks: Sequence[JSON], old: Sequence[JSON]) -> Leniency:
    """What an update from `old` may go on with."""
    had = [webhook.get("name") for webhook in old]
    conditions = [[webhook.get("matchConditions") or [] for webhook in some] for some in (webhooks, old)]
    return Leniency(
        side_effects=any(webhook.get("sideEffects") not in _NO_EFFECTS for webhook in old),
        review_versions=any(not _recognized(webhook.get("admissionReviewVersions") or ["v1"]) for webhook in old),
        same_names=len(set(had)) < len(had),
        same_conditions=same(*conditions),
    )


def validate_webhooks(problems: Problems, webhooks: Sequence[JSON], allowed: Leniency) -> None:
    taken: set[str] = set()
    for index, webhook in enumerate(webhooks):
        path, name = f"webhooks[{index}]", webhook.get("name") or ""
        _webhook(problems, webhook, path, allowed)
        _review_versions(problems, webhook.get("admissionReviewVersions") or [], path, allowed)
        if name in taken and name and not allowed.same_names:
            problems.duplicate(f"{path}.name", name)
        taken.add(name)


def _webhook(problems: Problems, webhook: JSON, path: str, allowed: Leniency) -> None:
    _name(problems, webhook.get("name") or "", f"{path}.name")
    for index, rule in enumerate(webhook.get("rules") or []):
        validate_rule(problems, rule, f"{path}.rules[{index}]")
    for field, values in (
        ("failurePolicy", FAILURE_POLICIES),
        ("matchPolicy", MATCH_POLICIES),
        ("reinvocationPolicy", REINVOCATION_POLICIES),
    ):
        problems.one_of_if_given(f"{path}.{field}", webhook.get(field), values)
    effects = _EFFECTS if allowed.side_effects else _NO_EFFECTS
    if webhook.get("sideEffects") is None:
        problems.required(f"{path}.sideEffects", f"must specify one of {', '.join(effects)}")
    problems.one_of_if_given(f"{path}.sideEffects", webhook.get("sideEffects"), effects)
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not _SHORTEST <= seconds <= _LONGEST:
        detail = f"the timeout value must be between {_SHORTEST} and {_LONGEST} seconds"
        problems.invalid(f"{path}.timeoutSeconds", seconds, detail)
    validate_selectors(problems, webhook, path)
    validate_client_config(problems, webhook.get("clientConfig") or {}, f"{path}.clientConfig")
    if not allowed.same_conditions:
        validate_match_conditions(problems, webhook.get("matchConditions") or [], f"{path}.matchConditions")


def _name(problems: Problems, name: str, path: str) -> None:
    """A domain of at least three parts."""
    if not name:
        problems.required(path)
    elif errors := names.dns_subdomain(name):
        problems.invalid(path, name, ",".join(errors))
    elif name.count(".") < 2:
        problems.invalid(path, name, "should be a domain with at least three segments separated by dots")


def _review_versions(problems: Problems, versions: list[str], path: str, allowed: Leniency) -> None:
    path, known = f"{path}.admissionReviewVersions", ", ".join(_REVIEW_VERSIONS)
    if not versions:
        problems.required(path, f"must specify one of {known}")
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            problems.invalid(f"{path}[{index}]", version, "duplicate version")
        else:
            problems.check(f"{path}[{index}]", version, names.dns_1035_label)
    if not allowed.review_versions and not _recognized(versions):
        problems.invalid(path, versions, f"must include at least one of {known}")


def _recognized(versions: Sequence[str]) -> bool:
    """Whether a version of AdmissionReview is among them that this server speaks."""
    return any(version in _REVIEW_VERSIONS for version in versions)
