"""FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.flow_schemas import (
    validate_flow_schema,
    validate_flow_status,
    validate_priority_level,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_GROUP = "flowcontrol.apiserver.k8s.io"
_PRECEDENCE = 1000
_EXEMPT = {"nominalConcurrencyShares": 0, "lendablePercent": 0}
_LIMITED = {"nominalConcurrencyShares": 30, "lendablePercent": 0}
_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
_ZERO_SHARES = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares"


class _FlowControlStrategy(Strategy):
    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_flow_status(problems, obj.get("status") or {})
        return problems


class FlowSchemaStrategy(_FlowControlStrategy):
    resource_key = f"flowschemas.{_GROUP}"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        if not spec.get("matchingPrecedence"):
            spec["matchingPrecedence"] = _PRECEDENCE

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_flow_schema(problems, obj["metadata"].get("name") or "", obj["spec"])
        return problems


class PriorityLevelConfigurationStrategy(_FlowControlStrategy):
    resource_key = f"prioritylevelconfigurations.{_GROUP}"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec") or {}
        limited = spec.get("limited") or {}
        _fill(spec.get("exempt"), _EXEMPT)
        _fill(spec.get("limited"), _LIMITED)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for field, value in _QUEUING.items():
                queuing[field] = queuing.get(field) or value

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, metadata = Problems(), obj["metadata"]
        if _ZERO_SHARES in (metadata.get("annotations") or {}):
            problems.forbidden("metadata.annotations", f"annotation '{_ZERO_SHARES}' is forbidden")
        validate_priority_level(problems, metadata.get("name") or "", obj.get("spec") or {})
        return problems


def _fill(holder: JSON | None, defaults: JSON) -> None:
    for field, value in defaults.items() if holder is not None else ():
        if holder is not None and holder.get(field) is None:
            holder[field] = value
