"""How many pods a PodDisruptionBudget lets go, as evictions and kubectl see it."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.disruption import DisruptionController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, template

BUDGETS, SETS, DEPLOYMENTS = "poddisruptionbudgets.policy", "replicasets.apps", "deployments.apps"
SELECTOR = {"matchLabels": {"app": "web"}}


def budget(**spec: Any) -> Object:
    return {"metadata": {"name": "web", "generation": 1}, "spec": {"selector": SELECTOR, **spec}}


def workload(kind: str, name: str, replicas: int, owner: Object | None = None) -> Object:
    metadata: Object = {"name": name}
    if owner is not None:
        metadata["ownerReferences"] = [meta.controller_reference(owner, "apps/v1", "Deployment")]
    return {"metadata": metadata, "spec": {"replicas": replicas, "selector": SELECTOR, "template": template()}}


def add_pods(api: FakeAPI, count: int, owner: Object | None = None, *, ready: int | None = None) -> None:
    for number in range(count):
        metadata: Object = {"name": f"web-{number}", "labels": {"app": "web"}}
        if owner is not None:
            metadata["ownerReferences"] = [meta.controller_reference(owner, "apps/v1", "ReplicaSet")]
        api.add("pods", {"metadata": metadata, "spec": template()["spec"], "status": {"phase": "Running"}})
        if ready is None or number < ready:
            make_ready(api, f"web-{number}")


async def status_of(running: Running, api: FakeAPI) -> Object:
    await running.start(DisruptionController(running.context))
    found = api.get(BUDGETS, "web")
    assert found is not None
    status: Object = found["status"]
    return status


@pytest.mark.parametrize(
    ("spec", "healthy", "desired", "allowed"),
    [
        ({"maxUnavailable": 1}, 4, 3, 1),
        ({"maxUnavailable": "30%"}, 4, 2, 2),
        ({"maxUnavailable": 0}, 4, 4, 0),
        ({"maxUnavailable": 9}, 4, 0, 4),
        ({"maxUnavailable": 1}, 3, 3, 0),
        ({"minAvailable": 3}, 4, 3, 1),
        ({"minAvailable": 9}, 4, 9, 0),
        ({"minAvailable": "70%"}, 4, 3, 1),
    ],
)
async def test_the_healthy_pods_beyond_those_needed_may_go(
    api: FakeAPI, running: Running, spec: Object, healthy: int, desired: int, allowed: int
) -> None:
    owner = api.add(SETS, workload("ReplicaSet", "web", 4))
    add_pods(api, 4, owner, ready=healthy)
    api.add(BUDGETS, budget(**spec))
    status = await status_of(running, api)
    assert (status["expectedPods"], status["currentHealthy"]) == (4, healthy)
    assert (status["desiredHealthy"], status["disruptionsAllowed"]) == (desired, allowed)
    assert status["observedGeneration"] == 1
    (condition,) = status["conditions"]
    assert condition["type"] == "DisruptionAllowed"
    told = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    assert (condition["status"], condition["reason"]) == told


async def test_what_a_deployment_should_have_counts_over_all_its_replica_sets(api: FakeAPI, running: Running) -> None:
    deployment = api.add(DEPLOYMENTS, workload("Deployment", "web", 5))
    first = api.add(SETS, workload("ReplicaSet", "web-1", 3, deployment))
    api.add(SETS, workload("ReplicaSet", "web-2", 2, deployment))
    add_pods(api, 3, first)
    api.add(BUDGETS, budget(maxUnavailable=1))
    status = await status_of(running, api)
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (5, 4, 0)


async def test_it_follows_pods_and_scales(api: FakeAPI, running: Running) -> None:
    owner = api.add(SETS, workload("ReplicaSet", "web", 3))
    add_pods(api, 3, owner)
    api.add(BUDGETS, budget(maxUnavailable=1))
    assert (await status_of(running, api))["disruptionsAllowed"] == 1
    api.remove("pods", "web-0")
    await running.settle()
    found = api.get(BUDGETS, "web")
    assert found is not None and found["status"]["disruptionsAllowed"] == 0
    api.change(SETS, "web", spec={"replicas": 2})
    await running.settle()
    found = api.get(BUDGETS, "web")
    assert found is not None and found["status"]["disruptionsAllowed"] == 1


async def test_a_pod_that_changes_its_labels_leaves_one_budget_for_another(api: FakeAPI, running: Running) -> None:
    add_pods(api, 2)
    api.add(BUDGETS, budget(minAvailable=0))
    other = {"name": "other", "generation": 1}
    api.add(BUDGETS, {"metadata": other, "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "other"}}}})
    assert (await status_of(running, api))["currentHealthy"] == 2
    api.change("pods", "web-0", metadata={"labels": {"app": "other"}})
    await running.settle()
    healthy = {meta.name(one): one["status"]["currentHealthy"] for one in api.all(BUDGETS)}
    assert healthy == {"web": 1, "other": 1}


async def test_a_budget_that_selects_otherwise_is_counted_anew(api: FakeAPI, running: Running) -> None:
    add_pods(api, 2)
    api.add(BUDGETS, budget(minAvailable=0))
    assert (await status_of(running, api))["currentHealthy"] == 2
    api.change(BUDGETS, "web", spec={"selector": {"matchLabels": {"app": "other"}}})
    await running.settle()
    found = api.get(BUDGETS, "web")
    assert found is not None and found["status"]["currentHealthy"] == 0


async def test_a_budget_without_pods_lets_none_go_and_says_so(api: FakeAPI, running: Running) -> None:
    api.add(BUDGETS, budget(minAvailable=0))
    status = await status_of(running, api)
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (0, 0)
    assert events(api, "NoPods") == ["No matching pods found"]


async def test_a_pod_of_several_budgets_is_told_so(api: FakeAPI, running: Running) -> None:
    for name in ("one", "two"):
        api.add(BUDGETS, {"metadata": {"name": name}, "spec": {"selector": SELECTOR, "minAvailable": 1}})
    await running.start(DisruptionController(running.context))
    add_pods(api, 1)
    await running.settle()
    told = 'Pod "default"/"web-0" matches multiple PodDisruptionBudgets.  Chose "one" arbitrarily.'
    assert told in events(api, "MultiplePodDisruptionBudgets")


async def test_pods_without_a_controller_are_told_of_where_shares_are_asked_for(api: FakeAPI, running: Running) -> None:
    add_pods(api, 2)
    api.add(BUDGETS, budget(minAvailable="50%"))
    status = await status_of(running, api)
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (0, 0)
    (told,) = events(api, "UnmanagedPods")
    shown = "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}"
    assert f"(selector: {shown})" in told


async def test_while_a_controller_is_not_to_be_found_nothing_may_go(api: FakeAPI, running: Running) -> None:
    owner = workload("ReplicaSet", "gone", 2)
    owner["metadata"]["uid"] = "u"
    add_pods(api, 2, owner)
    api.add(BUDGETS, budget(maxUnavailable=1))
    status = await status_of(running, api)
    (condition,) = status["conditions"]
    assert status["disruptionsAllowed"] == 0
    assert (condition["reason"], condition["message"]) == ("SyncFailed", 'found no controllers for pod "web-0"')
    assert "observedGeneration" not in status | condition, "nothing was counted"
    told = 'Failed to calculate the number of expected pods: found no controllers for pod "web-0"'
    assert events(api, "CalculateExpectedPodCountFailed") == [told]


async def test_a_kind_without_scale_cannot_be_counted(api: FakeAPI, running: Running) -> None:
    metadata: Object = {"name": "j-0", "labels": {"app": "web"}}
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": True}
    metadata["ownerReferences"] = [reference]
    api.add("pods", {"metadata": metadata, "spec": template()["spec"], "status": {"phase": "Running"}})
    api.add(BUDGETS, budget(maxUnavailable=1))
    (condition,) = (await status_of(running, api))["conditions"]
    assert condition["message"] == "jobs.batch does not implement the scale subresource"


async def test_an_eviction_under_way_counts_until_it_is_given_up(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    owner = api.add(SETS, workload("ReplicaSet", "web", 3))
    add_pods(api, 3, owner)
    now = meta.format_time(clock.now())
    granted = {"web-0": now, "unknown": now}
    api.add(BUDGETS, {**budget(maxUnavailable=1), "status": {"disruptedPods": granted}})
    status = await status_of(running, api)
    assert status["disruptedPods"] == {"web-0": now}
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (2, 0)
    await clock.advance(121)
    found = api.get(BUDGETS, "web")
    assert found is not None
    assert "disruptedPods" not in found["status"]
    assert found["status"]["disruptionsAllowed"] == 1
    assert events(api, "NotDeleted") == ["Pod was expected by PDB default/web to be deleted but it wasn't"]


async def test_a_mark_that_nothing_came_of_is_taken_back(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_pods(api, 1)
    mark = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    mark["lastTransitionTime"] = meta.format_time(clock.now())
    api.change("pods", "web-0", status={"phase": "Running", "conditions": [mark]})
    await running.start(DisruptionController(running.context))
    await clock.advance(100)

    def marked() -> str:
        pod = api.get("pods", "web-0")
        assert pod is not None
        return str((meta.condition(pod, "DisruptionTarget") or {})["status"])

    assert marked() == "True"
    await clock.advance(30)
    assert marked() == "False"
