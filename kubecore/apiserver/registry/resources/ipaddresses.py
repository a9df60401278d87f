"""IPAddresses: each is named for the address it stands for, and says whose that is."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.addresses import canonical_ip
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_PARENT = "spec.parentRef"


class IPAddressStrategy(Unversioned):
    resource_key = "ipaddresses.networking.k8s.io"
    name_errors = staticmethod(canonical_ip)

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
