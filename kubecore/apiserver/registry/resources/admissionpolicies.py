"""Admission policies written in CEL, and their bindings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.admission_policies import (
    validate_binding,
    validate_mutating_policy,
    validate_type_checking,
    validate_validating_policy,
)
from kubecore.apiserver.registry.validation.admission_rules import default_match_resources
from kubecore.apiserver.registry.validation.conditions import validate_conditions
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class _PolicyStrategy(Strategy, ABC):
    allow_unconditional_update = False
    any_finalizer = True

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        if spec.get("failurePolicy") is None:
            spec["failurePolicy"] = "Fail"
        default_match_resources(spec.get("matchConstraints"))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            self._validate(problems, obj, same_conditions=False)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj["spec"], old.get("spec") or {}
        # Parameters are variables of the conditions.
        unchanged = all(same(spec.get(field), before.get(field)) for field in ("paramKind", "matchConditions"))
        self._validate(problems, obj, same_conditions=unchanged)
        return problems

    @abstractmethod
    def _validate(self, problems: Problems, obj: JSON, *, same_conditions: bool) -> None:
        """`same_conditions`: an update leaves the match conditions, and what they see, as they were."""


class ValidatingAdmissionPolicyStrategy(_PolicyStrategy):
    resource_key = "validatingadmissionpolicies.admissionregistration.k8s.io"

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def _validate(self, problems: Problems, obj: JSON, *, same_conditions: bool) -> None:
        name = obj["metadata"].get("name") or ""
        validate_validating_policy(problems, name, obj["spec"], same_conditions=same_conditions)

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        validate_type_checking(problems, status.get("typeChecking"))
        validate_conditions(problems, status.get("conditions") or [], "status.conditions")
        return problems


class MutatingAdmissionPolicyStrategy(_PolicyStrategy):
    resource_key = "mutatingadmissionpolicies.admissionregistration.k8s.io"

    def _validate(self, problems: Problems, obj: JSON, *, same_conditions: bool) -> None:
        validate_mutating_policy(problems, obj["spec"], same_conditions=same_conditions)


class AdmissionPolicyBindingStrategy(Strategy):
    """ValidatingAdmissionPolicyBinding; the mutating one has no actions to choose from."""

    resource_key = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
    allow_unconditional_update = False
    any_finalizer = True
    mutating = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        default_match_resources(spec.get("matchResources"))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_binding(problems, obj["spec"], mutating=self.mutating)
        return problems


class MutatingAdmissionPolicyBindingStrategy(AdmissionPolicyBindingStrategy):
    resource_key = "mutatingadmissionpolicybindings.admissionregistration.k8s.io"
    mutating = True
