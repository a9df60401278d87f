"""The pod table's one-word status, and its counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kubecore.apiserver.tables.printing import row_for

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
CREATED = "2026-01-01T00:00:00Z"


def pod(*, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "creationTimestamp": CREATED, **metadata},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], **(spec or {})},
        "status": {"phase": "Running", **(status or {})},
    }


def container(name: str, *, ready: bool = False, restarts: int = 0, last: str = "", **state: Any) -> dict[str, Any]:
    status = {"name": name, "ready": ready, "restartCount": restarts, "state": state}
    if last:
        status["lastState"] = {"terminated": {"finishedAt": last}}
    return status


def cells(obj: dict[str, Any]) -> list[Any]:
    return row_for("pods", obj, include_object="None", now=NOW)["cells"]  # type: ignore[no-any-return]


def status_of(obj: dict[str, Any]) -> str:
    return str(cells(obj)[2])


RUNNING = {"running": {"startedAt": CREATED}}


def test_a_running_pod_shows_its_ready_containers_age_address_and_node() -> None:
    obj = pod(
        spec={"nodeName": "n1"},
        status={
            "podIPs": [{"ip": "10.0.0.7"}],
            "containerStatuses": [container("a", ready=True, **RUNNING), container("b", **RUNNING)],
        },
    )
    assert cells(obj) == ["web", "1/2", "Running", "0", "60m", "10.0.0.7", "n1", "<none>", "<none>"]


def test_a_pending_pod_shows_its_phase_and_nothing_it_has_not() -> None:
    assert cells(pod(status={"phase": "Pending"}))[1:] == [
        "0/2",
        "Pending",
        "0",
        "60m",
        "<none>",
        "<none>",
        "<none>",
        "<none>",
    ]


def test_restarts_tell_when_the_last_one_was() -> None:
    statuses = [
        container("a", restarts=1, last="2026-01-01T00:30:00Z", ready=True, **RUNNING),
        container("b", restarts=2, last="2026-01-01T00:55:00Z", ready=True, **RUNNING),
    ]
    assert cells(pod(status={"containerStatuses": statuses}))[3] == "3 (5m ago)"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"waiting": {"reason": "CrashLoopBackOff"}}, "CrashLoopBackOff"),
        ({"waiting": {"reason": "ContainerCreating"}}, "ContainerCreating"),
        ({"terminated": {"reason": "Error", "exitCode": 1}}, "Error"),
        ({"terminated": {"exitCode": 3}}, "ExitCode:3"),
        ({"terminated": {"exitCode": 137, "signal": 9}}, "Signal:9"),
    ],
)
def test_a_container_that_does_not_run_names_the_pods_status(state: dict[str, Any], shown: str) -> None:
    statuses = [container("a", **state), container("b", ready=True, **RUNNING)]
    assert status_of(pod(status={"containerStatuses": statuses})) == shown


def test_a_completed_container_beside_a_running_one_does_not_complete_the_pod() -> None:
    statuses = [
        container("a", terminated={"reason": "Completed", "exitCode": 0}),
        container("b", ready=True, **RUNNING),
    ]
    assert status_of(pod(status={"containerStatuses": statuses})) == "NotReady"
    ready = [{"type": "Ready", "status": "True"}]
    assert status_of(pod(status={"containerStatuses": statuses, "conditions": ready})) == "Running"


def test_a_failed_container_says_more_than_a_completed_one() -> None:
    failed = container("b", terminated={"reason": "OOMKilled", "exitCode": 137})
    completed = container("a", terminated={"reason": "Completed", "exitCode": 0})
    assert status_of(pod(status={"containerStatuses": [completed, failed]})) == "OOMKilled"


def test_init_containers_are_counted_while_they_run() -> None:
    spec = {"initContainers": [{"name": "i"}, {"name": "j"}]}
    statuses = [container("i", **RUNNING), container("j", waiting={"reason": "PodInitializing"})]
    obj = pod(spec=spec, status={"phase": "Pending", "initContainerStatuses": statuses})
    assert status_of(obj) == "Init:0/2"
    statuses[0]["state"] = {"terminated": {"exitCode": 0}}
    assert status_of(obj) == "Init:1/2"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"waiting": {"reason": "CrashLoopBackOff"}}, "Init:CrashLoopBackOff"),
        ({"terminated": {"reason": "Error", "exitCode": 1}}, "Init:Error"),
        ({"terminated": {"exitCode": 2}}, "Init:ExitCode:2"),
        ({"terminated": {"exitCode": 137, "signal": 9}}, "Init:Signal:9"),
    ],
)
def test_a_failing_init_container_says_so(state: dict[str, Any], shown: str) -> None:
    spec = {"initContainers": [{"name": "i"}]}
    status = {"phase": "Pending", "initContainerStatuses": [container("i", restarts=4, **state)]}
    row = cells(pod(spec=spec, status=status))
    assert (row[2], row[3]) == (shown, "4")


def test_sidecars_count_as_containers() -> None:
    obj = pod(
        spec={"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
        status={
            "initContainerStatuses": [{**container("s", ready=True, restarts=1, **RUNNING), "started": True}],
            "containerStatuses": [container("a", ready=True, **RUNNING), container("b", ready=True, **RUNNING)],
        },
    )
    assert cells(obj)[1:4] == ["3/3", "Running", "1"]


def test_a_deleted_pod_is_terminating_until_it_has_ended() -> None:
    assert status_of(pod(deletionTimestamp=CREATED)) == "Terminating"
    assert status_of(pod(deletionTimestamp=CREATED, status={"phase": "Succeeded"})) == "Succeeded"
    assert status_of(pod(deletionTimestamp=CREATED, status={"reason": "NodeLost"})) == "Unknown"


def test_a_gated_pod_says_so() -> None:
    gated = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    assert status_of(pod(status={"phase": "Pending", "conditions": gated})) == "SchedulingGated"


def test_an_evicted_pod_shows_the_reason_and_is_marked_completed() -> None:
    obj = pod(status={"phase": "Failed", "reason": "Evicted"})
    assert status_of(obj) == "Evicted"
    conditions = row_for("pods", obj, now=NOW)["conditions"]
    assert [(one["type"], one["reason"]) for one in conditions] == [("Completed", "Failed")]


def test_readiness_gates_are_counted() -> None:
    obj = pod(
        spec={"readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]},
        status={"conditions": [{"type": "x", "status": "True"}]},
    )
    assert cells(obj)[-1] == "1/2"
