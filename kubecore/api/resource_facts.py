"""What v1.35 says about its resources and no dependency holds: short names, categories, connect verbs, priorities.

Read by ``build_backend/bake.py`` at build time only; at run time these facts are part of ``api/data/resources.json``.
Keys are group resources ("deployments.apps", "pods"). Source: the storage definitions under ``pkg/registry`` and
the aggregator's priorities in kubernetes/kubernetes v1.35.
"""

from __future__ import annotations

SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "certificatesigningrequests.certificates.k8s.io": ("csr",),
    "componentstatuses": ("cs",),
    "configmaps": ("cm",),
    "cronjobs.batch": ("cj",),
    "customresourcedefinitions.apiextensions.k8s.io": ("crd", "crds"),
    "daemonsets.apps": ("ds",),
    "deployments.apps": ("deploy",),
    "endpoints": ("ep",),
    "events": ("ev",),
    "events.events.k8s.io": ("ev",),
    "horizontalpodautoscalers.autoscaling": ("hpa",),
    "ingresses.networking.k8s.io": ("ing",),
    "ipaddresses.networking.k8s.io": ("ip",),
    "limitranges": ("limits",),
    "namespaces": ("ns",),
    "networkpolicies.networking.k8s.io": ("netpol",),
    "nodes": ("no",),
    "persistentvolumeclaims": ("pvc",),
    "persistentvolumes": ("pv",),
    "poddisruptionbudgets.policy": ("pdb",),
    "pods": ("po",),
    "priorityclasses.scheduling.k8s.io": ("pc",),
    "replicasets.apps": ("rs",),
    "replicationcontrollers": ("rc",),
    "resourcequotas": ("quota",),
    "serviceaccounts": ("sa",),
    "services": ("svc",),
    "statefulsets.apps": ("sts",),
    "storageclasses.storage.k8s.io": ("sc",),
    "volumeattributesclasses.storage.k8s.io": ("vac",),
}

CATEGORIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "cronjobs.batch",
            "daemonsets.apps",
            "deployments.apps",
            "horizontalpodautoscalers.autoscaling",
            "jobs.batch",
            "pods",
            "replicasets.apps",
            "replicationcontrollers",
            "services",
            "statefulsets.apps",
        ),
        ("all",),
    ),
    **dict.fromkeys(
        (
            "apiservices.apiregistration.k8s.io",
            "customresourcedefinitions.apiextensions.k8s.io",
            "mutatingadmissionpolicies.admissionregistration.k8s.io",
            "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
        ),
        ("api-extensions",),
    ),
}

# What lightkube-models lists and is not served: these are asked for and never stored.
UNSERVED_VERBS: dict[str, tuple[str, ...]] = {"componentstatuses": ("watch",)}

_STREAM_VERBS = ("create", "get")
_PROXY_VERBS = ("create", "delete", "get", "patch", "update")

# Subresources that open a connection instead of serving an object: (kind of their options, verbs).
CONNECT: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "nodes": {"proxy": ("NodeProxyOptions", _PROXY_VERBS)},
    "pods": {
        "attach": ("PodAttachOptions", _STREAM_VERBS),
        "exec": ("PodExecOptions", _STREAM_VERBS),
        "portforward": ("PodPortForwardOptions", _STREAM_VERBS),
        "proxy": ("PodProxyOptions", _PROXY_VERBS),
    },
    "services": {"proxy": ("ServiceProxyOptions", _PROXY_VERBS)},
}

# Discovery order. Groups that are not named here follow in order of their names.
GROUP_ORDER: tuple[str, ...] = (
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
)

# The same objects under two groups are stored under one key and in one version: resource key -> that resource's.
COHABITING: dict[str, str] = {"events.events.k8s.io": "events"}
