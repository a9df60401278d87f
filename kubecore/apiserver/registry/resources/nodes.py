"""Nodes."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice
from kubecore.apiserver.registry.validation.nodes import (
    validate_node_spec,
    validate_node_status,
    validate_node_status_change,
    validate_node_update,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class NodeStrategy(Strategy):
    resource_key = "nodes"
    tracks_generation = False
    # A kubelet registers its node with the status in one request.
    status_on_create = True

    def default(self, obj: JSON) -> None:
        obj.setdefault("spec", {})
        status = obj.get("status")
        if status:
            canonical_list(status.get("capacity"))
            canonical_list(status.get("allocatable"))
            if status.get("capacity") and not status.get("allocatable"):
                status["allocatable"] = dict(status["capacity"])
        _agree_on_cidrs(obj["spec"])

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["spec"].pop("configSource", None)
        status = obj.get("status") or {}
        status.pop("config", None)
        # Only with the gate NodeDeclaredFeatures.
        status.pop("declaredFeatures", None)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        # Kubelets are configured otherwise since v1.26. Whoever has sent it owns it all the same.
        if not (old.get("spec") or {}).get("configSource"):
            obj["spec"].pop("configSource", None)

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        if not (old.get("status") or {}).get("config"):
            (obj.get("status") or {}).pop("config", None)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_node_spec(problems, obj.get("spec") or {})
        validate_node_status(problems, obj.get("status") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_node_update(problems, obj.get("spec") or {}, old.get("spec") or {})
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return [] if ctx.subresource else advice.of_node(obj)

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_node_status_change(problems, obj.get("status") or {})
        return problems


def _agree_on_cidrs(spec: JSON) -> None:
    """One range and the list of all say the same; where they do not, the one counts, which old clients know."""
    one, listed = spec.get("podCIDR"), spec.get("podCIDRs")
    if one and (not listed or listed[0] != one):
        spec["podCIDRs"] = [one]
    elif listed and not one:
        spec["podCIDR"] = listed[0]
