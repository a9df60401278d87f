"""Kinds that are stored while nothing acts on them yet; whoever creates one is told, so that nobody waits in vain.

A kind leaves this list together with the arrival of what acts on it.
"""

from __future__ import annotations

NOBODY = {
    "ingresses.networking.k8s.io": "Ingress controller",
    "networkpolicies.networking.k8s.io": "network policy",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "admission webhooks",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "admission webhooks",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "admission policies",
    "mutatingadmissionpolicies.admissionregistration.k8s.io": "admission policies",
}


def warning(resource_key: str) -> str | None:
    """What to tell who creates an object of the resource; None where something acts on it."""
    missing = NOBODY.get(resource_key)
    return (
        f"this version of kubecore has no {missing}: the object is stored, and nothing acts on it" if missing else None
    )
