"""What the tables say of objects in every state that matters. Each expectation is what Kubernetes' own printers say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from kubecore.apiserver.tables.printing import row_for, table_for, table_of

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
CREATED = "2026-01-01T00:00:00Z"


class Case(NamedTuple):
    resource: str
    says: str
    """The behaviour, as a sentence."""
    obj: dict[str, Any]
    cells: dict[str, Any]
    """Expected cells by column."""


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def status(**fields: Any) -> dict[str, Any]:
    return {"status": fields}


def conditions(**statuses: str) -> list[dict[str, Any]]:
    return [{"type": type, "status": status} for type, status in statuses.items()]


def metric(type: str, target: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": type, type[0].lower() + type[1:]: {"target": target, **more}}


def current(type: str, **value: Any) -> dict[str, Any]:
    return {"type": type, type[0].lower() + type[1:]: {"current": value}}


CPU = {"name": "cpu"}
DELETED = {"metadata": {"deletionTimestamp": CREATED}}
JOBS, CRON_JOBS = "jobs.batch", "cronjobs.batch"
SCALERS = "horizontalpodautoscalers.autoscaling"
INGRESSES, CLASSES = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io"
SIGNING = "certificatesigningrequests.certificates.k8s.io"
POD_CERTIFICATES = "podcertificaterequests.certificates.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
LEVELS = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
FLOWS = "flowschemas.flowcontrol.apiserver.k8s.io"
CLAIMS = "resourceclaims.resource.k8s.io"
MIGRATIONS = "storageversionmigrations.storagemigration.k8s.io"
VERSIONS = "storageversions.internal.apiserver.k8s.io"
SLICES = "endpointslices.discovery.k8s.io"
STORAGE_CLASSES = "storageclasses.storage.k8s.io"

CASES = [
    # --- jobs
    Case(JOBS, "is complete", status(conditions=conditions(Complete="True", Failed="False")), {"Status": "Complete"}),
    Case(JOBS, "has failed", status(conditions=conditions(FailureTarget="True", Failed="True")), {"Status": "Failed"}),
    Case(JOBS, "is about to fail", status(conditions=conditions(FailureTarget="True")), {"Status": "FailureTarget"}),
    Case(
        JOBS,
        "has met its success criteria",
        status(conditions=conditions(SuccessCriteriaMet="True")),
        {"Status": "SuccessCriteriaMet"},
    ),
    Case(JOBS, "is suspended", status(conditions=conditions(Suspended="True")), {"Status": "Suspended"}),
    Case(JOBS, "was resumed", status(conditions=conditions(Suspended="False")), {"Status": "Running"}),
    Case(JOBS, "is being deleted", DELETED, {"Status": "Terminating"}),
    Case(JOBS, "runs without completions", spec(parallelism=1), {"Completions": "0/1", "Duration": ""}),
    Case(JOBS, "is a work queue", spec(parallelism=3), {"Completions": "0/1 of 3"}),
    Case(JOBS, "took a while", status(startTime=CREATED, completionTime="2026-01-01T00:00:07Z"), {"Duration": "7s"}),
    Case(CRON_JOBS, "has never run", spec(schedule="@daily"), {"Suspend": "<unset>", "Last Schedule": "<none>"}),
    Case(CRON_JOBS, "is suspended", spec(suspend=True, timeZone="Etc/UTC"), {"Suspend": "True", "Timezone": "Etc/UTC"}),
    # --- autoscalers
    Case(SCALERS, "has no metrics and no minimum", spec(maxReplicas=3), {"Targets": "<none>", "MinPods": "<unset>"}),
    Case(SCALERS, "has a minimum, as text", spec(minReplicas=2, maxReplicas=5), {"MinPods": "2", "MaxPods": 5}),
    Case(
        SCALERS,
        "shows utilization of a container",
        {
            **spec(metrics=[metric("ContainerResource", {"averageUtilization": 80}, **CPU, container="c")]),
            **status(currentMetrics=[current("ContainerResource", averageUtilization=42)]),
        },
        {"Targets": "cpu: 42%/80%"},
    ),
    Case(SCALERS, "has no target", spec(metrics=[metric("Resource", {}, **CPU)]), {"Targets": "cpu: <unknown>/<auto>"}),
    Case(
        SCALERS,
        "shows averages before utilization",
        {
            **spec(metrics=[metric("Resource", {"averageValue": "1", "averageUtilization": 5}, **CPU)]),
            **status(currentMetrics=[current("Resource", averageValue="500m", averageUtilization=1)]),
        },
        {"Targets": "cpu: 500m/1"},
    ),
    Case(
        SCALERS,
        "marks averages of what is not its pods'",
        {
            **spec(metrics=[metric("External", {"averageValue": "10"}), metric("Object", {"averageValue": "7"})]),
            **status(currentMetrics=[current("External", averageValue="9")]),
        },
        {"Targets": "9/10 (avg), <unknown>/7 (avg)"},
    ),
    Case(
        SCALERS,
        "shows two metrics and counts the rest",
        {
            **spec(
                metrics=[
                    metric("Pods", {"averageValue": "3"}),
                    metric("Object", {"value": "1k"}),
                    metric("External", {"value": "5"}),
                ]
            ),
            **status(currentMetrics=[current("Pods", averageValue="2"), current("Object", value="900")]),
        },
        {"Targets": "2/3, 900/1k + 1 more..."},
    ),
    # --- services and what is before and behind them
    Case("services", "is headless", spec(type="ClusterIP", clusterIPs=["None"]), {"Cluster-IP": "None"}),
    Case(
        "services",
        "names another host",
        spec(type="ExternalName", externalName="db.example"),
        {"Cluster-IP": "<none>", "External-IP": "db.example", "Port(s)": "<none>"},
    ),
    Case(
        "services",
        "selects by labels, in the order of what is written",
        spec(selector={"app": "web", "app.kubernetes.io/name": "web"}),
        {"Selector": "app.kubernetes.io/name=web,app=web"},
    ),
    Case("services", "waits for its balancer", spec(type="LoadBalancer"), {"External-IP": "<pending>"}),
    Case(
        "services",
        "has addresses of a balancer and its own, uncut",
        {
            **spec(type="LoadBalancer", externalIPs=["9.9.9.9"]),
            **status(loadBalancer={"ingress": [{"hostname": "a-rather-long-name.example"}, {"ip": "1.2.3.4"}]}),
        },
        {"External-IP": "1.2.3.4,a-rather-long-name.example,9.9.9.9"},
    ),
    Case(INGRESSES, "takes any host", spec(rules=[{}]), {"Hosts": "*", "Class": "<none>", "Ports": "80"}),
    Case(
        INGRESSES,
        "counts the rules behind its third host",
        spec(rules=[{"host": "a"}, {}, {"host": "b"}, {"host": "c"}, {}]),
        {"Hosts": "a,b,c + 2 more..."},
    ),
    Case(
        CLASSES,
        "has parameters in the core group",
        spec(parameters={"apiGroup": "", "kind": "ConfigMap", "name": "c"}),
        {"Parameters": "ConfigMap./c"},
    ),
    Case(
        "ipaddresses.networking.k8s.io",
        "belongs to a service",
        spec(parentRef={"group": "", "resource": "services", "namespace": "default", "name": "kubernetes"}),
        {"ParentRef": "services/default/kubernetes"},
    ),
    Case(SLICES, "has no ports and no endpoints", {}, {"Ports": "<unset>", "Endpoints": "<unset>"}),
    Case(SLICES, "has ports by name only, or any", {"ports": [{"name": "http"}, {}]}, {"Ports": "http,*"}),
    Case(
        "endpoints",
        "has IPv6 and no ports",
        {"subsets": [{"addresses": [{"ip": "fd00::1"}]}]},
        {"Endpoints": "fd00::1"},
    ),
    Case("endpoints", "has nothing", {}, {"Endpoints": "<none>"}),
    # --- nodes
    Case("nodes", "never reported", {}, {"Status": "Unknown", "Roles": "<none>", "Internal-IP": "<none>"}),
    Case("nodes", "is lost", status(conditions=conditions(Ready="Unknown")), {"Status": "NotReady"}),
    # --- volumes
    Case("persistentvolumes", "is being deleted", {**DELETED, **status(phase="Bound")}, {"Status": "Terminating"}),
    Case("persistentvolumes", "has no capacity", {}, {"Capacity": "0", "Claim": "", "VolumeMode": "<unset>"}),
    Case(
        "persistentvolumeclaims",
        "has its class from the old annotation",
        {
            "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": ""}},
            **spec(storageClassName="fast", volumeAttributesClassName=""),
        },
        {"StorageClass": "", "VolumeAttributesClass": ""},
    ),
    Case(
        "persistentvolumeclaims",
        "shows what it has got only when bound",
        {
            **spec(volumeName="v"),
            **status(capacity={"storage": "2Gi"}, accessModes=["ReadWriteOncePod", "ReadOnlyMany"]),
        },
        {"Capacity": "2Gi", "Access Modes": "ROX,RWOP"},
    ),
    Case(
        STORAGE_CLASSES,
        "says nothing of when and what",
        {},
        {"ReclaimPolicy": "Delete", "VolumeBindingMode": "Immediate", "AllowVolumeExpansion": False},
    ),
    Case("csidrivers.storage.k8s.io", "asks for no tokens", {}, {"TokenRequests": "<unset>", "AttachRequired": True}),
    # --- events
    Case(
        "events",
        "is a series whose last sight is unknown",
        {"series": {"count": 3}, "lastTimestamp": CREATED, "eventTime": "2026-01-01T00:59:00.000000Z"},
        {"Last Seen": "<unknown>", "First Seen": "60s", "Count": 3},
    ),
    Case(
        "events",
        "is a series of a new reporter",
        {
            "series": {"count": 8, "lastObservedTime": "2026-01-01T00:59:50.000000Z"},
            "eventTime": "2026-01-01T00:50:00.000000Z",
            "reportingComponent": "scheduler",
            "reportingInstance": "s-0",
            "involvedObject": {"kind": "Node"},
        },
        {"Last Seen": "10s", "First Seen": "10m", "Count": 8, "Source": "scheduler, s-0", "Object": "node"},
    ),
    Case("events", "happened once", {"firstTimestamp": CREATED}, {"Last Seen": "60m", "Count": 1}),
    # --- rights, certificates, admission
    Case(
        "rolebindings.rbac.authorization.k8s.io",
        "binds an account without a namespace",
        {"subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "Group", "name": "g"}]},
        {"ServiceAccounts": "/s", "Groups": "g", "Users": ""},
    ),
    Case(
        SIGNING,
        "is denied and has no signer",
        status(conditions=conditions(Approved="True", Denied="True")),
        {"Condition": "Denied", "SignerName": "<none>", "RequestedDuration": "<none>"},
    ),
    Case(
        SIGNING,
        "failed",
        status(conditions=conditions(Approved="True", Failed="True")),
        {"Condition": "Approved,Failed"},
    ),
    Case(POD_CERTIFICATES, "waits", spec(podName="p", nodeName="n"), {"State": "Pending", "PodName": "p"}),
    Case(POD_CERTIFICATES, "is issued", status(conditions=conditions(Issued="True")), {"State": "Issued"}),
    Case(POLICIES, "has no parameters", spec(validations=[{}, {}]), {"Validations": 2, "ParamKind": "<unset>"}),
    Case(BINDINGS, "names its parameters", spec(paramRef={"name": "p"}), {"ParamRef": "*/p"}),
    Case(
        BINDINGS,
        "selects its parameters",
        spec(
            paramRef={
                "selector": {
                    "matchLabels": {"b": "2", "a": "1"},
                    "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}],
                }
            }
        ),
        {
            "ParamRef": "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:"
            "[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        },
    ),
    # --- the cluster
    Case(
        "resourcequotas",
        "has a name that only begins like a limit",
        status(hard={"limitsfoo": "1"}),
        {"Request": "limitsfoo: 0/1", "Limit": ""},
    ),
    Case(
        "componentstatuses",
        "is ill",
        {"conditions": conditions(Healthy="False")},
        {"Status": "Unhealthy", "Message": ""},
    ),
    Case("componentstatuses", "says nothing", {}, {"Status": "Unknown", "Error": ""}),
    Case("priorityclasses.scheduling.k8s.io", "has no policy", {"value": -5}, {"PreemptionPolicy": "", "Value": -5}),
    Case(
        LEVELS,
        "is exempt",
        spec(type="Exempt", exempt={"nominalConcurrencyShares": 5}),
        {"NominalConcurrencyShares": "<none>", "Queues": "<none>"},
    ),
    Case(
        LEVELS,
        "queues",
        spec(
            type="Limited",
            limited={"nominalConcurrencyShares": 20, "limitResponse": {"queuing": {"queues": 64, "handSize": 6}}},
        ),
        {"NominalConcurrencyShares": 20, "Queues": 64, "HandSize": 6, "QueueLengthLimit": 0},
    ),
    Case(
        FLOWS,
        "is sound",
        {**spec(distinguisherMethod={"type": "ByUser"}), **status(conditions=conditions(Dangling="False"))},
        {"DistinguisherMethod": "ByUser", "MissingPL": "False"},
    ),
    Case(CLAIMS, "waits", {}, {"State": "pending"}),
    Case(CLAIMS, "is in use", status(allocation={}, reservedFor=[{}]), {"State": "allocated,reserved"}),
    Case(CLAIMS, "is deleted and was never allocated", {**DELETED, **status(reservedFor=[{}])}, {"State": "deleted"}),
    Case(
        "resourceslices.resource.k8s.io",
        "is every node's",
        spec(allNodes=True, driver="d"),
        {"Node": "", "Driver": "d"},
    ),
    Case(
        "devicetaintrules.resource.k8s.io",
        "was put on a while ago",
        spec(taint={"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:59:00Z"}),
        {"Key": "k", "Value": "", "Effect": "NoExecute", "TimeAdded": "60s"},
    ),
    Case(
        MIGRATIONS,
        "has not begun",
        spec(resource={"group": "apps", "resource": "x"}),
        {"Resource": "x.apps", "Status": "Unknown"},
    ),
    Case(
        MIGRATIONS, "is done", status(conditions=conditions(Running="False", Succeeded="True")), {"Status": "Succeeded"}
    ),
    Case(
        VERSIONS,
        "differs between servers",
        status(storageVersions=[{"apiServerID": f"s{n}", "encodingVersion": "v1"} for n in range(4)]),
        {"CommonEncodingVersion": "<unset>", "StorageVersions": "s0=v1,s1=v1,s2=v1 + 1 more..."},
    ),
    # --- selectors
    Case("deployments.apps", "selects everything", spec(selector={}), {"Selector": ""}),
    Case("replicasets.apps", "selects everything", spec(selector={}), {"Selector": "<none>"}),
    Case(
        "networkpolicies.networking.k8s.io",
        "selects by every operator",
        spec(
            podSelector={
                "matchLabels": {"b": "1"},
                "matchExpressions": [
                    {"key": "b", "operator": "DoesNotExist"},
                    {"key": "a", "operator": "NotIn", "values": ["z", "y"]},
                    {"key": "c", "operator": "Exists"},
                ],
            }
        ),
        {"Pod-Selector": "a notin (y,z),b=1,!b,c"},
    ),
]


def whole(obj: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})}}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.resource.partition('.')[0]}: {case.says}" for case in CASES])
def test_a_row_tells_the_state(case: Case) -> None:
    cells = row_for(case.resource, whole(case.obj), now=NOW)["cells"]
    shown = {column.name: cell for column, cell in zip(table_of(case.resource).columns, cells, strict=False)}
    told = {name: shown[name] for name in case.cells}
    assert told == case.cells
    assert [type(cell) for cell in told.values()] == [type(cell) for cell in case.cells.values()]


def test_flow_schemas_are_listed_in_the_order_they_are_tried() -> None:
    flows = [
        {"metadata": {"name": name}, "spec": {"matchingPrecedence": at}} for name, at in (("b", 9), ("a", 9), ("z", 1))
    ]
    assert [row["cells"][0] for row in table_for(FLOWS, flows, now=NOW)["rows"]] == ["z", "a", "b"]


def test_an_address_tells_its_age_without_a_column_for_it() -> None:
    assert row_for("ipaddresses.networking.k8s.io", whole({}), now=NOW)["cells"] == ["x", "<none>", "60m"]
