"""A ClusterRole `system:controller:NAME` for each controller, bound to its service account in kube-system.

The permissions are those of upstream bootstrappolicy/controller_policy.go, v1.35.
"""

from __future__ import annotations

from kubecore.apiserver.bootstrap.rules import (
    APPS,
    AUTHORIZATION,
    AUTOSCALING,
    BATCH,
    CERTIFICATES,
    CORE,
    DISCOVERY,
    EXTENSIONS,
    JSON,
    NETWORKING,
    POLICY,
    RBAC,
    READ,
    RESOURCE,
    STORAGE,
    account,
    cluster_role,
    cluster_role_binding,
    events,
    rule,
)

_WORKLOADS = (APPS, EXTENSIONS)


def _workload_rules() -> dict[str, list[JSON]]:
    """Of those that make pods, by way of others or not."""
    return {
        "cronjob-controller": [
            rule("get list update watch", BATCH, "cronjobs"),
            rule("create delete get list patch update watch", BATCH, "jobs"),
            rule("update", BATCH, "cronjobs/status"),
            rule("update", BATCH, "cronjobs/finalizers"),
            rule("delete list watch", CORE, "pods"),
            events(),
        ],
        "daemon-set-controller": [
            rule(READ, _WORKLOADS, "daemonsets"),
            rule("update", _WORKLOADS, "daemonsets/status"),
            rule("update", _WORKLOADS, "daemonsets/finalizers"),
            rule("list watch", CORE, "nodes"),
            rule("create delete list patch watch", CORE, "pods"),
            rule("create", CORE, "pods/binding"),
            rule("create delete get list patch update watch", APPS, "controllerrevisions"),
            events(),
        ],
        "deployment-controller": [
            rule("get list update watch", _WORKLOADS, "deployments"),
            rule("update", _WORKLOADS, "deployments/status"),
            rule("update", _WORKLOADS, "deployments/finalizers"),
            rule("create delete get list patch update watch", _WORKLOADS, "replicasets"),
            rule("get list update watch", CORE, "pods"),
            events(),
        ],
        "job-controller": [
            rule("get list patch update watch", BATCH, "jobs"),
            rule("update", BATCH, "jobs/status"),
            rule("update", BATCH, "jobs/finalizers"),
            rule("create delete list patch watch", CORE, "pods"),
            events(),
        ],
        "replicaset-controller": [
            rule("get list update watch", _WORKLOADS, "replicasets"),
            rule("update", _WORKLOADS, "replicasets/status"),
            rule("update", _WORKLOADS, "replicasets/finalizers"),
            rule("create delete list patch watch", CORE, "pods"),
            events(),
        ],
        "replication-controller": [
            rule("get list update watch", CORE, "replicationcontrollers"),
            rule("update", CORE, "replicationcontrollers/status"),
            rule("update", CORE, "replicationcontrollers/finalizers"),
            rule("create delete list patch watch", CORE, "pods"),
            events(),
        ],
        "statefulset-controller": [
            rule("list watch", CORE, "pods"),
            rule(READ, APPS, "statefulsets"),
            rule("update", APPS, "statefulsets/status"),
            rule("update", APPS, "statefulsets/finalizers"),
            rule("create delete get patch update", CORE, "pods"),
            rule("create delete get list patch update watch", APPS, "controllerrevisions"),
            rule("update", CORE, "pods/finalizers"),
            rule("create get list watch", CORE, "persistentvolumeclaims"),
            rule("delete update", CORE, "persistentvolumeclaims"),
            events(),
        ],
    }


