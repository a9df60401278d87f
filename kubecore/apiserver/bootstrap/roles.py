"""ClusterRoles and bindings every cluster starts with, apart from those of controllers.

The permissions are those of upstream plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go, v1.35.
"""

from __future__ import annotations

from kubecore.apiserver.bootstrap.rules import (
    APPS,
    AUTHENTICATION,
    AUTHORIZATION,
    AUTOSCALING,
    BATCH,
    CERTIFICATES,
    COORDINATION,
    CORE,
    DISCOVERY,
    EVENTS,
    EXTENSIONS,
    JSON,
    NETWORKING,
    NODE,
    POLICY,
    RBAC,
    READ,
    READ_WRITE,
    RESOURCE,
    STORAGE,
    WRITE,
    account,
    cluster_role,
    cluster_role_binding,
    events,
    group,
    role,
    role_binding,
    rule,
    urls,
    user,
)

_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

_WORKLOADS_VIEW = (
    "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status "
    "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"
)
_WORKLOADS_EDIT = (
    "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale "
    "statefulsets statefulsets/scale"
)
_EXTENSIONS_EDIT = (
    "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets "
    "replicasets/scale replicationcontrollers/scale"
)
_EXTENSIONS_VIEW = (
    "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status "
    "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale"
)


def _view() -> list[JSON]:
    return [
        rule(
            READ,
            CORE,
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
            "replicationcontrollers/scale serviceaccounts services services/status",
        ),
        rule(
            READ,
            CORE,
            "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
            "resourcequotas resourcequotas/status",
        ),
        rule(READ, (CORE, EVENTS), "events"),
        rule(READ, CORE, "namespaces"),
        rule(READ, DISCOVERY, "endpointslices"),
        rule(READ, APPS, _WORKLOADS_VIEW),
        rule(READ, AUTOSCALING, "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(READ, BATCH, "cronjobs cronjobs/status jobs jobs/status"),
        rule(READ, EXTENSIONS, _EXTENSIONS_VIEW),
        rule(READ, POLICY, "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(READ, NETWORKING, "ingresses ingresses/status networkpolicies"),
        rule(READ, RESOURCE, "resourceclaims resourceclaims/status resourceclaimtemplates"),
    ]


def _edit() -> list[JSON]:
    return [
        rule(READ, CORE, "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        rule("impersonate", CORE, "serviceaccounts"),
        rule(WRITE, CORE, "pods pods/attach pods/exec pods/portforward pods/proxy"),
        rule("create", CORE, "pods/eviction"),
        rule(
            WRITE,
            CORE,
            "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
            "serviceaccounts services services/proxy",
        ),
        rule(WRITE, (CORE, EVENTS), "events"),
        rule("create", CORE, "serviceaccounts/token"),
        rule(WRITE, APPS, _WORKLOADS_EDIT),
        rule(WRITE, AUTOSCALING, "horizontalpodautoscalers"),
        rule(WRITE, BATCH, "cronjobs jobs"),
        rule(WRITE, EXTENSIONS, _EXTENSIONS_EDIT),
        rule(WRITE, POLICY, "poddisruptionbudgets"),
        rule(WRITE, NETWORKING, "ingresses networkpolicies"),
        rule(READ_WRITE, COORDINATION, "leases"),
        rule(WRITE, RESOURCE, "resourceclaims resourceclaimtemplates"),
    ]


def _admin() -> list[JSON]:
    return [
        rule("create", AUTHORIZATION, "localsubjectaccessreviews"),
        rule(READ_WRITE, RBAC, "rolebindings roles"),
    ]


def _aggregated(name: str, parts: list[str], rules: list[JSON], labels: dict[str, str] | None = None) -> JSON:
    """A role that collects others by label. Its rules are those of the parts; a controller keeps them so."""
    return {
        **cluster_role(name, rules, labels),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + part: "true"}} for part in parts]},
    }


def user_facing_roles() -> list[JSON]:
    """cluster-admin, admin, edit, view and the parts the last three are made of."""
    admin, edit, view = _admin(), _edit(), _view()
    return [
        cluster_role("cluster-admin", [rule("*", "*", "*"), urls("*", "*")]),
        _aggregated("admin", ["admin"], [*admin, *edit, *view]),
        _aggregated("edit", ["edit"], [*edit, *view], {_AGGREGATE + "admin": "true"}),
        _aggregated("view", ["view"], view, {_AGGREGATE + "edit": "true"}),
        cluster_role("system:aggregate-to-admin", admin, {_AGGREGATE + "admin": "true"}),
        cluster_role("system:aggregate-to-edit", edit, {_AGGREGATE + "edit": "true"}),
        cluster_role("system:aggregate-to-view", view, {_AGGREGATE + "view": "true"}),
        # metrics-server's
        cluster_role(
            "system:aggregated-metrics-reader",
            [rule(READ, "metrics.k8s.io", "nodes pods")],
            {_AGGREGATE + name: "true" for name in ("admin", "edit", "view")},
        ),
    ]


