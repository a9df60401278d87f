"""A cluster's roles and identities, and every request that could be made of it: the table that tests of rights ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.rbac_rules import Asked, Identity, NodeNeeds

Object = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
MINE, OTHER, LEASES = "mine", "other", "kube-node-lease"
# Where a name makes a difference to somebody.
_NAMES_OF = {
    **dict.fromkeys(("configmaps", "secrets", "deployments", "pods", "persistentvolumeclaims"), ("one", "two")),
    **dict.fromkeys(("nodes", "csinodes", "leases"), ("one", "node-one")),
    "serviceaccounts": ("one", "robot"),
}
AUTHENTICATED, ANONYMOUS = "system:authenticated", "system:anonymous"
NODE = "node-one"
_METHODS = {"get": "GET", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "create": "POST"}
# Asking for what is not there or what nobody can read is harmless where it is allowed.
_READ = "get list watch"
_NOT_JSON = b"{"
PATHS = (
    *("/healthz", "/livez/ping", "/readyz", "/version", "/version/", "/metrics", "/api", "/apis", "/apis/apps"),
    *("/api/v1", "/apis/apps/v1", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/logs", "/logs/kern", "/logsmore"),
    *("/.well-known/openid-configuration", "/debug/pprof", "/nothing", "/metricsx", "/"),
)


def _rule(verbs: str, groups: str, resources: str, names: str = "") -> Object:
    rule: Object = {"verbs": verbs.split(), "apiGroups": groups.split(","), "resources": resources.split()}
    return {**rule, "resourceNames": names.split()} if names else rule


def _urls(verbs: str, urls: str) -> Object:
    return {"verbs": verbs.split(), "nonResourceURLs": urls.split()}


def _role(kind: str, name: str, rules: list[Object], namespace: str = "", **more: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("metadata", {})}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "rules": rules, **more}


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        namespace, _, name = name.rpartition(":")
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"kind": kind, "name": name, "apiGroup": GROUP}


def _binding(name: str, role: str, *subjects: Object, namespace: str = "") -> Object:
    kind, _, role_name = role.partition("/")
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "subjects": list(subjects),
        "roleRef": {"kind": kind, "name": role_name, "apiGroup": GROUP},
    }


def _labelled(**labels: str) -> Object:
    return {"labels": labels}


def roles() -> list[Object]:
    """One of everything that a rule can say."""
    view_part = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    gathers = {"clusterRoleSelectors": [{"matchLabels": {"gather": "yes"}}, {"matchLabels": {"also": "yes"}}]}
    return [
        _role("ClusterRole", "reads-apps", [_rule(_READ, "apps", "*"), _urls("get", "/metrics /logs/*")]),
        _role("ClusterRole", "any-status", [_rule("get patch", "*", "*/status"), _rule("update", ",apps", "*/scale")]),
        _role("ClusterRole", "cluster-wide", [_rule("*", "", "nodes namespaces persistentvolumes secrets")]),
        _role("ClusterRole", "widget-view", [_rule(_READ, "example.com", "widgets")], metadata={"labels": view_part}),
        _role("ClusterRole", "gathered", [], aggregationRule=gathers),
        _role("ClusterRole", "part-a", [_rule("list", "batch", "jobs")], metadata=_labelled(gather="yes")),
        _role("ClusterRole", "part-b", [_rule("create", "batch", "cronjobs")], metadata=_labelled(also="yes", x="y")),
        _role("ClusterRole", "part-c", [_rule("*", "batch", "*")], metadata=_labelled(gather="no")),
        _role("ClusterRole", "urls", [_urls("*", "/nothing"), _urls("get post", "*")]),
        _role(
            "Role",
            "robot",
            [
                _rule("get update delete list", "", "configmaps secrets", "one"),
                _rule("get create", "", "pods/log pods/exec"),
                _rule("*", "apps", "deployments/scale", "two"),
                # Prefixes, other spellings and forms that mean nothing.
                _rule("*", "", "pod podtemplate service/* pods/* endpoint Events"),
                _rule("ge gets GET", "", "*"),
                _rule("get", "app batch.", "*"),
            ],
            namespace=MINE,
        ),
    ]


def bindings() -> list[Object]:
    robot = _subject("ServiceAccount", f"{MINE}:robot")
    return [
        _binding("chief", "ClusterRole/cluster-admin", _subject("User", "chief")),
        _binding("apps", "ClusterRole/reads-apps", _subject("Group", "auditors"), _subject("User", "lone-auditor")),
        _binding("status", "ClusterRole/any-status", _subject("Group", "status-writers")),
        _binding("gatherer", "ClusterRole/gathered", _subject("User", "gatherer")),
        _binding("urls", "ClusterRole/urls", _subject("User", "walker")),
        _binding("dangling", "ClusterRole/is-not-there", _subject("User", "gatherer")),
        _binding("admin", "ClusterRole/admin", _subject("User", "owner"), namespace=MINE),
        _binding("edit", "ClusterRole/edit", _subject("User", "editor"), namespace=MINE),
        _binding("view", "ClusterRole/view", _subject("User", "viewer"), namespace=MINE),
        _binding("robot", "Role/robot", robot, namespace=MINE),
        _binding("robots", "ClusterRole/view", _subject("Group", f"system:serviceaccounts:{MINE}"), namespace=OTHER),
        # What is in no namespace is not reached by a RoleBinding, and a user of a group's name is not the group.
        _binding("wide", "ClusterRole/cluster-wide", _subject("User", "walker"), namespace=OTHER),
        _binding("no-group", "ClusterRole/cluster-wide", _subject("User", "auditors"), namespace=OTHER),
        # A subject without a namespace is none outside a namespace.
        _binding("accounts", "Role/robot", _subject("Group", "system:serviceaccounts"), namespace=OTHER),
    ]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how it shows who it is: `certificate` by its name and groups, `account` by a token, neither as
    nobody; `headers` make it somebody else."""

    identity: Identity
    certificate: bool = True
    account: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def _by_certificate(name: str, *groups: str) -> Caller:
    return Caller(Identity(name, frozenset((*groups, AUTHENTICATED))))


