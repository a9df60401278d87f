"""What runs pods: defaults, selectors that match, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

DEPLOYMENTS = Writer("deployments.apps")
SELECTING = ["deployments.apps", "replicasets.apps", "daemonsets.apps", "statefulsets.apps"]


def template(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx:1"}], **spec},
    }


def workload(**spec: Any) -> dict[str, Any]:
    found = {"selector": {"matchLabels": {"app": "web"}}, "template": template(), **spec}
    return {"metadata": {"name": "web"}, "spec": {key: value for key, value in found.items() if value is not None}}


def test_a_minimal_deployment_is_read_back_with_its_defaults() -> None:
    spec = DEPLOYMENTS.create(workload())["spec"]
    assert spec.pop("template")["spec"]["restartPolicy"] == "Always"
    assert spec == {
        "selector": {"matchLabels": {"app": "web"}},
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }


def test_recreate_has_no_rolling_parameters() -> None:
    assert DEPLOYMENTS.create(workload(strategy={"type": "Recreate"}))["spec"]["strategy"] == {"type": "Recreate"}


def test_the_template_gets_the_defaults_of_pods_but_not_what_only_pods_get() -> None:
    pod = DEPLOYMENTS.create(workload())["spec"]["template"]["spec"]
    assert pod["schedulerName"] == "default-scheduler"
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert "enableServiceLinks" not in pod


def test_a_daemon_set_rolls_one_at_a_time() -> None:
    spec = Writer("daemonsets.apps").create(workload())["spec"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    assert spec["revisionHistoryLimit"] == 10


def test_a_stateful_set_is_ordered_and_keeps_its_claims() -> None:
    claim = {"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": _one_gi()}}
    mounting = template(containers=[{"name": "c", "image": "i", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}])
    stored = Writer("statefulsets.apps").create(workload(volumeClaimTemplates=[claim], template=mounting))
    spec = stored["spec"]
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"partition": 0, "maxUnavailable": 1},
    }
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    stored_claim = spec["volumeClaimTemplates"][0]
    assert (stored_claim["kind"], stored_claim["spec"]["volumeMode"]) == ("PersistentVolumeClaim", "Filesystem")
    assert stored_claim["status"] == {"phase": "Pending"}


def _one_gi() -> dict[str, Any]:
    return {"requests": {"storage": "1Gi"}}


@pytest.mark.parametrize("key", SELECTING)
def test_the_selector_must_match_the_templates_labels(key: str) -> None:
    found = Writer(key).problems(workload(selector={"matchLabels": {"app": "other"}}))
    assert found == [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]


@pytest.mark.parametrize("key", SELECTING)
def test_a_selector_is_required_and_selects_something(key: str) -> None:
    missing = "selector` does not match" if key == "daemonsets.apps" else "spec.selector: Required value"
    assert any(missing in problem for problem in Writer(key).problems(workload(selector=None)))
    (problem,) = Writer(key).problems(workload(selector={}))
    assert problem.startswith("spec.selector: Invalid value: {}: empty selector is invalid for ")


@pytest.mark.parametrize("key", ["deployments.apps", "replicasets.apps", "daemonsets.apps"])
def test_the_selector_never_changes(key: str) -> None:
    writer = Writer(key)
    stored = writer.create(workload())
    other = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}
    (problem,) = writer.update_problems(stored, changed(stored, "spec.selector", other))
    assert problem.startswith('spec.selector: Invalid value: {"matchLabels"')
    assert problem.endswith("field is immutable")


@pytest.mark.parametrize("key", SELECTING)
def test_their_pods_are_always_restarted(key: str) -> None:
    found = Writer(key).problems(workload(template=template(restartPolicy="Never")))
    assert found == ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"']


@pytest.mark.parametrize("key", ["deployments.apps", "replicasets.apps", "statefulsets.apps"])
def test_replicas_are_not_negative(key: str) -> None:
    assert Writer(key).problems(workload(replicas=-1)) == [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    ]


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        (
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}},
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            {"rollingUpdate": {"maxUnavailable": "150%"}},
            'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%',
        ),
        (
            {"rollingUpdate": {"maxSurge": "some"}},
            'spec.strategy.rollingUpdate.maxSurge: Invalid value: "some": a valid percent string',
        ),
        (
            {"type": "Recreate", "rollingUpdate": {}},
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            {"type": "Magic"},
            'spec.strategy: Unsupported value: {"type":"Magic"}: supported values: "Recreate", "RollingUpdate"',
        ),
    ],
)
def test_a_deployments_strategy_is_checked(strategy: dict[str, Any], problem: str) -> None:
    (found,) = DEPLOYMENTS.problems(workload(strategy=strategy))
    assert found.startswith(problem)


def test_the_progress_deadline_is_after_min_ready_seconds() -> None:
    assert DEPLOYMENTS.problems(workload(progressDeadlineSeconds=10, minReadySeconds=10)) == [
        "spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds"
    ]


def test_a_status_counts_what_there_is() -> None:
    stored = DEPLOYMENTS.create(workload())
    found = DEPLOYMENTS.update_problems(
        stored, changed(stored, "status", {"replicas": 1, "readyReplicas": 2}), subresource="status"
    )
    assert found == ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]


def test_only_some_fields_of_a_stateful_set_change() -> None:
    writer = Writer("statefulsets.apps")
    stored = writer.create(workload())
    assert not writer.update_problems(stored, changed(stored, "spec.replicas", 3))
    (problem,) = writer.update_problems(stored, changed(stored, "spec.serviceName", "other"))
    assert problem.startswith("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'")


def test_a_replication_controller_takes_selector_and_labels_from_its_template() -> None:
    stored = Writer("replicationcontrollers").create(workload(selector=None))
    assert stored["spec"]["selector"] == stored["metadata"]["labels"] == {"app": "web"}


def test_problems_of_the_template_name_their_place() -> None:
    found = DEPLOYMENTS.problems(workload(template=template(containers=[{"name": "c"}])))
    assert found == ["spec.template.spec.containers[0].image: Required value"]


@pytest.mark.parametrize("data", [{}, {"spec": {}}])
def test_data_of_a_controller_revision_stays(data: dict[str, Any]) -> None:
    writer = Writer("controllerrevisions.apps")
    stored = writer.create({"metadata": {"name": "x"}, "revision": 1, "data": data})
    assert not writer.update_problems(stored, changed(stored, "revision", 2))
    without = {name: value for name, value in stored.items() if name != "data"}
    assert writer.update_problems(stored, without) == ["data: Invalid value: null: field is immutable"]
