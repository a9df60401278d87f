"""EndpointSlices."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.resources.generation import ContentGeneration
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import advice
from kubecore.apiserver.registry.validation.endpoint_slices import (
    ADDRESS_TYPES,
    validate_endpoints,
    validate_slice_ports,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class EndpointSliceStrategy(ContentGeneration):
    resource_key = "endpointslices.discovery.k8s.io"

    def default(self, obj: JSON) -> None:
        for port in obj.get("ports") or []:
            for field, value in (("name", ""), ("protocol", "TCP")):
                if port.get(field) is None:
                    port[field] = value
        for field in ("endpoints", "ports"):
            # Always there, if only as null.
            obj.setdefault(field, None)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        super().prepare_for_create(ctx, obj)
        _drop_topology(obj)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        metadata, before = obj["metadata"], old["metadata"]
        if not same(_content(obj), _content(old)) or (metadata.get("labels") or {}) != (before.get("labels") or {}):
            metadata["generation"] = (before.get("generation") or 0) + 1
        if not same(obj["endpoints"], old.get("endpoints")):
            _drop_topology(obj)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        problems.one_of("addressType", obj.get("addressType"), ADDRESS_TYPES, required=True)
        validate_slice_ports(problems, obj["ports"] or [])
        if ctx.operation == "CREATE":
            validate_endpoints(problems, obj["endpoints"] or [], obj.get("addressType") or "")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        if not same(obj["endpoints"], old.get("endpoints")):
            validate_endpoints(problems, obj["endpoints"] or [], obj.get("addressType") or "")
        problems.immutable("addressType", obj.get("addressType"), old.get("addressType"))
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        told = advice.of_slice(obj)
        if old is None and obj.get("addressType") == "FQDN":
            told.append("spec.addressType: FQDN endpoints are deprecated")
        return told


def _content(obj: JSON) -> JSON:
    return {field: obj.get(field) for field in ("addressType", "endpoints", "ports")}


def _drop_topology(obj: JSON) -> None:
    """Of an older version; v1 takes none."""
    for endpoint in obj["endpoints"] or []:
        endpoint.pop("deprecatedTopology", None)
