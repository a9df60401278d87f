"""Fields of features that are off in v1.35 unless asked for: what a client sends of them is dropped without a word.

After kubernetes `pkg/api/pod/util.go` (dropDisabledFields) and the defaults in `pkg/features/kube_features.go`.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_PROJECTIONS = ("clusterTrustBundle", "podCertificate")
_OF_CONTAINERS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def drop_disabled_fields(spec: JSON) -> None:
    """Of a pod spec, in a pod or a template, in place."""
    spec.pop("workloadRef", None)
    for volume in spec.get("volumes") or []:
        projected = volume.get("projected")
        if projected:
            for source in projected.get("sources") or []:
                for kind in _PROJECTIONS:
                    source.pop(kind, None)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            lifecycle = container.get("lifecycle")
            if lifecycle and lifecycle.pop("stopSignal", None) and not lifecycle:
                del container["lifecycle"]


def drop_disabled_status(status: JSON) -> None:
    """Of a pod's status, in place."""
    for field in ("resources", "allocatedResources", "extendedResourceClaimStatus"):
        status.pop(field, None)
    for kind in _OF_CONTAINERS:
        for container in status.get(kind) or []:
            container.pop("allocatedResourcesStatus", None)
