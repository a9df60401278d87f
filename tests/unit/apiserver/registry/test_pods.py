"""Pods: defaults seen on read-back, validation in Kubernetes' words, and what an update may change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.comparisons import counting
from tests.unit.apiserver.registry.writing import Writer, changed

PODS = Writer("pods")


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "nginx"}], **spec}}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "nginx", **fields}])


def test_a_minimal_pod_is_read_back_with_its_defaults() -> None:
    created = PODS.create(pod())
    assert created["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }
    assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_defaulting_twice_changes_nothing() -> None:
    obj = container(
        ports=[{"containerPort": 80}],
        livenessProbe={"httpGet": {"port": 80}},
        resources={"limits": {"cpu": "1000m"}},
        env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    )
    PODS.strategy.default(obj)
    once = changed(obj, "metadata.name", "web")
    PODS.strategy.default(obj)
    assert obj == once


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry.example:5000/nginx", "Always"),
        ("registry.example:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ],
)
def test_the_tag_decides_when_an_image_is_pulled(image: str, policy: str) -> None:
    assert PODS.create(container(image=image))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_probes_ports_and_hooks_get_their_defaults() -> None:
    created = PODS.create(
        container(
            ports=[{"containerPort": 80}],
            readinessProbe={"httpGet": {"port": "http"}},
            startupProbe={"grpc": {"port": 9000}, "periodSeconds": 1},
            lifecycle={"preStop": {"httpGet": {"port": 80}}},
        )
    )["spec"]["containers"][0]
    assert created["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert created["readinessProbe"] == {
        "httpGet": {"port": "http", "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert created["startupProbe"]["grpc"] == {"port": 9000, "service": ""}
    assert created["startupProbe"]["periodSeconds"] == 1
    assert created["lifecycle"]["preStop"]["httpGet"]["scheme"] == "HTTP"


def test_volumes_get_their_defaults() -> None:
    volumes = [
        {"name": "a", "configMap": {"name": "m"}},
        {"name": "b", "secret": {"secretName": "s"}},
        {"name": "c"},
        {"name": "d", "hostPath": {"path": "/tmp"}},
        {
            "name": "e",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                ]
            },
        },
    ]
    created = PODS.create(pod(volumes=volumes, serviceAccountName="s"))["spec"]["volumes"]
    assert created[0]["configMap"]["defaultMode"] == created[1]["secret"]["defaultMode"] == 0o644
    assert created[2] == {"name": "c", "emptyDir": {}}
    assert created[3]["hostPath"]["type"] == ""
    assert created[4]["projected"]["defaultMode"] == 0o644
    assert created[4]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert created[4]["projected"]["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"


def test_limits_are_requested_too_and_quantities_are_canonical() -> None:
    resources = PODS.create(container(resources={"limits": {"cpu": "1000m", "memory": "1024Mi"}}))["spec"][
        "containers"
    ][0]["resources"]
    assert resources == {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}


def test_both_names_of_the_service_account_are_kept_equal() -> None:
    spec = PODS.create(pod(serviceAccount="robot"))["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "robot"


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "100m"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_the_quality_of_service_follows_from_the_resources(resources: dict[str, Any], quality: str) -> None:
    assert PODS.create(container(resources=resources))["status"]["qosClass"] == quality


def test_a_gated_pod_says_so_in_its_status() -> None:
    status = PODS.create(pod(schedulingGates=[{"name": "example.com/wait"}]))["status"]
    assert [(one["type"], one["reason"]) for one in status["conditions"]] == [("PodScheduled", "SchedulingGated")]


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        (pod(containers=[]), "spec.containers: Required value"),
        (container(name="Bad_Name"), 'spec.containers[0].name: Invalid value: "Bad_Name": a lowercase RFC 1123 label'),
        (container(image=""), "spec.containers[0].image: Required value"),
        (
            container(image=" nginx"),
            'spec.containers[0].image: Invalid value: " nginx": must not have leading or trailing whitespace',
        ),
        (
            pod(containers=[{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]),
            'spec.containers[1].name: Duplicate value: "c"',
        ),
        (
            container(imagePullPolicy="Sometimes"),
            'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": '
            'supported values: "Always", "IfNotPresent", "Never"',
        ),
        (
            container(ports=[{"containerPort": 70000}]),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container(ports=[{"containerPort": 80, "name": "UPPER"}]),
            'spec.containers[0].ports[0].name: Invalid value: "UPPER": '
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            container(env=[{"name": "A=B", "value": "x"}]),
            'spec.containers[0].env[0].name: Invalid value: "A=B": a valid environment variable name',
        ),
        (
            container(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
        ),
        (
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.magic"}}}]),
            "error converting fieldPath: field label not supported: spec.magic",
        ),
        (
            container(volumeMounts=[{"name": "nowhere", "mountPath": "/x"}]),
            'spec.containers[0].volumeMounts[0].name: Not found: "nowhere"',
        ),
        (
            container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            container(resources={"limits": {"cpu": "-1"}}),
            'spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            container(livenessProbe={"periodSeconds": 5}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            container(livenessProbe={"tcpSocket": {"port": 80}, "successThreshold": 2}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            pod(restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"',
        ),
        (
            pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            pod(volumes=[{"name": "v", "configMap": {"name": "m", "defaultMode": 0o1000}}]),
            "must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            pod(volumes=[{"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "../x"}]}}]),
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
        ),
        (
            pod(tolerations=[{"operator": "Exists", "key": "k", "value": "v"}]),
            "value must be empty when `operator` is 'Exists'",
        ),
        (
            pod(tolerations=[{"key": "k", "tolerationSeconds": 3}]),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (pod(dnsPolicy="None"), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
        (pod(nodeSelector={"a": "b c"}), 'spec.nodeSelector: Invalid value: "b c": a valid label must be'),
        (
            pod(activeDeadlineSeconds=0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            pod(initContainers=[{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["true"]}}}]),
            "spec.initContainers[0].livenessProbe: Forbidden: "
            "may not be set for init containers without restartPolicy=Always",
        ),
        (
            pod(ephemeralContainers=[{"name": "e", "image": "x"}]),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
    ],
)
def test_an_invalid_pod_is_refused_in_kubernetes_words(obj: dict[str, Any], problem: str) -> None:
    found = PODS.problems(obj)
    assert any(problem in one for one in found), found


def test_the_first_action_of_a_probe_is_judged_before_the_others_are_refused() -> None:
    probe = {"httpGet": {"path": "/", "port": 0}, "tcpSocket": {"port": 0}, "grpc": {"port": 0}}
    where = "spec.containers[0].livenessProbe"
    assert PODS.problems(container(livenessProbe=probe)) == [
        f"{where}.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        f"{where}.tcpSocket: Forbidden: may not specify more than 1 handler type",
        f"{where}.grpc: Forbidden: may not specify more than 1 handler type",
    ]


def test_a_sidecar_may_have_probes() -> None:
    sidecar = {"name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}
    assert not PODS.problems(pod(initContainers=[sidecar]))


STORED = PODS.create(
    pod(tolerations=[{"key": "k", "operator": "Exists"}], volumes=[{"name": "v", "emptyDir": {}}], nodeName="n1")
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.containers.0.image", "nginx:2"),
        ("spec.activeDeadlineSeconds", 10),
        ("spec.tolerations", [{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}]),
        ("metadata.labels", {"a": "b"}),
    ],
)
def test_a_few_fields_of_a_pod_may_change(path: str, value: Any) -> None:
    assert not PODS.update_problems(STORED, changed(STORED, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.nodeName", "n2"),
        ("spec.containers.0.command", ["sh"]),
        ("spec.volumes.0.emptyDir", {"medium": "Memory"}),
        ("spec.terminationGracePeriodSeconds", 5),
        ("spec.hostNetwork", True),
    ],
)
def test_all_other_fields_of_a_pod_stay(path: str, value: Any) -> None:
    (problem,) = PODS.update_problems(STORED, changed(STORED, path, value))
    assert problem.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
        "`spec.tolerations` (only additions to existing tolerations)"
    )


def test_containers_cannot_be_added_by_update() -> None:
    more = [*STORED["spec"]["containers"], {"name": "d", "image": "x"}]
    assert PODS.update_problems(STORED, changed(STORED, "spec.containers", more)) == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]


def test_tolerations_are_not_each_held_against_each() -> None:
    """A pod of 0.8 MB, which has 20,000 of them, would hold up everything for many seconds."""
    text, many = counting(), 500
    stored, wanted = (
        changed(STORED, "spec.tolerations", [{"key": text(f"k{number}"), "operator": "Exists"} for number in order])
        for order in (range(many), reversed(range(many)))
    )
    assert PODS.update_problems(stored, wanted) == []
    assert 0 < text.compared <= 20 * many


def test_a_toleration_cannot_be_taken_away() -> None:
    assert PODS.update_problems(STORED, changed(STORED, "spec.tolerations", [])) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]


def test_scheduling_gates_can_only_be_removed() -> None:
    gated = PODS.create(pod(schedulingGates=[{"name": "a.b/c"}]))
    freed = PODS.update(gated, changed(gated, "spec.schedulingGates", None))
    assert "schedulingGates" not in freed["spec"]
    found = PODS.update_problems(gated, changed(gated, "spec.schedulingGates", [{"name": "x.y/z"}]))
    assert found[0].endswith("only deletion is allowed, but found new scheduling gate 'x.y/z'")


def test_ephemeral_containers_are_added_through_their_subresource_only() -> None:
    added = changed(STORED, "spec.ephemeralContainers", [{"name": "debug", "image": "busybox"}])
    assert PODS.update_problems(STORED, added)[0].startswith("spec: Forbidden")
    stored = PODS.update(STORED, added, subresource="ephemeralcontainers")
    assert [one["name"] for one in stored["spec"]["ephemeralContainers"]] == ["debug"]
    gone = changed(stored, "spec.ephemeralContainers", None)
    (problem,) = PODS.update_problems(stored, gone, subresource="ephemeralcontainers")
    assert 'existing ephemeral containers "debug" may not be removed' in problem


def test_cpu_and_memory_are_resized_through_their_subresource_only() -> None:
    stored = PODS.create(container(resources={"requests": {"cpu": "1"}}))
    resized = changed(stored, "spec.containers.0.resources", {"requests": {"cpu": "2"}})
    assert PODS.update_problems(stored, resized)[0].startswith("spec: Forbidden")
    assert not PODS.update_problems(stored, resized, subresource="resize")
    other = changed(resized, "spec.containers.0.image", "other")
    assert PODS.update_problems(stored, other, subresource="resize") == [
        "spec: Forbidden: only cpu and memory resources are mutable"
    ]


def test_a_container_that_ended_for_good_does_not_run_again() -> None:
    stored = PODS.create(pod(restartPolicy="Never"))
    ended = changed(stored, "status.containerStatuses", [{"name": "c", "state": {"terminated": {"exitCode": 0}}}])
    again = changed(stored, "status.containerStatuses", [{"name": "c", "state": {"running": {}}}])
    assert PODS.update_problems(ended, again, subresource="status") == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    ]


def test_the_status_keeps_the_quality_of_service() -> None:
    stored = PODS.update(STORED, changed(STORED, "status", {"phase": "Running"}), subresource="status")
    assert stored["status"] == {"phase": "Running", "qosClass": "BestEffort"}


@pytest.mark.parametrize(
    ("spec", "status", "requested", "grace"),
    [
        ({}, {}, None, 0),
        ({"nodeName": "n"}, {}, None, 30),
        ({"nodeName": "n"}, {}, 5, 5),
        ({"nodeName": "n"}, {}, 0, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 7}, {}, None, 7),
        ({"nodeName": "n"}, {"phase": "Succeeded"}, None, 0),
    ],
)
def test_a_scheduled_pod_gets_time_to_end(
    spec: dict[str, Any], status: dict[str, Any], requested: int | None, grace: int
) -> None:
    assert PODS.strategy.delete_grace({"spec": spec, "status": status}, requested) == grace
