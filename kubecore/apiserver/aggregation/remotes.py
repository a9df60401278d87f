"""APIServices that other servers answer for, as the rest of this package needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kubecore.api import meta
from kubecore.apiserver.discovery.priorities import Priority
from kubecore.apiserver.registry.resources.apiservices import AVAILABLE, HTTPS_PORT

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service with an extension API server, and by what its certificate is judged: `ca_bundle` is base64 of PEM,
    empty for the system's CAs."""

    namespace: str
    service: str
    port: int
    ca_bundle: str = ""
    insecure: bool = False

    @property
    def host(self) -> str:
        """What its certificate must be for."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def trusting(self) -> Backend:
        """Whatever certificate it has."""
        return replace(self, ca_bundle="", insecure=True)


@dataclass(frozen=True, slots=True)
class Remote:
    """A group version that a backend serves."""

    name: str
    group: str
    version: str
    priority: Priority
    backend: Backend
    available: bool

    @property
    def group_version(self) -> tuple[str, str]:
        return self.group, self.version

    @property
    def path(self) -> str:
        """Where its resources are listed."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


def remote_of(api_service: JSON) -> Remote | None:
    """None for a local one."""
    spec = api_service["spec"]
    service = spec.get("service")
    if service is None:
        return None
    backend = Backend(
        namespace=service.get("namespace") or "",
        service=service.get("name") or "",
        port=service.get("port") or HTTPS_PORT,
        ca_bundle=spec.get("caBundle") or "",
        insecure=bool(spec.get("insecureSkipTLSVerify")),
    )
    condition = meta.condition(api_service, AVAILABLE) or {}
    return Remote(
        name=meta.name(api_service),
        group=spec.get("group") or "",
        version=spec["version"],
        priority=Priority(spec["groupPriorityMinimum"], spec["versionPriority"]),
        backend=backend,
        available=condition.get("status") == "True",
    )
