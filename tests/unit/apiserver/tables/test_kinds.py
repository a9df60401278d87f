"""One row of each kind, as kubectl would print it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubecore.apiserver.tables.printing import TABLES, row_for, table_for, table_of

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
CREATED = "2026-01-01T00:00:00Z"
AGE = "60m"

TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j:2"}]}}
SELECTOR = {
    "matchLabels": {"app": "web"},
    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}],
}
TEMPLATE_CELLS = ["c,d", "i:1,j:2", "app=web,tier in (a,b)"]

CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "deployments.apps",
        {
            "spec": {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
        },
        ["x", "2/3", 3, 1, AGE, *TEMPLATE_CELLS],
    ),
    (
        "replicasets.apps",
        {"spec": {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE}, "status": {"replicas": 2}},
        ["x", 3, 2, 0, AGE, *TEMPLATE_CELLS],
    ),
    (
        "replicationcontrollers",
        {"spec": {"replicas": 3, "selector": {"app": "web"}, "template": TEMPLATE}, "status": {"replicas": 2}},
        ["x", 3, 2, 0, AGE, "c,d", "i:1,j:2", "app=web"],
    ),
    (
        "statefulsets.apps",
        {"spec": {"replicas": 3, "template": TEMPLATE}, "status": {"readyReplicas": 1}},
        ["x", "1/3", AGE, "c,d", "i:1,j:2"],
    ),
    (
        "daemonsets.apps",
        {
            "spec": {"selector": SELECTOR, "template": TEMPLATE},
            "status": {"desiredNumberScheduled": 4, "currentNumberScheduled": 3, "numberReady": 2},
        },
        ["x", 4, 3, 2, 0, 0, "<none>", AGE, *TEMPLATE_CELLS],
    ),
    (
        "jobs.batch",
        {
            "spec": {"completions": 5, "selector": SELECTOR, "template": TEMPLATE},
            "status": {"succeeded": 2, "startTime": "2026-01-01T00:30:00Z"},
        },
        ["x", "Running", "2/5", "30m", AGE, *TEMPLATE_CELLS],
    ),
    (
        "cronjobs.batch",
        {
            "spec": {
                "schedule": "* * * * *",
                "suspend": False,
                "jobTemplate": {"spec": {"template": TEMPLATE}},
            },
            "status": {"lastScheduleTime": "2026-01-01T00:59:30Z", "active": [{}]},
        },
        ["x", "* * * * *", "<none>", "False", 1, "30s", AGE, "c,d", "i:1,j:2", "<none>"],
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        {
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 5,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                    }
                ],
            },
            "status": {"currentReplicas": 2},
        },
        ["x", "Deployment/web", "cpu: <unknown>/80%", "1", 5, 2, AGE],
    ),
    ("poddisruptionbudgets.policy", {"spec": {"minAvailable": "50%"}}, ["x", "50%", "N/A", 0, AGE]),
    (
        "services",
        {
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1"],
                "selector": {"app": "web"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            }
        },
        ["x", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", AGE, "app=web"],
    ),
    (
        "endpoints",
        {
            "subsets": [
                {"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 6)], "ports": [{"port": 80}]},
            ]
        },
        ["x", "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...", AGE],
    ),
    (
        "endpointslices.discovery.k8s.io",
        {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]},
        ["x", "IPv4", "80", "10.0.0.1", AGE],
    ),
    (
        "ingresses.networking.k8s.io",
        {
            "spec": {"ingressClassName": "c", "rules": [{"host": "a.example"}], "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
        },
        ["x", "c", "a.example", "1.2.3.4", "80, 443", AGE],
    ),
    ("configmaps", {"data": {"a": "1"}, "binaryData": {"b": "MQ=="}}, ["x", 2, AGE]),
    ("secrets", {"type": "Opaque", "data": {"a": "MQ=="}}, ["x", "Opaque", 1, AGE]),
    ("serviceaccounts", {}, ["x", AGE]),
    ("namespaces", {"status": {"phase": "Active"}}, ["x", "Active", AGE]),
    (
        "nodes",
        {
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "worker"}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}],
                "nodeInfo": {"kubeletVersion": "v1.35.0", "osImage": "Debian", "kernelVersion": "6.1"},
            },
        },
        [
            "x",
            "Ready,SchedulingDisabled",
            "control-plane,worker",
            AGE,
            "v1.35.0",
            "10.0.0.9",
            "<none>",
            "Debian",
            "6.1",
            "<unknown>",
        ],
    ),
    (
        "events",
        {
            "type": "Normal",
            "reason": "Pulled",
            "message": "done\n",
            "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{c}"},
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:59:00Z",
            "count": 7,
        },
        ["60s", "Normal", "Pulled", "pod/web", "spec.containers{c}", "kubelet, n1", "done", "60m", 7, "x"],
    ),
    (
        "persistentvolumes",
        {
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": "d", "name": "c"},
                "storageClassName": "fast",
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Bound"},
        },
        ["x", "1Gi", "RWO,RWX", "Retain", "Bound", "d/c", "fast", "<unset>", "", AGE, "Filesystem"],
    ),
    (
        "persistentvolumeclaims",
        {"spec": {"storageClassName": "fast", "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}},
        ["x", "Pending", "", "", "", "fast", "<unset>", AGE, "Filesystem"],
    ),
    (
        "storageclasses.storage.k8s.io",
        {
            "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        },
        ["x (default)", "p", "Delete", "Immediate", False, AGE],
    ),
    (
        "clusterrolebindings.rbac.authorization.k8s.io",
        {
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [
                {"kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "d"},
            ],
        },
        ["x", "ClusterRole/admin", AGE, "u", "", "d/s"],
    ),
    ("clusterroles.rbac.authorization.k8s.io", {}, ["x", CREATED]),
    ("leases.coordination.k8s.io", {"spec": {"holderIdentity": "me"}}, ["x", "me", AGE]),
    (
        "componentstatuses",
        {"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]},
        ["x", "Healthy", "ok", ""],
    ),
    (
        "controllerrevisions.apps",
        {
            "metadata": {
                "ownerReferences": [{"kind": "DaemonSet", "apiVersion": "apps/v1", "name": "d", "controller": True}]
            },
            "revision": 3,
        },
        ["x", "daemonset.apps/d", 3, AGE],
    ),
    (
        "certificatesigningrequests.certificates.k8s.io",
        {
            "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
            "status": {"conditions": [{"type": "Approved"}], "certificate": "x"},
        },
        ["x", AGE, "s", "u", "60m", "Approved,Issued"],
    ),
    (
        "resourcequotas",
        {
            "status": {
                "hard": {"pods": "4", "limits.cpu": "2", "requests.cpu": "1"},
                "used": {"pods": "1", "limits.cpu": "0", "requests.cpu": "500m"},
            }
        },
        ["x", "pods: 1/4, requests.cpu: 500m/1", "limits.cpu: 0/2", AGE],
    ),
    (
        "priorityclasses.scheduling.k8s.io",
        {"value": 1000, "preemptionPolicy": "Never"},
        ["x", 1000, False, AGE, "Never"],
    ),
    ("runtimeclasses.node.k8s.io", {"handler": "host"}, ["x", "host", AGE]),
    (
        "apiservices.apiregistration.k8s.io",
        {"spec": {"group": ""}, "status": {"conditions": [{"type": "Available", "status": "True"}]}},
        ["x", "Local", "True", AGE],
    ),
    ("networkpolicies.networking.k8s.io", {"spec": {"podSelector": {}}}, ["x", "<none>", AGE]),
    (
        "flowschemas.flowcontrol.apiserver.k8s.io",
        {"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 100}},
        ["x", "p", 100, "<none>", AGE, "?"],
    ),
]


def make(partial: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "x", "creationTimestamp": CREATED, **partial.get("metadata", {})}
    return {**partial, "metadata": metadata}


@pytest.mark.parametrize(("resource", "partial", "cells"), CASES, ids=[case[0] for case in CASES])
def test_a_row_shows_what_kubectl_prints(resource: str, partial: dict[str, Any], cells: list[Any]) -> None:
    assert row_for(resource, make(partial), now=NOW)["cells"] == cells


@pytest.mark.parametrize("resource", [*TABLES, "things.example.com"])
def test_every_kind_prints_an_object_that_has_nothing_but_a_name(resource: str) -> None:
    row = row_for(resource, make({}), now=NOW)
    assert len(row["cells"]) >= len(table_of(resource).columns)


def test_a_table_carries_list_metadata_columns_and_rows() -> None:
    table = table_for("configmaps", [make({})], now=NOW, metadata={"resourceVersion": "7"})
    assert (table["kind"], table["apiVersion"], table["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "7"},
    )
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert set(table["columnDefinitions"][0]) == {"name", "type", "format", "description", "priority"}


def test_only_the_first_table_of_a_watch_needs_headers() -> None:
    assert table_for("configmaps", [make({})], now=NOW, headers=False)["columnDefinitions"] is None


def test_include_object_decides_what_a_row_carries() -> None:
    obj = make({"data": {"a": "1"}})
    assert row_for("configmaps", obj, include_object="None", now=NOW)["object"] is None
    assert row_for("configmaps", obj, include_object="Object", now=NOW)["object"] is obj
    shown = {"apiVersion": "v2"}
    row = row_for("configmaps", obj, include_object="Object", now=NOW, shown=lambda _: shown)
    assert row["object"] is shown
    assert row_for("configmaps", obj, include_object="Metadata", now=NOW)["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


@pytest.mark.parametrize("resource", TABLES)
def test_every_kind_prints_a_bookmark_and_keeps_the_end_of_the_initial_events(resource: str) -> None:
    bookmark = {"metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}
    row = row_for(resource, bookmark, include_object="None", now=NOW)
    assert row["cells"]
    assert row["object"]["metadata"] == bookmark["metadata"]
