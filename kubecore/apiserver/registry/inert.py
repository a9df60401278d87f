"""Kinds that are stored while nothing acts on them yet; whoever creates one is told, so that nobody waits in vain.

A kind leaves this list together with the arrival of what acts on it.
"""

from __future__ import annotations

_BY_WHAT_IS_MISSING = {
    "network policy": ("networkpolicies.networking.k8s.io",),
    "dynamic resource allocation": (
        "deviceclasses.resource.k8s.io",
        "devicetaintrules.resource.k8s.io",
        "resourceclaims.resource.k8s.io",
        "resourceclaimtemplates.resource.k8s.io",
        "resourceslices.resource.k8s.io",
    ),
    "cluster trust bundles in pods": ("clustertrustbundles.certificates.k8s.io",),
    "signer of pod certificates": ("podcertificaterequests.certificates.k8s.io",),
    "storage version migration": ("storageversionmigrations.storagemigration.k8s.io",),
    "storage capacity in scheduling": ("csistoragecapacities.storage.k8s.io",),
    "gang scheduling": ("workloads.scheduling.k8s.io",),
    "coordinated leader election": ("leasecandidates.coordination.k8s.io",),
}
NOBODY = {key: missing for missing, keys in _BY_WHAT_IS_MISSING.items() for key in keys}


def warning(resource_key: str) -> str | None:
    """What to tell who creates an object of the resource; None where something acts on it."""
    missing = NOBODY.get(resource_key)
    return (
        f"this version of kubecore has no {missing}: the object is stored, and nothing acts on it" if missing else None
    )
