"""Kinds whose particularities are a few yes-or-no answers: which ones a PUT may create, which keep a generation.

From the strategies under upstream pkg/registry (AllowCreateOnUpdate, AllowUnconditionalUpdate, Generation,
ReturnDeletedObject).
"""

from __future__ import annotations

from kubecore.apiserver.registry.strategy import GENERIC, Strategy
from kubecore.apiserver.registry.validation import names

_CREATED_BY_UPDATE = frozenset(
    {"events", "leases.coordination.k8s.io", "limitranges", "podtemplates", "priorityclasses.scheduling.k8s.io"}
)

_UPDATED_WITH_REVISION_ONLY = frozenset(
    {
        "apiservices.apiregistration.k8s.io",
        "csidrivers.storage.k8s.io",
        "csinodes.storage.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "leases.coordination.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "poddisruptionbudgets.policy",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "runtimeclasses.node.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "volumeattachments.storage.k8s.io",
    }
)

_WITH_GENERATION = frozenset(
    {
        "cronjobs.batch",
        "csidrivers.storage.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "ingressclasses.networking.k8s.io",
        "ingresses.networking.k8s.io",
        "jobs.batch",
        "networkpolicies.networking.k8s.io",
        "poddisruptionbudgets.policy",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "resourceslices.resource.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    }
)

_RETURNED_WHEN_DELETED = frozenset({"persistentvolumeclaims", "persistentvolumes", "podtemplates", "resourcequotas"})

# Names that may hold anything a path segment may, like "system:public-info" or "v1.apps".
_NAMED_FREELY = frozenset(
    {
        "apiservices.apiregistration.k8s.io",
        "certificatesigningrequests.certificates.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "ipaddresses.networking.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
    }
)


def strategy(key: str) -> Strategy:
    """The strategy of a group resource that has no module of its own; it may be shared."""
    traits: dict[str, object] = {}
    if key in _CREATED_BY_UPDATE:
        traits["allow_create_on_update"] = True
    if key in _UPDATED_WITH_REVISION_ONLY:
        traits["allow_unconditional_update"] = False
    if key in _BUILT_IN_WITHOUT_GENERATION:
        traits["tracks_generation"] = False
    if key in _RETURNED_WHEN_DELETED:
        traits["returns_deleted"] = True
    if key in _NAMED_FREELY:
        traits["name_errors"] = names.path_segment
    if not traits:
        return GENERIC
    made = Strategy()
    made.resource_key = key
    for name, value in traits.items():
        setattr(made, name, value)
    return made


def _without_generation() -> frozenset[str]:
    from kubecore.api import scheme

    return frozenset(scheme.default().keys()) - _WITH_GENERATION


_BUILT_IN_WITHOUT_GENERATION = _without_generation()