_DISCOVERY_PATHS = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"


def _open_roles() -> list[JSON]:
    """What everybody, or everybody who is known, may see."""
    return [
        cluster_role("system:discovery", [urls("get", _DISCOVERY_PATHS)]),
        cluster_role("system:public-info-viewer", [urls("get", "/healthz /livez /readyz /version /version/")]),
        cluster_role(
            "system:service-account-issuer-discovery",
            [
                urls(
                    "get",
                    "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks "
                    "/openid/v1/jwks/",
                )
            ],
        ),
        cluster_role(
            "system:basic-user",
            [
                rule("create", AUTHORIZATION, "selfsubjectaccessreviews selfsubjectrulesreviews"),
                rule("create", AUTHENTICATION, "selfsubjectreviews"),
            ],
        ),
        cluster_role(
            "system:monitoring",
            [
                urls("get", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
                rule("get", CORE, "nodes/metrics"),
            ],
        ),
    ]


def _add_on_roles() -> list[JSON]:
    """For what is added to a cluster: monitors, provisioners, servers of more APIs, nodes."""
    return [
        cluster_role(
            "system:heapster",
            [
                rule(READ, CORE, "events namespaces nodes pods"),
                rule(READ, EXTENSIONS, "deployments"),
            ],
        ),
        cluster_role(
            "system:node-problem-detector",
            [
                rule("get", CORE, "nodes"),
                rule("patch", CORE, "nodes/status"),
                events(),
            ],
        ),
        cluster_role(
            "system:persistent-volume-provisioner",
            [
                rule("get list watch create delete", CORE, "persistentvolumes"),
                rule("get list watch update", CORE, "persistentvolumeclaims"),
                rule(READ, STORAGE, "storageclasses"),
                rule("watch", CORE, "events"),
                events(),
            ],
        ),
        cluster_role(
            "system:auth-delegator",
            [
                rule("create", AUTHENTICATION, "tokenreviews"),
                rule("create", AUTHORIZATION, "subjectaccessreviews"),
            ],
        ),
        cluster_role("system:kube-aggregator", [rule(READ, CORE, "services endpoints")]),
        cluster_role(
            "system:kubelet-api-admin",
            [
                rule(READ, CORE, "nodes"),
                rule("proxy", CORE, "nodes"),
                rule("*", CORE, "nodes/log nodes/metrics nodes/proxy nodes/stats"),
                rule("*", CORE, "nodes/configz nodes/healthz nodes/pods"),
            ],
        ),
        cluster_role(
            "system:node-bootstrapper", [rule("create get list watch", CERTIFICATES, "certificatesigningrequests")]
        ),
    ]


def _certificate_roles() -> list[JSON]:
    prefix = "system:certificates.k8s.io:"
    made = [
        cluster_role(
            f"{prefix}certificatesigningrequests:{name}",
            [rule("create", CERTIFICATES, f"certificatesigningrequests/{resource}")],
        )
        for name, resource in (("nodeclient", "nodeclient"), ("selfnodeclient", "selfnodeclient"))
    ]
    for name, signer in (
        ("legacy-unknown-approver", "kubernetes.io/legacy-unknown"),
        ("kubelet-serving-approver", "kubernetes.io/kubelet-serving"),
        ("kube-apiserver-client-approver", "kubernetes.io/kube-apiserver-client"),
        ("kube-apiserver-client-kubelet-approver", "kubernetes.io/kube-apiserver-client-kubelet"),
    ):
        made.append(cluster_role(f"{prefix}{name}", [rule("approve", CERTIFICATES, "signers", names=signer)]))
    return made


def node_rules() -> list[JSON]:
    """What kubelets need; the Node mode of authorization narrows it to their own pods."""
    return [
        rule("create", AUTHENTICATION, "tokenreviews"),
        rule("create", AUTHORIZATION, "localsubjectaccessreviews subjectaccessreviews"),
        rule(READ, CORE, "services"),
        rule("create get list watch", CORE, "nodes"),
        rule("patch update", CORE, "nodes/status"),
        rule("patch update", CORE, "nodes"),
        events(),
        rule(READ, CORE, "pods"),
        rule("create delete", CORE, "pods"),
        rule("patch update", CORE, "pods/status"),
        rule("create", CORE, "pods/eviction"),
        rule(READ, CORE, "configmaps secrets"),
        rule("get", CORE, "persistentvolumeclaims persistentvolumes"),
        rule("get", CORE, "endpoints"),
        rule("create get list watch", CERTIFICATES, "certificatesigningrequests"),
        rule("create delete get patch update", COORDINATION, "leases"),
        rule("get", STORAGE, "volumeattachments"),
        rule("create", CORE, "serviceaccounts/token"),
        rule("get", CORE, "serviceaccounts"),
        rule("get patch update", CORE, "persistentvolumeclaims/status"),
        rule(READ, STORAGE, "csidrivers"),
        rule("create delete get patch update", STORAGE, "csinodes"),
        rule(READ, NODE, "runtimeclasses"),
        rule("get", RESOURCE, "resourceclaims"),
        # Those of its own are the Node mode's to allow.
        rule("deletecollection", RESOURCE, "resourceslices"),
    ]


def _component_roles() -> list[JSON]:
    return [
        cluster_role("system:node", node_rules()),
        cluster_role(
            "system:node-proxier",
            [
                rule("list watch", CORE, "endpoints services"),
                rule("get list watch", CORE, "nodes"),
                events(),
                rule("list watch", DISCOVERY, "endpointslices"),
                rule("list watch", NETWORKING, "servicecidrs"),
            ],
        ),
        cluster_role("system:kube-scheduler", _scheduler()),
        cluster_role(
            "system:volume-scheduler",
            [
                rule("get list patch update watch", CORE, "persistentvolumes"),
                rule("get list patch update watch", CORE, "persistentvolumeclaims"),
                rule(READ, STORAGE, "storageclasses"),
            ],
        ),
        cluster_role("system:kube-dns", [rule("list watch", CORE, "endpoints services")]),
        cluster_role(
            "system:coredns",
            [
                rule("list watch", CORE, "endpoints namespaces pods services"),
                rule("list watch", DISCOVERY, "endpointslices"),
                events(),
            ],
        ),
        cluster_role(
            "system:kubecore-ingress",
            [
                rule("get list watch", CORE, "secrets services"),
                rule("list watch", DISCOVERY, "endpointslices"),
                rule("get list watch", NETWORKING, "ingresses"),
                rule("update", NETWORKING, "ingresses/status"),
                rule("create get list watch", NETWORKING, "ingressclasses"),
                events(),
            ],
        ),
        cluster_role("system:kube-controller-manager", _controller_manager()),
    ]


def _scheduler() -> list[JSON]:
    return [
        events(),
        rule("create", COORDINATION, "leases"),
        rule("get list update watch", COORDINATION, "leases", names="kube-scheduler"),
        rule(READ_WRITE, COORDINATION, "leasecandidates"),
        rule(READ, CORE, "nodes"),
        rule("delete get list watch", CORE, "pods"),
        rule("create", CORE, "bindings pods/binding"),
        rule("patch update", CORE, "pods/status"),
        rule("update", CORE, "pods/finalizers"),
        rule(READ, CORE, "replicationcontrollers services"),
        rule(READ, (APPS, EXTENSIONS), "replicasets"),
        rule(READ, APPS, "statefulsets"),
        rule(READ, POLICY, "poddisruptionbudgets"),
        rule(READ, CORE, "persistentvolumeclaims persistentvolumes"),
        rule("create", AUTHENTICATION, "tokenreviews"),
        rule("create", AUTHORIZATION, "subjectaccessreviews"),
        *(rule(READ, STORAGE, one) for one in ("csinodes", "csidrivers", "csistoragecapacities", "volumeattachments")),
        rule(READ, CORE, "namespaces"),
        *(rule(READ, RESOURCE, one) for one in ("deviceclasses", "resourceslices")),
        *(rule(f"{READ} patch update", RESOURCE, one) for one in ("resourceclaims", "resourceclaims/status")),
    ]


def _controller_manager() -> list[JSON]:
    return [
        events(),
        rule("create", COORDINATION, "leases"),
        rule("get update", COORDINATION, "leases", names="kube-controller-manager"),
        rule("create", CORE, "secrets serviceaccounts"),
        rule("delete", CORE, "secrets"),
        rule("get", CORE, "configmaps namespaces secrets serviceaccounts"),
        rule("update", CORE, "secrets serviceaccounts"),
        rule("create", AUTHENTICATION, "tokenreviews"),
        rule("create", AUTHORIZATION, "subjectaccessreviews"),
        rule("list watch", "*", "*"),
        rule("create", CORE, "serviceaccounts/token"),
    ]


def cluster_roles() -> list[JSON]:
    return [
        *user_facing_roles(),
        *_open_roles(),
        *_add_on_roles(),
        *_certificate_roles(),
        *_component_roles(),
    ]


def cluster_role_bindings() -> list[JSON]:
    known, unknown = group("system:authenticated"), group("system:unauthenticated")
    return [
        cluster_role_binding("cluster-admin", [group("system:masters")]),
        cluster_role_binding("system:monitoring", [group("system:monitoring")]),
        cluster_role_binding("system:discovery", [known]),
        cluster_role_binding("system:basic-user", [known]),
        cluster_role_binding("system:public-info-viewer", [known, unknown]),
        cluster_role_binding("system:node-proxier", [user("system:kube-proxy")]),
        cluster_role_binding("system:kube-controller-manager", [user("system:kube-controller-manager")]),
        cluster_role_binding("system:kube-dns", [account("kube-dns")]),
        cluster_role_binding("system:coredns", [account("coredns"), user("system:coredns")]),
        cluster_role_binding("system:kubecore-ingress", [user("system:kubecore-ingress")]),
        cluster_role_binding("system:kube-scheduler", [user("system:kube-scheduler")]),
        cluster_role_binding("system:volume-scheduler", [user("system:kube-scheduler")]),
        # nobody's: nodes have what the Node authorizer gives them
        {name: value for name, value in cluster_role_binding("system:node", []).items() if name != "subjects"},
        cluster_role_binding("system:service-account-issuer-discovery", [group("system:serviceaccounts")]),
        *_node_joining_bindings(),
    ]


def _node_joining_bindings() -> list[JSON]:
    """As kubeadm makes them: new nodes may ask for a certificate, and all nodes may renew theirs."""
    requests = "system:certificates.k8s.io:certificatesigningrequests"
    joining, nodes = [group("system:bootstrappers")], [group("system:nodes")]
    return [
        _bound("kubecore:kubelet-bootstrap", "system:node-bootstrapper", joining),
        _bound("kubecore:node-autoapprove-bootstrap", f"{requests}:nodeclient", joining),
        _bound("kubecore:node-autoapprove-certificate-rotation", f"{requests}:selfnodeclient", nodes),
    ]


def _bound(name: str, role: str, subjects: list[JSON]) -> JSON:
    made = cluster_role_binding(role, subjects)
    return {**made, "metadata": {**made["metadata"], "name": name}}


_LEADERS = ("kube-controller-manager", "kube-scheduler")


def _leading() -> list[JSON]:
    return [rule("create get list update watch", COORDINATION, one) for one in ("leases", "leasecandidates")]


def roles() -> list[JSON]:
    """Roles within namespaces."""
    system, public = "kube-system", "kube-public"
    return [
        role(
            system,
            "extension-apiserver-authentication-reader",
            [
                rule("get list watch", CORE, "configmaps", names="extension-apiserver-authentication"),
            ],
        ),
        role(system, "system:controller:bootstrap-signer", [rule("get list watch", CORE, "secrets")]),
        role(
            system,
            "system:controller:token-cleaner",
            [
                rule("delete get list watch", CORE, "secrets"),
                events(),
            ],
        ),
        role(system, "system:controller:cloud-provider", [rule("create get list watch", CORE, "configmaps")]),
        *(role(system, f"system::leader-locking-{name}", _leading()) for name in _LEADERS),
        role(
            public,
            "system:controller:bootstrap-signer",
            [
                rule(READ, CORE, "configmaps"),
                rule("update", CORE, "configmaps", names="cluster-info"),
                events(),
            ],
        ),
    ]


def role_bindings() -> list[JSON]:
    system, public = "kube-system", "kube-public"
    signer, cleaner = account("bootstrap-signer"), account("token-cleaner")
    manager, scheduler = user("system:kube-controller-manager"), user("system:kube-scheduler")
    made = [
        role_binding(system, "system:controller:bootstrap-signer", [signer]),
        role_binding(system, "system:controller:token-cleaner", [cleaner]),
        role_binding(system, "system:controller:cloud-provider", [account("cloud-provider")]),
        role_binding(
            system,
            "system::leader-locking-kube-controller-manager",
            [manager, account("kube-controller-manager"), account("leader-election-controller")],
        ),
        role_binding(system, "system::leader-locking-kube-scheduler", [scheduler, account("kube-scheduler")]),
        role_binding(public, "system:controller:bootstrap-signer", [signer]),
    ]
    reader = role_binding(system, "system::extension-apiserver-authentication-reader", [manager, scheduler])
    reader["roleRef"]["name"] = "extension-apiserver-authentication-reader"
    return [*made, reader]


__all__ = [
    "cluster_role_bindings",
    "cluster_roles",
    "node_rules",
    "role_bindings",
    "roles",
]
