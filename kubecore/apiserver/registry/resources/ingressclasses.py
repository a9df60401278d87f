"""IngressClasses."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.references import validate_typed_reference

JSON = dict[str, Any]

_LONGEST_CONTROLLER = 250
_SCOPES = ("Cluster", "Namespace")


class IngressClassStrategy(Strategy):
    resource_key = "ingressclasses.networking.k8s.io"

    def default(self, obj: JSON) -> None:
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None:
            parameters["scope"] = "Cluster" if parameters.get("scope") is None else parameters["scope"]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        controller = spec.get("controller") or ""
        if not controller:
            problems.required("spec.controller")
        elif len(controller) > _LONGEST_CONTROLLER:
            problems.too_long("spec.controller", _LONGEST_CONTROLLER)
        for value, error in names.domain_prefixed_path(controller) if controller else ():
            problems.invalid("spec.controller", value, error)
        parameters = spec.get("parameters")
        if parameters is not None:
            _parameters(problems, parameters)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.immutable(
            "spec.controller", (obj.get("spec") or {}).get("controller") or "", old["spec"].get("controller")
        )
        return problems


def _parameters(problems: Problems, parameters: JSON) -> None:
    path = "spec.parameters"
    validate_typed_reference(problems, parameters, path)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    problems.one_of_if_given(f"{path}.scope", scope, _SCOPES)
    if scope == "Namespace" and namespace is not None:
        problems.check(f"{path}.namespace", namespace, names.dns_label)
    elif scope == "Namespace":
        problems.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    if scope == "Cluster" and namespace is not None:
        problems.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
