"""Shorthand in which the bootstrap policy is written."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

READ = "get list watch"
WRITE = "create update patch delete deletecollection"
READ_WRITE = f"{READ} {WRITE}"

APPS = "apps"
AUTHENTICATION = "authentication.k8s.io"
AUTHORIZATION = "authorization.k8s.io"
AUTOSCALING = "autoscaling"
BATCH = "batch"
CERTIFICATES = "certificates.k8s.io"
COORDINATION = "coordination.k8s.io"
CORE = ""
DISCOVERY = "discovery.k8s.io"
EVENTS = "events.k8s.io"
EXTENSIONS = "extensions"
NETWORKING = "networking.k8s.io"
NODE = "node.k8s.io"
POLICY = "policy"
RBAC = "rbac.authorization.k8s.io"
RESOURCE = "resource.k8s.io"
SCHEDULING = "scheduling.k8s.io"
STORAGE = "storage.k8s.io"

LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AUTOUPDATE = {"rbac.authorization.kubernetes.io/autoupdate": "true"}


def rule(verbs: str, groups: str | tuple[str, ...], resources: str, *, names: str = "") -> JSON:
    """A PolicyRule; verbs, resources and names are separated by blanks, and are in order in what is made of them."""
    made: JSON = {
        "verbs": sorted(verbs.split()),
        "apiGroups": [groups] if isinstance(groups, str) else sorted(groups),
        "resources": sorted(resources.split()),
    }
    if names:
        made["resourceNames"] = sorted(names.split())
    return made


def urls(verbs: str, paths: str) -> JSON:
    return {"verbs": sorted(verbs.split()), "nonResourceURLs": sorted(paths.split())}


def events() -> JSON:
    """What every component needs to tell what it does."""
    return rule("create update patch", (CORE, EVENTS), "events")


def cluster_role(name: str, rules: list[JSON], labels: dict[str, str] | None = None) -> JSON:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {**LABELS, **(labels or {})}, "annotations": dict(AUTOUPDATE)},
        "rules": rules,
    }


def cluster_role_binding(name: str, subjects: list[JSON], role: str = "") -> JSON:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": dict(LABELS), "annotations": dict(AUTOUPDATE)},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role or name},
        "subjects": subjects,
    }


def role(namespace: str, name: str, rules: list[JSON]) -> JSON:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(LABELS),
            "annotations": dict(AUTOUPDATE),
        },
        "rules": rules,
    }


def role_binding(namespace: str, name: str, subjects: list[JSON]) -> JSON:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(LABELS),
            "annotations": dict(AUTOUPDATE),
        },
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name.removeprefix("binding:")},
        "subjects": subjects,
    }


def user(name: str) -> JSON:
    return {"apiGroup": RBAC, "kind": "User", "name": name}


def group(name: str) -> JSON:
    return {"apiGroup": RBAC, "kind": "Group", "name": name}


def account(name: str, namespace: str = "kube-system") -> JSON:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
