from typing import Any

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers import pods
from kubecore.controllers.workloads.replicaset import ReplicaSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names, template

SETS = "replicasets.apps"


def replica_set(replicas: int, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    spec = {"replicas": replicas, "selector": selector, "template": template(), **spec}
    return {"metadata": {"name": "web"}, "spec": spec}


def pod(name: str, labels: dict[str, str] | None = None, owners: list[Object] | None = None) -> Object:
    metadata = {"name": name, "labels": labels or {"app": "web"}, "ownerReferences": owners or []}
    return {"metadata": metadata, "spec": template()["spec"], "status": {"phase": "Running"}}


async def start(running: Running) -> None:
    await running.start(ReplicaSetController(running.context))


async def test_missing_pods_are_made_from_the_template(api: FakeAPI, running: Running) -> None:
    owner = api.add(SETS, replica_set(3))
    await start(running)
    pods = api.all("pods")
    assert len(pods) == 3
    for one in pods:
        assert one["metadata"]["name"].startswith("web-")
        assert one["metadata"]["labels"] == {"app": "web"}
        (reference,) = one["metadata"]["ownerReferences"]
        assert reference["uid"] == owner["metadata"]["uid"]
        assert reference["controller"] and reference["blockOwnerDeletion"]
    assert sorted(events(api, "SuccessfulCreate")) == [f"Created pod: {name}" for name in names(pods)]


async def test_a_pod_that_is_gone_finished_or_on_its_way_out_is_replaced(api: FakeAPI, running: Running) -> None:
    api.add(SETS, replica_set(3))
    await start(running)
    gone, failed, leaving = names(api.all("pods"))
    api.remove("pods", gone)
    api.change("pods", failed, status={"phase": "Failed"})
    api.change("pods", leaving, spec={"nodeName": "n1"})
    await running.context.client.delete("pods", leaving, "default")
    await running.settle()
    assert len(api.all("pods")) == 5
    status = api.get(SETS, "web")["status"]  # type: ignore[index]
    assert (status["replicas"], status["terminatingReplicas"]) == (3, 1)


async def test_surplus_pods_are_deleted(api: FakeAPI, running: Running) -> None:
    api.add(SETS, replica_set(4))
    await start(running)
    api.change(SETS, "web", spec={"replicas": 1})
    await running.settle()
    assert len(api.all("pods")) == 1
    assert len(events(api, "SuccessfulDelete")) == 3


async def test_a_stale_cache_does_not_make_pods_twice(api: FakeAPI, running: Running) -> None:
    api.add(SETS, replica_set(2))
    await start(running)
    for label in range(5):
        api.change(SETS, "web", metadata={"labels": {"touched": str(label)}})
    await running.settle()
    assert len(api.writes("create pods")) == 2


async def test_orphans_that_match_are_adopted(api: FakeAPI, running: Running) -> None:
    api.add("pods", pod("orphan"))
    api.add("pods", pod("other", labels={"app": "db"}))
    owner = api.add(SETS, replica_set(1))
    await start(running)
    assert names(api.all("pods")) == ["orphan", "other"]
    adopted = api.get("pods", "orphan")
    assert adopted is not None
    assert adopted["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]


async def test_a_pod_of_another_controller_is_left_alone(api: FakeAPI, running: Running) -> None:
    reference = {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "x", "controller": True}
    api.add("pods", pod("theirs", owners=[reference]))
    api.add(SETS, replica_set(1))
    await start(running)
    assert len(api.all("pods")) == 2
    assert api.get("pods", "theirs")["metadata"]["ownerReferences"] == [reference]  # type: ignore[index]


async def test_a_pod_that_no_longer_matches_is_let_go_and_replaced(api: FakeAPI, running: Running) -> None:
    api.add(SETS, replica_set(1))
    await start(running)
    (name,) = names(api.all("pods"))
    api.change("pods", name, metadata={"labels": {"app": "debug"}})
    await running.settle()
    assert len(api.all("pods")) == 2
    assert not api.get("pods", name)["metadata"].get("ownerReferences")  # type: ignore[index]


async def test_a_set_that_is_being_deleted_neither_makes_nor_adopts(api: FakeAPI, running: Running) -> None:
    api.add("pods", pod("orphan"))
    doomed = replica_set(3)
    doomed["metadata"] |= {"finalizers": ["x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    api.add(SETS, doomed)
    await start(running)
    assert names(api.all("pods")) == ["orphan"]
    assert not api.get("pods", "orphan")["metadata"].get("ownerReferences")  # type: ignore[index]


async def test_status_counts_pods_and_is_written_once(api: FakeAPI, running: Running) -> None:
    api.add(SETS, replica_set(2))
    await start(running)
    make_ready(api, names(api.all("pods"))[0])
    await running.settle()
    status = api.get(SETS, "web")["status"]  # type: ignore[index]
    assert status == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "terminatingReplicas": 0,
        "observedGeneration": 1,
    }
    before = len(api.requests)
    await running.clock.advance(600)
    assert len(api.requests) == before


async def test_a_pod_is_available_after_min_ready_seconds(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(SETS, replica_set(1, minReadySeconds=30))
    await start(running)
    make_ready(api, names(api.all("pods"))[0])
    await running.settle()
    assert "availableReplicas" not in api.get(SETS, "web")["status"]  # type: ignore[index]
    await clock.advance(30)
    assert api.get(SETS, "web")["status"]["availableReplicas"] == 1  # type: ignore[index]


async def test_a_refused_pod_is_told_in_a_condition_and_an_event_and_tried_again(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota"), times=3)
    api.add(SETS, replica_set(8))
    await running.context.informers.start()
    await start(running)
    await clock.advance(5)
    assert len(api.all("pods")) == 8
    assert not api.get(SETS, "web")["status"].get("conditions")  # type: ignore[index]
    told = events(api, "FailedCreate")
    assert told and set(told) == {"Error creating: pods is forbidden: exceeded quota"}
    # slow start: a failure of the first keeps the other seven from being tried
    assert len(api.writes("create pods")) == 11


async def test_a_quota_that_stays_used_up_is_logged_once_however_often_it_is_tried(
    api: FakeAPI, running: Running, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota"), times=4)
    api.add(SETS, replica_set(1))
    await running.context.informers.start()
    await start(running)
    await clock.advance(5)
    assert len(api.all("pods")) == 1
    logged = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert logged == ["replicaset-controller default/web: pods is forbidden: exceeded quota"]


async def test_what_changes_in_a_large_set_within_moments_is_looked_at_together(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(SETS, replica_set(500))
    await start(running)
    before = len(api.writes(f"update {SETS}/status"))
    made = names(api.all("pods"))
    for name in made[:20]:
        make_ready(api, name)
        await clock.settle()
    assert len(api.writes(f"update {SETS}/status")) <= before + 1
    await running.settle()
    assert len(api.writes(f"update {SETS}/status")) <= before + 2
    assert api.get(SETS, "web")["status"]["readyReplicas"] == 20  # type: ignore[index]


async def test_a_large_set_that_is_scaled_does_not_wait(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(SETS, replica_set(500))
    await start(running)
    make_ready(api, names(api.all("pods"))[0])
    await clock.settle()
    api.change(SETS, "web", spec={"replicas": 501}, metadata={"generation": 2})
    for _ in range(3):
        await clock.settle()
    assert len(api.all("pods")) == 501


@pytest.mark.parametrize("how", ["failed", "evicted", "deleted by force"])
async def test_a_pod_that_a_large_set_loses_is_replaced_at_once(
    api: FakeAPI, running: Running, clock: VirtualClock, how: str
) -> None:
    api.add(SETS, replica_set(500))
    await start(running)
    first, lost = names(api.all("pods"))[:2]
    api.change("pods", lost, spec={"nodeName": "n1"})
    await running.settle()
    make_ready(api, first)
    for _ in range(3):
        await clock.settle()
    if how == "failed":
        api.change("pods", lost, status={"phase": "Failed"})
    else:
        grace = 0 if how == "deleted by force" else None
        await running.context.client.delete("pods", lost, "default", grace_period_seconds=grace)
    for _ in range(3):
        await clock.settle()
    assert sum(pods.is_active(pod) for pod in api.all("pods")) == 500


async def test_large_sets_are_looked_at_in_turn(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    for name in ("a", "b", "c"):
        made = replica_set(0, selector={"matchLabels": {"app": name}}, template=template(app=name))
        api.add(SETS, {**made, "metadata": {"name": name}})
    await start(running)
    for name in ("a", "b", "c"):
        api.change(SETS, name, spec={"replicas": 300}, metadata={"generation": 2})
    await running.settle()
    await running.settle()
    before = len(api.writes(f"update {SETS}/status"))
    made_pods = names(api.all("pods"))
    for round in range(10):
        for of in range(3):
            make_ready(api, made_pods[of * 300 + round])
        await clock.advance(0.002)
    # 6 ms each: three of them come round in 18 ms
    assert len(api.writes(f"update {SETS}/status")) - before <= 3 * 3
    await running.settle()
    assert [api.get(SETS, name)["status"]["readyReplicas"] for name in ("a", "b", "c")] == [10] * 3  # type: ignore[index]
