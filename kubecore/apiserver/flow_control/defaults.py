"""The FlowSchemas and PriorityLevelConfigurations that a server begins with: mandatory ones, which nobody changes, and
suggested ones, which an administrator may make his own.

After upstream k8s.io/apiserver `pkg/apis/flowcontrol/bootstrap/default.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

JSON = dict[str, Any]

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS = f"flowschemas.{GROUP}"
LEVELS = f"prioritylevelconfigurations.{GROUP}"
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"

_VERSION = f"{GROUP}/v1"
_ALL = ("*",)
_EVERYBODY = ("system:unauthenticated", "system:authenticated")
_EVERY_PATH = {"verbs": ["*"], "nonResourceURLs": ["*"]}


class Wanted(NamedTuple):
    """An object, of which resource, and whether it must be as it is."""

    resource_key: str
    obj: JSON
    mandatory: bool


def _object(kind: str, name: str, spec: JSON) -> JSON:
    metadata = {"name": name, "annotations": {AUTO_UPDATE: "true"}}
    return {"apiVersion": _VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _level(name: str, shares: int, lendable: int, queuing: tuple[int, int] | None) -> JSON:
    """`queuing`: queues and size of a hand; None turns away who finds no seat."""
    response: JSON = {"type": "Reject"}
    if queuing is not None:
        queues, hand = queuing
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def _resources(verbs: Sequence[str], groups: Sequence[str], resources: Sequence[str], *, everywhere: bool) -> JSON:
    rule: JSON = {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}
    return rule | ({"clusterScope": True} if everywhere else {}) | {"namespaces": ["*"]}


def _groups(*names: str) -> list[JSON]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[JSON]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


_SYSTEM_ACCOUNTS = [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}}]
_EVERYTHING = _resources(_ALL, _ALL, _ALL, everywhere=True)


def _schema(
    name: str,
    level: str,
    precedence: int,
    distinguisher: str,
    subjects: Sequence[JSON],
    resources: Sequence[JSON] = (_EVERYTHING,),
    paths: Sequence[JSON] = (_EVERY_PATH,),
) -> JSON:
    rule: JSON = {"subjects": list(subjects)}
    if resources:
        rule["resourceRules"] = list(resources)
    if paths:
        rule["nonResourceRules"] = list(paths)
    spec: JSON = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    return _object("FlowSchema", name, {**spec, "rules": [rule]})


def _suggested_levels() -> list[JSON]:
    return [
        _level("system", 30, 33, (64, 6)),
        _level("node-high", 40, 25, (64, 6)),
        _level("leader-election", 10, 0, (16, 4)),
        _level("workload-high", 40, 50, (128, 6)),
        _level("workload-low", 100, 90, (128, 6)),
        _level("global-default", 20, 50, (128, 6)),
    ]


def _suggested_schemas() -> list[JSON]:
    nodes, user, namespace = _groups("system:nodes"), "ByUser", "ByNamespace"
    leases = "coordination.k8s.io"
    return [
        _schema("system-nodes", "system", 500, user, nodes),
        _schema(
            "system-node-high",
            "node-high",
            400,
            user,
            nodes,
            [
                _resources(_ALL, [""], ["nodes", "nodes/status"], everywhere=True),
                _resources(_ALL, [leases], ["leases"], everywhere=False),
            ],
            [],
        ),
        _schema(
            "probes",
            "exempt",
            2,
            "",
            _groups(*_EVERYBODY),
            [],
            [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
        ),
        _schema(
            "system-leader-election",
            "leader-election",
            100,
            user,
            [*_users("system:kube-controller-manager", "system:kube-scheduler"), *_SYSTEM_ACCOUNTS],
            [_resources(["get", "create", "update"], [leases], ["leases"], everywhere=False)],
            [],
        ),
        _schema("kube-controller-manager", "workload-high", 800, namespace, _users("system:kube-controller-manager")),
        _schema("kube-scheduler", "workload-high", 800, namespace, _users("system:kube-scheduler")),
        _schema("kube-system-service-accounts", "workload-high", 900, namespace, _SYSTEM_ACCOUNTS),
        _schema("service-accounts", "workload-low", 9000, user, _groups("system:serviceaccounts")),
        _schema("global-default", "global-default", 9900, user, _groups(*_EVERYBODY)),
    ]


def _mandatory_levels() -> list[JSON]:
    exempt = {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    return [
        _level("catch-all", 5, 0, None),
        _object("PriorityLevelConfiguration", "exempt", {"type": "Exempt", "exempt": exempt}),
    ]


def _mandatory_schemas() -> list[JSON]:
    return [
        _schema("exempt", "exempt", 1, "", _groups("system:masters")),
        _schema("catch-all", "catch-all", 10000, "ByUser", _groups(*_EVERYBODY)),
    ]


def wanted() -> list[Wanted]:
    return [
        *(Wanted(LEVELS, obj, False) for obj in _suggested_levels()),
        *(Wanted(SCHEMAS, obj, False) for obj in _suggested_schemas()),
        *(Wanted(LEVELS, obj, True) for obj in _mandatory_levels()),
        *(Wanted(SCHEMAS, obj, True) for obj in _mandatory_schemas()),
    ]
