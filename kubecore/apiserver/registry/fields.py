"""Fields that field selectors may name, besides metadata.name and metadata.namespace: upstream's, per resource.

A pointer may list alternatives with "|" and end in "=default" (see `_native.WatchCache.register`).
"""

from __future__ import annotations

Fields = list[tuple[str, str]]

_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

_OWN = ("metadata.name", "metadata.namespace")

SELECTABLE: dict[str, Fields] = {
    "pods": [
        ("spec.nodeName", "/spec/nodeName"),
        ("spec.restartPolicy", "/spec/restartPolicy"),
        ("spec.schedulerName", "/spec/schedulerName"),
        ("spec.serviceAccountName", "/spec/serviceAccountName"),
        ("spec.hostNetwork", "/spec/hostNetwork=false"),
        ("status.phase", "/status/phase"),
        ("status.podIP", "/status/podIP"),
        ("status.nominatedNodeName", "/status/nominatedNodeName"),
    ],
    "events": [
        *((f"involvedObject.{name}", f"/involvedObject/{name}") for name in _INVOLVED),
        ("reason", "/reason"),
        ("reportingComponent", "/reportingComponent"),
        ("source", "/source/component|/reportingComponent"),
        ("type", "/type"),
    ],
    "namespaces": [("status.phase", "/status/phase")],
    "nodes": [("spec.unschedulable", "/spec/unschedulable=false")],
    "secrets": [("type", "/type")],
    "services": [("spec.clusterIP", "/spec/clusterIP"), ("spec.type", "/spec/type")],
    "replicationcontrollers": [("status.replicas", "/status/replicas=0")],
    "jobs.batch": [("status.successful", "/status/succeeded=0")],
    "certificatesigningrequests.certificates.k8s.io": [("spec.signerName", "/spec/signerName")],
    "clustertrustbundles.certificates.k8s.io": [("spec.signerName", "/spec/signerName")],
    "podcertificaterequests.certificates.k8s.io": [
        ("spec.signerName", "/spec/signerName"),
        ("spec.nodeName", "/spec/nodeName"),
        ("spec.podName", "/spec/podName"),
    ],
    "resourceslices.resource.k8s.io": [("spec.nodeName", "/spec/nodeName"), ("spec.driver", "/spec/driver")],
}

# Of versions that call them otherwise than objects are stored: what they are stored as, by the names there (upstream
# AddFieldLabelConversionsForEvent in `pkg/apis/events/v1/conversion.go`).
RENAMED: dict[str, dict[str, str]] = {
    "events.events.k8s.io": {
        **{f"regarding.{name}": f"involvedObject.{name}" for name in _INVOLVED},
        "reportingController": "reportingComponent",
        **{name: name for name in ("reason", "type", *_OWN)},
    },
}