def _scale_rules() -> dict[str, list[JSON]]:
    """Of those that say how many pods a workload has, how many must stay, and how long those do that are done."""
    return {
        "disruption-controller": [
            rule(READ, _WORKLOADS, "deployments"),
            rule(READ, _WORKLOADS, "replicasets"),
            rule(READ, CORE, "replicationcontrollers"),
            rule(READ, POLICY, "poddisruptionbudgets"),
            rule(READ, APPS, "statefulsets"),
            rule("update", POLICY, "poddisruptionbudgets/status"),
            rule("patch update", CORE, "pods/status"),
            rule("get", "*", "*/scale"),
            events(),
        ],
        "horizontal-pod-autoscaler": [
            rule(READ, AUTOSCALING, "horizontalpodautoscalers"),
            rule("update", AUTOSCALING, "horizontalpodautoscalers/status"),
            rule("get update", "*", "*/scale"),
            rule("list watch", CORE, "pods"),
            rule("list watch", "metrics.k8s.io", "pods"),
            *(rule(READ, f"{kind}.metrics.k8s.io", "*") for kind in ("custom", "external")),
            events(),
        ],
        "ttl-after-finished-controller": [rule("delete get list watch", BATCH, "jobs"), events()],
    }


def _cluster_rules() -> dict[str, list[JSON]]:
    return {
        "clusterrole-aggregation-controller": [rule("escalate get list patch update watch", RBAC, "clusterroles")],
        "generic-garbage-collector": [rule("get list patch update watch delete", "*", "*"), events()],
        "namespace-controller": [
            rule("delete get list watch", CORE, "namespaces"),
            rule("update", CORE, "namespaces/finalize namespaces/status"),
            rule("delete deletecollection get list watch", "*", "*"),
        ],
        "node-controller": [
            rule("delete get list patch update watch", CORE, "nodes"),
            rule("patch update", CORE, "nodes/status"),
            rule("patch update", CORE, "pods/status"),
            rule("delete list watch get", CORE, "pods"),
            events(),
        ],
        "pod-garbage-collector": [
            rule("delete list watch", CORE, "pods"),
            rule(READ, CORE, "nodes"),
            rule("patch", CORE, "pods/status"),
        ],
        "resourcequota-controller": [
            rule("list watch", "*", "*"),
            rule("update", CORE, "resourcequotas/status"),
            events(),
        ],
        "root-ca-cert-publisher": [rule("create update", CORE, "configmaps"), events()],
        "service-account-controller": [rule("create", CORE, "serviceaccounts"), events()],
        "legacy-service-account-token-cleaner": [
            rule("get", CORE, "configmaps", names="kube-apiserver-legacy-service-account-token-tracking"),
            rule("patch delete", CORE, "secrets"),
        ],
        "ttl-controller": [rule("list patch update watch", CORE, "nodes"), events()],
        "validatingadmissionpolicy-status-controller": [
            rule(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            rule("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
            events(),
        ],
        "resource-claim-controller": [
            rule("get list watch", CORE, "pods"),
            rule("update", CORE, "pods/finalizers"),
            rule("get list watch create delete", RESOURCE, "resourceclaims"),
            rule("update patch", RESOURCE, "resourceclaims resourceclaims/status"),
            rule("update patch", CORE, "pods/status"),
            events(),
        ],
    }


def _certificate_rules() -> dict[str, list[JSON]]:
    return {
        "certificate-controller": [
            rule("delete get list watch", CERTIFICATES, "certificatesigningrequests"),
            rule("update", CERTIFICATES, "certificatesigningrequests/approval certificatesigningrequests/status"),
            rule("approve", CERTIFICATES, "signers", names="kubernetes.io/kube-apiserver-client-kubelet"),
            rule(
                "sign",
                CERTIFICATES,
                "signers",
                names="kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet "
                "kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            rule("create", AUTHORIZATION, "subjectaccessreviews"),
            events(),
        ],
    }


def _network_rules() -> dict[str, list[JSON]]:
    return {
        "endpoint-controller": [
            rule(READ, CORE, "pods services"),
            rule("create delete get list update watch", CORE, "endpoints"),
            rule("create", CORE, "endpoints/restricted"),
            events(),
        ],
        "endpointslice-controller": [
            rule(READ, CORE, "nodes pods services"),
            rule("update", CORE, "services/finalizers"),
            rule("create delete get list update watch", DISCOVERY, "endpointslices"),
            events(),
        ],
        "endpointslicemirroring-controller": [
            rule(READ, CORE, "endpoints services"),
            *(rule("update", CORE, one) for one in ("endpoints/finalizers", "services/finalizers")),
            rule("create delete get list update watch", DISCOVERY, "endpointslices"),
            events(),
        ],
        "route-controller": [
            rule("list watch", CORE, "nodes"),
            rule("patch", CORE, "nodes/status"),
            events(),
        ],
        "service-controller": [
            rule(READ, CORE, "services"),
            rule("patch update", CORE, "services/status"),
            rule("list watch", CORE, "nodes"),
            events(),
        ],
        "service-cidrs-controller": [
            rule("get list patch update watch", NETWORKING, "servicecidrs"),
            *(rule("patch update", NETWORKING, one) for one in ("servicecidrs/finalizers", "servicecidrs/status")),
            rule(READ, NETWORKING, "ipaddresses"),
            events(),
        ],
    }


def _storage_rules() -> dict[str, list[JSON]]:
    return {
        "attachdetach-controller": [
            rule("list watch", CORE, "persistentvolumeclaims persistentvolumes"),
            rule(READ, CORE, "nodes"),
            rule("patch update", CORE, "nodes/status"),
            rule("list watch", CORE, "pods"),
            rule("create delete get list watch", STORAGE, "volumeattachments"),
            *(rule(READ, STORAGE, one) for one in ("csidrivers", "csinodes")),
            events(),
        ],
        "expand-controller": [
            rule("get list patch update watch", CORE, "persistentvolumes"),
            rule("patch update", CORE, "persistentvolumeclaims/status"),
            rule(READ, CORE, "persistentvolumeclaims"),
            rule("get", CORE, "services"),
            events(),
        ],
        "ephemeral-volume-controller": [
            rule(READ, CORE, "pods"),
            rule("update", CORE, "pods/finalizers"),
            rule("create get list watch", CORE, "persistentvolumeclaims"),
            events(),
        ],
        # not one of upstream's: it brings a storage class, and provisions its volumes
        "local-volume-provisioner": [
            rule("create delete get list update watch", CORE, "persistentvolumes"),
            rule("get list update watch", CORE, "persistentvolumeclaims"),
            rule("create get list watch", STORAGE, "storageclasses"),
            rule(READ, CORE, "nodes"),
            events(),
        ],
        "persistent-volume-binder": [
            rule("create delete get list update watch", CORE, "persistentvolumes"),
            rule("update", CORE, "persistentvolumes/status"),
            rule("get list update watch", CORE, "persistentvolumeclaims"),
            rule("update", CORE, "persistentvolumeclaims/status"),
            rule("create delete get list watch", CORE, "pods"),
            rule(READ, STORAGE, "storageclasses"),
            rule("list watch", CORE, "nodes"),
            rule("watch", CORE, "events"),
            rule("get", CORE, "services"),
            events(),
        ],
        "pv-protection-controller": [rule("get list update watch", CORE, "persistentvolumes"), events()],
        "pvc-protection-controller": [
            rule("get list update watch", CORE, "persistentvolumeclaims"),
            rule(READ, CORE, "pods"),
            events(),
        ],
        "volumeattributesclass-protection-controller": [
            rule("get list update watch", STORAGE, "volumeattributesclasses"),
            *(rule(READ, CORE, one) for one in ("persistentvolumeclaims", "persistentvolumes")),
            events(),
        ],
        "selinux-warning-controller": [
            *(rule(READ, CORE, one) for one in ("persistentvolumes", "persistentvolumeclaims", "pods")),
            rule(READ, STORAGE, "csidrivers"),
            events(),
        ],
    }


def controller_rules() -> dict[str, list[JSON]]:
    """Controller → its rules."""
    return {
        **_workload_rules(),
        **_scale_rules(),
        **_cluster_rules(),
        **_certificate_rules(),
        **_network_rules(),
        **_storage_rules(),
    }


def controller_roles() -> list[JSON]:
    return [cluster_role(f"system:controller:{name}", rules) for name, rules in controller_rules().items()]


def controller_role_bindings() -> list[JSON]:
    return [cluster_role_binding(f"system:controller:{name}", [account(name)]) for name in controller_rules()]


__all__ = ["controller_role_bindings", "controller_roles", "controller_rules"]
