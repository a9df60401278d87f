"""ServiceCIDRs: the ranges that cluster IPs come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.allocation.service_addresses import ServiceAddresses
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.addresses import canonical_cidr, parse_old_cidr
from kubecore.apiserver.registry.validation.names import IMMUTABLE
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class ServiceCIDRStrategy(Unversioned):
    resource_key = "servicecidrs.networking.k8s.io"
    # Upstream's strategy leaves it where it is.
    status_on_create = True
    # Upstream resets the status in a group that there is not.
    unowned = ()

    def __init__(self, addresses: ServiceAddresses) -> None:
        self._ips = addresses

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

    # --- addresses come from ranges that are ready and stay

    def after_create(self, ctx: RequestContext, obj: JSON) -> None:
        self._use(obj)

    def after_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        self._use(obj)

    def mark_deleting(self, ctx: RequestContext, obj: JSON) -> None:
        if not ctx.dry_run:
            self._ips.set_ranges(obj["metadata"]["name"], ())

    def after_delete(self, ctx: RequestContext, obj: JSON) -> None:
        self._ips.set_ranges(obj["metadata"]["name"], ())

    def restore(self, entries: Sequence[JSON]) -> None:
        for cidr in entries:
            self._use(cidr)

    def _use(self, obj: JSON) -> None:
        usable = not obj["metadata"].get("deletionTimestamp") and _is_ready(obj)
        self._ips.set_ranges(obj["metadata"]["name"], (obj.get("spec") or {}).get("cidrs") or () if usable else ())


def _is_ready(obj: JSON) -> bool:
    """One of which nothing is told counts as ready, since controllers need not run."""
    told = (obj.get("status") or {}).get("conditions") or []
    return all(one.get("status") == "True" for one in told if one.get("type") == "Ready")


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
