"""DenyServiceExternalIPs: no Service may begin to use external IPs, which could take others' traffic (CVE-2020-8554).

Off by default. (kubernetes `plugin/pkg/admission/network/denyserviceexternalips`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]


class DenyServiceExternalIPs(Plugin):
    name = "DenyServiceExternalIPs"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "services" and operation in (CREATE, UPDATE) and not subresource

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        if not _external_ips(obj) <= _external_ips(old):
            raise errors.forbidden("", "services", ctx.name, "Use of external IPs is denied by admission control")


def _external_ips(service: JSON | None) -> set[str]:
    return set(((service or {}).get("spec") or {}).get("externalIPs") or ())
