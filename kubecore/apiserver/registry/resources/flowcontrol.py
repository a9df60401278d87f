"""FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_GROUP = "flowcontrol.apiserver.k8s.io"
_PRECEDENCE, _MOST_PRECEDENCE, _SHARES = 1000, 10_000, 30
_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}


class FlowSchemaStrategy(Strategy):
    resource_key = f"flowschemas.{_GROUP}"
    allow_unconditional_update = False
    name_errors = staticmethod(names.path_segment)

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is not None and not spec.get("matchingPrecedence"):
            spec["matchingPrecedence"] = _PRECEDENCE

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        precedence = spec.get("matchingPrecedence", 0)
        if precedence <= 0:
            problems.invalid("spec.matchingPrecedence", precedence, "must be a positive value")
        elif precedence > _MOST_PRECEDENCE:
            detail = f"must not be greater than {_MOST_PRECEDENCE}"
            problems.invalid("spec.matchingPrecedence", precedence, detail)
        kind = (spec.get("distinguisherMethod") or {}).get("type")
        if spec.get("distinguisherMethod") is not None:
            problems.one_of("spec.distinguisherMethod.type", kind, ("ByNamespace", "ByUser"), required=True)
        level = (spec.get("priorityLevelConfiguration") or {}).get("name")
        if not level:
            problems.required("spec.priorityLevelConfiguration.name", "must reference a priority level")
        else:
            problems.check("spec.priorityLevelConfiguration.name", level, names.dns_subdomain)
        for index, rule in enumerate(spec.get("rules") or []):
            if not rule.get("subjects"):
                problems.required(f"spec.rules[{index}].subjects", "subjects must contain at least one value")
        return problems


class PriorityLevelConfigurationStrategy(Strategy):
    resource_key = f"prioritylevelconfigurations.{_GROUP}"
    allow_unconditional_update = False
    name_errors = staticmethod(names.path_segment)

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec") or {}
        kind = spec.get("type")
        if kind == "Exempt":
            exempt = spec.get("exempt")
            if exempt is None:
                exempt = spec["exempt"] = {}
            exempt.setdefault("nominalConcurrencyShares", 0)
            exempt.setdefault("lendablePercent", 0)
        limited = spec.get("limited")
        if limited is not None:
            limited.setdefault("nominalConcurrencyShares", _SHARES)
            limited.setdefault("lendablePercent", 0)
            queuing = (limited.get("limitResponse") or {}).get("queuing")
            if queuing is not None:
                for field, value in _QUEUING.items():
                    queuing[field] = queuing.get(field) or value

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        kind = spec.get("type")
        problems.one_of("spec.type", kind, ("Exempt", "Limited"), required=True)
        if kind == "Limited" and spec.get("limited") is None:
            problems.required("spec.limited", "must not be empty when type is Limited")
        if kind == "Limited" and spec.get("exempt") is not None:
            problems.forbidden("spec.exempt", "must be nil if the type is Limited")
        if kind == "Exempt" and spec.get("limited") is not None:
            problems.forbidden("spec.limited", "must be nil if the type is not Limited")
        response = ((spec.get("limited") or {}).get("limitResponse") or {}) if kind == "Limited" else {}
        if response:
            path = "spec.limited.limitResponse"
            problems.one_of(f"{path}.type", response.get("type"), ("Queue", "Reject"), required=True)
            if response.get("type") == "Queue" and response.get("queuing") is None:
                problems.required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Queue")
            if response.get("type") == "Reject" and response.get("queuing") is not None:
                problems.forbidden(f"{path}.queuing", "must be nil if limited.limitResponse.type is not Limited")
        return problems
