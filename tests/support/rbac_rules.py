"""Who may do what, from the documentation of RBAC and of the Node authorizer alone; nothing of kubecore is asked.

Plain on purpose: every rule of everybody's bindings is looked at for every question. Roles and bindings are the
objects as an API server returns them, except that the rules of an aggregated ClusterRole are collected here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    name: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question. `path` is that of what is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def what(self) -> str:
        """As rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(slots=True)
class Rbac:
    """All roles and bindings of a cluster."""

    cluster_roles: Sequence[Object] = ()
    cluster_bindings: Sequence[Object] = ()
    roles: Sequence[Object] = ()
    bindings: Sequence[Object] = ()
    nodes: dict[str, NodeNeeds] = field(default_factory=dict)
    """What the pods of nodes need, where the Node authorizer has a say."""
    _bound: dict[tuple[Identity, str], list[Object]] = field(default_factory=dict)

    def allows(self, who: Identity, asked: Asked) -> bool:
        if "system:masters" in who.groups:
            return True
        if "system:nodes" in who.groups and who.name.startswith("system:node:") and not asked.path:
            node = who.name.removeprefix("system:node:")
            if self._node_allows(node, asked):
                return True
        at = (who, asked.namespace)
        if at not in self._bound:
            self._bound[at] = list(self._rules_of(*at))
        return any(_rule_allows(rule, asked) for rule in self._bound[at])

    def _rules_of(self, who: Identity, namespace: str) -> Iterator[Object]:
        """Cluster-wide bindings count everywhere, a RoleBinding in its namespace only, whatever it binds."""
        for binding in self.cluster_bindings:
            if _is_bound(binding, who, ""):
                yield from self._cluster_rules(binding["roleRef"]["name"])
        if not namespace:
            return
        for binding in self.bindings:
            if binding["metadata"]["namespace"] != namespace or not _is_bound(binding, who, namespace):
                continue
            reference = binding["roleRef"]
            if reference["kind"] == "ClusterRole":
                yield from self._cluster_rules(reference["name"])
            for role in self.roles:
                found = (role["metadata"]["namespace"], role["metadata"]["name"])
                if reference["kind"] == "Role" and found == (namespace, reference["name"]):
                    yield from role.get("rules") or ()

    def _cluster_rules(self, name: str) -> Iterator[Object]:
        for role in self.cluster_roles:
            if role["metadata"]["name"] == name:
                yield from self._rules(role, {name})

    def _rules(self, role: Object, seen: set[str]) -> Iterator[Object]:
        selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
        if not selectors:
            yield from role.get("rules") or ()
            return
        for other in self.cluster_roles:
            labels, name = other["metadata"].get("labels") or {}, other["metadata"]["name"]
            chosen = any(one["matchLabels"].items() <= labels.items() for one in selectors)
            if chosen and name not in seen:
                yield from self._rules(other, {*seen, name})

    # --- nodes

    def _node_allows(self, node: str, asked: Asked) -> bool:
        """kubernetes.io/docs/reference/access-authn-authz/node: as the role system:node says, except for what is
        looked at object by object."""
        special = _BY_OBJECT.get((asked.group, asked.resource))
        if special is not None:
            return special(node, self.nodes.get(node, NodeNeeds()), asked)
        return any(_rule_allows(rule, asked) for rule in self._cluster_rules("system:node"))


@dataclass(frozen=True, slots=True)
class NodeNeeds:
    """(resource, namespace, name) of what the pods bound to a node refer to, and of those pods themselves."""

    related: frozenset[tuple[str, str, str]] = frozenset()


def _is_bound(binding: Object, who: Identity, namespace: str) -> bool:
    return any(_is_subject(subject, who, namespace) for subject in binding.get("subjects") or ())


def _is_subject(subject: Object, who: Identity, namespace: str) -> bool:
    if subject["kind"] == "User":
        return bool(subject["name"] == who.name)
    if subject["kind"] == "Group":
        return subject["name"] in who.groups
    home = subject.get("namespace") or namespace
    return bool(home) and who.name == f"system:serviceaccount:{home}:{subject['name']}"


def _rule_allows(rule: Object, asked: Asked) -> bool:
    if not {"*", asked.verb} & set(rule.get("verbs") or ()):
        return False
    if asked.path:
        return any(_is_path(url, asked.path) for url in rule.get("nonResourceURLs") or ())
    if not {"*", asked.group} & set(rule.get("apiGroups") or ()):
        return False
    named = {"*", asked.what}
    if asked.subresource:
        named.add(f"*/{asked.subresource}")
    if not named & set(rule.get("resources") or ()):
        return False
    names = rule.get("resourceNames")
    return not names or asked.name in names


def _is_path(url: str, path: str) -> bool:
    return path.startswith(url[:-1]) if url.endswith("*") else path == url


# --- what nodes reach object by object: (the node, what its pods need, the question)


def _read_what_pods_name(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    reads = asked.verb in ("get", "list", "watch") and not asked.subresource
    return reads and (asked.resource, asked.namespace, asked.name) in needs.related


def _claims(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    if asked.subresource == "status":
        related = (asked.resource, asked.namespace, asked.name) in needs.related
        return asked.verb in ("update", "patch") and related
    return _read_what_pods_name(node, needs, asked)


def _accounts(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    related = (asked.resource, asked.namespace, asked.name) in needs.related
    return related and (asked.verb, asked.subresource) in (("get", ""), ("create", "token"))


def _own_node(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    if asked.subresource == "status":
        return asked.verb in ("update", "patch")
    if asked.subresource:
        return False
    if asked.verb in ("get", "list", "watch"):
        return asked.name == node
    return asked.verb in ("create", "update", "patch")


def _own_pods(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    if asked.subresource:
        return (asked.verb, asked.subresource) in (("update", "status"), ("patch", "status"), ("create", "eviction"))
    if asked.verb in ("get", "list", "watch"):
        return (asked.resource, asked.namespace, asked.name) in needs.related
    return asked.verb in ("create", "delete")


def _lease(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    if asked.namespace != "kube-node-lease" or asked.verb not in ("get", "create", "update", "patch", "delete"):
        return False
    return asked.verb == "create" or asked.name == node


def _csi_node(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    if asked.subresource or asked.verb not in ("get", "create", "update", "patch", "delete"):
        return False
    return asked.verb == "create" or asked.name == node


def _slices(node: str, needs: NodeNeeds, asked: Asked) -> bool:
    return not asked.subresource and asked.verb == "create"


_BY_OBJECT = {
    ("", "secrets"): _read_what_pods_name,
    ("", "configmaps"): _read_what_pods_name,
    ("", "persistentvolumeclaims"): _claims,
    ("", "persistentvolumes"): _read_what_pods_name,
    ("", "serviceaccounts"): _accounts,
    ("", "nodes"): _own_node,
    ("", "pods"): _own_pods,
    ("coordination.k8s.io", "leases"): _lease,
    ("storage.k8s.io", "csinodes"): _csi_node,
    ("storage.k8s.io", "volumeattachments"): _read_what_pods_name,
    ("resource.k8s.io", "resourceclaims"): _read_what_pods_name,
    ("resource.k8s.io", "resourceslices"): _slices,
    ("certificates.k8s.io", "podcertificaterequests"): _slices,
}
