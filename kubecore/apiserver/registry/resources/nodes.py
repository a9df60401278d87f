"""Nodes."""

from __future__ import annotations

import ipaddress
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_amounts
from kubecore.apiserver.registry.validation.scheduling import validate_taints

JSON = dict[str, Any]


class NodeStrategy(Strategy):
    resource_key = "nodes"
    tracks_generation = False
    # A kubelet registers its node with the status in one request.
    status_on_create = True

    def default(self, obj: JSON) -> None:
        # Kubelets are configured otherwise since v1.26.
        obj.setdefault("spec", {}).pop("configSource", None)
        status = obj.get("status")
        if status:
            canonical_list(status.get("capacity"))
            canonical_list(status.get("allocatable"))
            if status.get("capacity") and not status.get("allocatable"):
                status["allocatable"] = dict(status["capacity"])
        spec = obj["spec"]
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs") and not spec.get("podCIDR"):
            spec["podCIDR"] = spec["podCIDRs"][0]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        if taints := spec.get("taints"):
            validate_taints(problems, taints, "metadata.taints")
        for index, cidr in enumerate(spec.get("podCIDRs") or []):
            try:
                ipaddress.ip_network(cidr)
            except ValueError:
                detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                problems.invalid(f"spec.podCIDRs[{index}]", cidr, detail)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj.get("spec") or {}, old.get("spec") or {}
        if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
            detail = 'node updates may not change podCIDR except from "" to valid'
            problems.forbidden("spec.podCIDRs", detail)
        if before.get("providerID") and spec.get("providerID") != before["providerID"]:
            detail = 'node updates may not change providerID except from "" to valid'
            problems.forbidden("spec.providerID", detail)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        validate_amounts(problems, status.get("capacity"), "status.capacity")
        validate_amounts(problems, status.get("allocatable"), "status.allocatable")
        taken = set()
        for index, address in enumerate(status.get("addresses") or []):
            pair = (address.get("type"), address.get("address"))
            if pair in taken:
                problems.duplicate(f"status.addresses[{index}]", address)
            taken.add(pair)
        return problems
