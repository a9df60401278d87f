from datetime import UTC, datetime
from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.controllers.workloads.pod_ranking import choose

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def pod(
    name: str,
    *,
    node: str = "n1",
    phase: str = "Running",
    ready: str = "2026-01-01T00:00:00Z",
    cost: int = 0,
    restarts: int = 0,
    created: str = "2026-01-01T00:00:00Z",
) -> Object:
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}] if ready else []
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": conditions,
        "containerStatuses": [{"restartCount": restarts}],
    }
    annotations = {"controller.kubernetes.io/pod-deletion-cost": str(cost)} if cost else {}
    metadata = {"name": name, "uid": name, "creationTimestamp": created, "annotations": annotations}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        pytest.param(pod("a", node=""), pod("b"), id="unassigned before assigned"),
        pytest.param(pod("a", phase="Pending"), pod("b"), id="pending before running"),
        pytest.param(pod("a", ready=""), pod("b"), id="not ready before ready"),
        pytest.param(pod("a"), pod("b", cost=5), id="cheap before dear"),
        pytest.param(pod("a", ready="2026-01-09T00:00:00Z"), pod("b"), id="ready for less time first"),
        pytest.param(pod("a", restarts=3), pod("b"), id="more restarts first"),
        pytest.param(pod("a", created="2026-01-09T23:00:00Z"), pod("b"), id="younger first"),
        pytest.param(
            pod("a", cost=-1), pod("b", ready="2026-01-09T00:00:00Z"), id="the cost outweighs the time of readiness"
        ),
    ],
)
def test_order(goes: Object, stays: Object) -> None:
    for candidates in ([goes, stays], [stays, goes]):
        assert choose(candidates, [], 1, NOW) == [goes]


def with_init_container(name: str, restarts: int, *, sidecar: bool) -> Object:
    made = pod(name)
    made["spec"]["initContainers"] = [{"name": "i", "restartPolicy": "Always"} if sidecar else {"name": "i"}]
    made["status"]["initContainerStatuses"] = [{"name": "i", "restartCount": restarts}]
    return made


def test_restarts_of_sidecars_count_where_those_of_containers_are_equal() -> None:
    restless, calm = with_init_container("b", 3, sidecar=True), with_init_container("a", 1, sidecar=True)
    assert choose([calm, restless], [], 1, NOW) == [restless]
    failing = pod("c", restarts=1)
    assert choose([restless, failing], [], 1, NOW) == [failing]


def test_restarts_of_other_init_containers_do_not_count() -> None:
    by_uid = [with_init_container("a", 0, sidecar=False), with_init_container("b", 9, sidecar=False)]
    assert choose(by_uid, [], 1, NOW) == by_uid[:1]


def test_a_node_that_is_crowded_by_related_pods_gives_first() -> None:
    candidates = [pod("a", node="n1"), pod("b", node="n2")]
    related = [*candidates, pod("c", node="n2"), pod("d", node="n2")]
    assert choose(candidates, related, 1, NOW) == [candidates[1]]


def test_ages_of_one_order_of_magnitude_count_as_equal() -> None:
    older, younger = pod("a", ready="2026-01-01T00:00:00Z"), pod("b", ready="2026-01-02T00:00:00Z")
    assert choose([younger, older], [], 1, NOW) == [older]


def test_all_are_chosen_when_all_must_go() -> None:
    candidates = [pod("a"), pod("b")]
    assert choose(candidates, [], 5, NOW) == candidates
