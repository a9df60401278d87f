"""IngressClasses."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_LONGEST_CONTROLLER = 250


class IngressClassStrategy(Strategy):
    resource_key = "ingressclasses.networking.k8s.io"

    def default(self, obj: JSON) -> None:
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None:
            parameters["scope"] = parameters.get("scope") or "Cluster"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        controller = spec.get("controller") or ""
        if not controller:
            problems.required("spec.controller")
        elif len(controller) > _LONGEST_CONTROLLER:
            problems.too_long("spec.controller", _LONGEST_CONTROLLER)
        else:
            prefix, slash, _ = controller.partition("/")
            if not slash or names.dns_subdomain(prefix):
                detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
                problems.invalid("spec.controller", controller, detail)
        parameters = spec.get("parameters")
        if parameters is not None:
            _parameters(problems, parameters)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.immutable("spec.controller", obj["spec"].get("controller"), old["spec"].get("controller"))
        return problems


def _parameters(problems: Problems, parameters: JSON) -> None:
    path = "spec.parameters"
    for field in ("kind", "name"):
        if not parameters.get(field):
            problems.required(f"{path}.{field}", f"{field} is required")
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    problems.one_of(f"{path}.scope", scope, ("Cluster", "Namespace"), required=True)
    if scope == "Namespace" and not namespace:
        problems.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    if scope == "Cluster" and namespace is not None:
        problems.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
