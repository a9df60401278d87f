"""Admission policies written in CEL, and their bindings."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.webhooks import validate_rule
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


def _default_match(match: JSON | None) -> None:
    if match is None:
        return
    match["matchPolicy"] = match.get("matchPolicy") or "Equivalent"
    for field in ("namespaceSelector", "objectSelector"):
        if match.get(field) is None:
            match[field] = {}
    for rules in (match.get("resourceRules"), match.get("excludeResourceRules")):
        for rule in rules or []:
            rule["scope"] = rule.get("scope") or "*"


class ValidatingAdmissionPolicyStrategy(Strategy):
    resource_key = "validatingadmissionpolicies.admissionregistration.k8s.io"
    allow_unconditional_update = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is not None:
            spec["failurePolicy"] = spec.get("failurePolicy") or "Fail"
            _default_match(spec.get("matchConstraints"))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        problems.one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
        match = spec.get("matchConstraints")
        if match is None:
            problems.required("spec.matchConstraints")
        else:
            if not match.get("resourceRules"):
                problems.required("spec.matchConstraints.resourceRules")
            for index, rule in enumerate(match.get("resourceRules") or []):
                validate_rule(problems, rule, f"spec.matchConstraints.resourceRules[{index}]")
        self._content(problems, spec)
        return problems

    def _content(self, problems: Problems, spec: JSON) -> None:
        validations = spec.get("validations") or []
        if not validations and not spec.get("auditAnnotations"):
            detail = "validations or auditAnnotations must contain at least one item"
            problems.required("spec.validations", detail)
        for index, validation in enumerate(validations):
            if not (validation.get("expression") or "").strip():
                problems.required(f"spec.validations[{index}].expression", "expression is not specified")


class MutatingAdmissionPolicyStrategy(ValidatingAdmissionPolicyStrategy):
    resource_key = "mutatingadmissionpolicies.admissionregistration.k8s.io"

    def _content(self, problems: Problems, spec: JSON) -> None:
        if not spec.get("mutations"):
            problems.required("spec.mutations", "mutations must contain at least one item")
        problems.one_of("spec.reinvocationPolicy", spec.get("reinvocationPolicy"), ("IfNeeded", "Never"), required=True)


class AdmissionPolicyBindingStrategy(Strategy):
    """ValidatingAdmissionPolicyBinding; the mutating one has no actions to choose from."""

    resource_key = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
    allow_unconditional_update = False
    has_actions = True

    def default(self, obj: JSON) -> None:
        _default_match((obj.get("spec") or {}).get("matchResources"))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        if not spec.get("policyName"):
            problems.required("spec.policyName")
        else:
            problems.check("spec.policyName", spec["policyName"], names.dns_subdomain)
        actions = spec.get("validationActions") or []
        if self.has_actions and not actions:
            problems.required("spec.validationActions", "at least one validation action is required")
        for index, action in enumerate(actions):
            problems.one_of(f"spec.validationActions[{index}]", action, ("Audit", "Deny", "Warn"), required=True)
        if {"Deny", "Warn"} <= set(actions):
            detail = (
                "must not contain both Deny and Warn (repeating the same validation failure information in the "
                "API response and headers serves no purpose)"
            )
            problems.invalid("spec.validationActions", actions, detail)
        return problems


class MutatingAdmissionPolicyBindingStrategy(AdmissionPolicyBindingStrategy):
    resource_key = "mutatingadmissionpolicybindings.admissionregistration.k8s.io"
    has_actions = False
