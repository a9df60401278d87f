"""Which built-in versions are on their way out, and what their clients are told.

What upstream's API types say of themselves (`zz_generated.prerelease-lifecycle.go`), of those that are deprecated in
v1.35 and still served there: `pkg/endpoints/deprecation` makes the text of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kubecore.apiserver.handlers.request import warning_headers

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource


class Deprecation(NamedTuple):
    """Minor versions of Kubernetes 1; `removed` is 0 where none is named."""

    since: int
    removed: int = 0
    instead: str = ""

    def of(self, api_version: str, kind: str) -> str:
        text = f"{api_version} {kind} is deprecated in v1.{self.since}+"
        if self.removed:
            text += f", unavailable in v1.{self.removed}+"
        return f"{text}; use {self.instead}" if self.instead else text


_DEPRECATED = {
    "v1/ComponentStatus": Deprecation(19),
    "v1/Endpoints": Deprecation(33, instead="discovery.k8s.io/v1 EndpointSlice"),
    "storage.k8s.io/v1beta1/VolumeAttributesClass": Deprecation(34, 37, "storage.k8s.io/v1 VolumeAttributesClass"),
}
# Whole versions.
_VERSIONS = {
    "admissionregistration.k8s.io/v1alpha1": Deprecation(35, 38),
    "certificates.k8s.io/v1alpha1": Deprecation(34, 37),
    "coordination.k8s.io/v1alpha2": Deprecation(35, 38),
    "networking.k8s.io/v1beta1": Deprecation(34, 37),
    "resource.k8s.io/v1beta1": Deprecation(35, 38),
}


def deprecation(resource: Resource) -> str:
    """What every client of a built-in kind's version is told; "" where there is nothing to tell."""
    found = _DEPRECATED.get(f"{resource.api_version}/{resource.kind}") or _VERSIONS.get(resource.api_version)
    return found.of(resource.api_version, resource.kind) if found else ""


def deprecation_header(resource: Resource) -> str | None:
    """The same as the value of a Warning header."""
    return next((value for _, value in warning_headers([deprecation(resource)])), None)