def callers() -> dict[str, Caller]:
    robot = Identity(
        f"system:serviceaccount:{MINE}:robot",
        frozenset((AUTHENTICATED, "system:serviceaccounts", f"system:serviceaccounts:{MINE}")),
    )
    acting = {"Impersonate-User": "viewer", "Impersonate-Group": "status-writers"}
    return {
        "a master": _by_certificate("root", "system:masters"),
        "a cluster admin": _by_certificate("chief"),
        "an admin of a namespace": _by_certificate("owner"),
        "an editor": _by_certificate("editor"),
        "a viewer": _by_certificate("viewer"),
        "a service account": Caller(robot, certificate=False, account="robot"),
        "a node": _by_certificate(f"system:node:{NODE}", "system:nodes"),
        "a node without its group": _by_certificate(f"system:node:{NODE}"),
        "a member of a group": _by_certificate("somebody", "auditors", "status-writers"),
        "one with gathered rules": _by_certificate("gatherer"),
        "one that walks": _by_certificate("walker"),
        "nobody in particular": _by_certificate("auditor"),
        "anonymous": Caller(Identity(ANONYMOUS, frozenset(("system:unauthenticated",))), certificate=False),
        "a master acting as another": Caller(
            Identity("viewer", frozenset(("status-writers", AUTHENTICATED))), headers=acting
        ),
    }


def node_objects() -> list[Object]:
    """A pod of the node with what it refers to by name; only some of that exists."""
    spec = {
        "nodeName": NODE,
        "serviceAccountName": "robot",
        "containers": [
            {"name": "c", "image": "none", "envFrom": [{"configMapRef": {"name": "one"}}]},
        ],
        "volumes": [
            {"name": "s", "secret": {"secretName": "one"}},
            {"name": "p", "persistentVolumeClaim": {"claimName": "one"}},
        ],
    }
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": MINE}, "spec": spec}]


NODE_NEEDS = NodeNeeds(
    frozenset(
        [(kind, MINE, "one") for kind in ("secrets", "configmaps", "persistentvolumeclaims", "pods")]
        + [("serviceaccounts", MINE, "robot")]
    )
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that harms nobody where it is allowed, and what it asks for."""

    asked: Asked
    method: str
    target: str
    version: str = ""
    body: bytes = b""

    @property
    def is_stream(self) -> bool:
        """These need `create`, too, where they come by GET."""
        return self.asked.resource == "pods" and self.asked.subresource in ("exec", "attach", "portforward")

    @property
    def needs(self) -> tuple[Asked, ...]:
        """Every right it takes."""
        asked = self.asked
        if not self.is_stream or asked.verb != "get":
            return (asked,)
        more = Asked("create", asked.group, asked.resource, asked.subresource, asked.namespace, asked.name)
        return (asked, more)


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that is served."""

    group: str
    version: str
    plural: str
    namespaced: bool
    subresources: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


def calls(kinds: Iterable[Kind]) -> Iterator[Call]:
    """Every verb of every resource and subresource, in two namespaces and for names, and other paths."""
    for kind in kinds:
        places = [MINE, OTHER] if kind.namespaced else [""]
        if kind.plural == "leases":
            places.append(LEASES)
        for place in places:
            yield from _of_objects(kind, place)
            yield from _of_collection(kind, place)
        if kind.namespaced:
            yield from _of_collection(kind, "")
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            yield Call(Asked(method.lower(), path=path), method, path)


def _below(kind: Kind, place: str) -> str:
    return f"{kind.root}/namespaces/{place}/{kind.plural}" if place else f"{kind.root}/{kind.plural}"


def _of_objects(kind: Kind, place: str) -> Iterator[Call]:
    for name in _NAMES_OF.get(kind.plural, ("one",)):
        for subresource in ("", *kind.subresources):
            # The path of a namespace names it twice.
            within = name if (kind.group, kind.plural) == ("", "namespaces") else place
            for verb, method in _METHODS.items():
                target = "/".join(part for part in (_below(kind, place), name, subresource) if part)
                asked = Asked(verb, kind.group, kind.plural, subresource, within, name)
                yield Call(asked, method, f"{target}?dryRun=All", kind.version, b"" if method == "GET" else _NOT_JSON)


def _of_collection(kind: Kind, place: str) -> Iterator[Call]:
    below = _below(kind, place)
    for verb, method, name, query, body in (
        ("list", "GET", "", "limit=x", b""),
        # Which selects one object is a question about that object.
        ("list", "GET", "one", "limit=x&fieldSelector=metadata.name%3Done", b""),
        ("watch", "GET", "", "watch=1&fieldSelector=x", b""),
        ("create", "POST", "", "dryRun=All", _NOT_JSON),
        ("deletecollection", "DELETE", "", "dryRun=x", b""),
    ):
        asked = Asked(verb, kind.group, kind.plural, "", place, name)
        yield Call(asked, method, f"{below}?{query}", kind.version, body)
