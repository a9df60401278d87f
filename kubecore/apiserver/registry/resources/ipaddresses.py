"""IPAddresses: each is named for the address it stands for, and says whose that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.allocation.service_addresses import ServiceAddresses
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import Finish, RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.addresses import canonical_ip
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_PARENT = "spec.parentRef"


class IPAddressStrategy(Unversioned):
    resource_key = "ipaddresses.networking.k8s.io"
    name_errors = staticmethod(canonical_ip)
    keeps_generate_name = True

    def __init__(self, addresses: ServiceAddresses) -> None:
        self._ips = addresses

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, parent = Problems(), (obj.get("spec") or {}).get("parentRef")
        if parent is None:
            problems.required(_PARENT)
            return problems
        if parent.get("group"):
            problems.check(f"{_PARENT}.group", parent["group"], names.dns_subdomain)
        for field in ("resource", "name"):
            problems.check_needed(f"{_PARENT}.{field}", parent.get(field), names.path_segment)
        problems.check(f"{_PARENT}.namespace", parent.get("namespace") or "", names.path_segment)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.unchanged(_PARENT, *((one.get("spec") or {}).get("parentRef") for one in (obj, old)))
        return problems

    # --- whoever makes one takes the address

    def begin_create(self, ctx: RequestContext, obj: JSON) -> Finish | None:
        address = obj["metadata"].get("name") or ""
        if ctx.dry_run or not self._ips.hold(address):
            return None

        def finish(succeeded: bool) -> None:
            if not succeeded:
                self._ips.let_go(address)

        return finish

    def after_delete(self, ctx: RequestContext, obj: JSON) -> None:
        self._ips.let_go(obj["metadata"]["name"])

    def restore(self, entries: Sequence[JSON]) -> None:
        for address in entries:
            self._ips.hold(address["metadata"]["name"])
