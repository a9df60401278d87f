"""Which built-in versions are on their way out, what their clients are told, and which of them are asked for.

What upstream's API types say of themselves (`zz_generated.prerelease-lifecycle.go`), of those that are deprecated in
v1.35 and still served there. (apiserver `pkg/endpoints/deprecation` and `pkg/endpoints/metrics`.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kubecore.apiserver.handlers.request import warning_headers
from kubecore.metrics import Named, Reading

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


def _of(resource: Resource) -> Deprecation | None:
    return _DEPRECATED.get(f"{resource.api_version}/{resource.kind}") or _VERSIONS.get(resource.api_version)


def deprecation(resource: Resource) -> str:
    """What every client of a built-in kind's version is told; "" where there is nothing to tell."""
    found = _of(resource)
    return found.of(resource.api_version, resource.kind) if found else ""


def removed_release(resource: Resource) -> str | None:
    """The release that no longer serves a built-in kind's version, "" where none is named; None for a version that is
    not deprecated."""
    found = _of(resource)
    return None if found is None else f"1.{found.removed}" if found.removed else ""


def deprecation_header(resource: Resource) -> str | None:
    """The same as the value of a Warning header."""
    return next((value for _, value in warning_headers([deprecation(resource)])), None)


# --- who has asked for them

_LABELS = ("group", "version", "resource", "subresource", "removed_release")
_TOLD = (
    "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, "
    "subresource, and removed_release."
)
# The front's own count of requests, whose labels are in order.
_ASKED = re.compile(
    rb'^apiserver_request_total\{[^\n]*,group="([^"\n]*)",resource="([^"\n]+)",scope="[^"\n]*",'
    rb'subresource="([^"\n]*)",verb="[^"\n]*",version="([^"\n]*)"\}',
    re.MULTILINE,
)


def deprecated_requests(
    counted: Callable[[], bytes], removed_release: Callable[[str, str, str], str | None]
) -> Reading:
    """`counted` gives the text of what the front has counted; `removed_release`, by group, version and plural, is None
    for what is not deprecated."""

    def asked() -> Iterator[tuple[tuple[str, ...], float]]:
        found = {tuple(part.decode() for part in one.groups()) for one in _ASKED.finditer(counted())}
        for group, resource, subresource, version in found:
            removed = removed_release(group, version, resource)
            if removed is not None:
                yield (group, version, resource, subresource, removed), 1.0

    return Reading(Named("apiserver_requested_deprecated_apis", _TOLD, _LABELS), asked)
