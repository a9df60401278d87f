"""ServiceCIDRs: the ranges that cluster IPs come from."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.addresses import canonical_cidr, parse_old_cidr
from kubecore.apiserver.registry.validation.names import IMMUTABLE
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class ServiceCIDRStrategy(Unversioned):
    resource_key = "servicecidrs.networking.k8s.io"

    def default(self, obj: JSON) -> None:
        obj.setdefault("status", {})

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        # What a range has been is checked as a change.
        return [] if ctx.operation == "UPDATE" else _ranges(obj)

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        """Ranges stay; one of the other family may join a single one."""
        problems, path = Problems(), "spec.cidrs"
        new, before = (list((one.get("spec") or {}).get("cidrs") or []) for one in (obj, old))
        joined = (len(before), len(new)) == (1, 2)
        if not joined and len(before) != len(new):
            problems.invalid(path, (obj.get("spec") or {}).get("cidrs"), IMMUTABLE)
            return problems
        for index, (cidr, was) in enumerate(zip(new, before, strict=False)):
            if cidr != was:
                problems.invalid(f"{path}[{index}]", cidr, IMMUTABLE)
        return [*problems, *(_ranges(obj) if joined else ())]


def _ranges(obj: JSON) -> Problems:
    """One range, or one of each family."""
    problems, spec, path = Problems(), obj.get("spec") or {}, "spec.cidrs"
    cidrs = spec.get("cidrs") or []
    if not cidrs:
        problems.required(path, "at least one CIDR required")
    elif len(cidrs) > 2:
        problems.invalid(path, spec, "may only hold up to 2 values")
    else:
        for index, cidr in enumerate(cidrs):
            problems.check(f"{path}[{index}]", cidr, canonical_cidr)
        families = [parsed.version for parsed in map(parse_old_cidr, cidrs) if parsed is not None]
        if len(families) == 2 and len(set(families)) == 1:
            detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            problems.invalid(path, cidrs, detail)
    return problems
