from typing import Any

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.workloads.statefulset import StatefulSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names, template

SETS, REVISIONS = "statefulsets.apps", "controllerrevisions.apps"
HASH = "controller-revision-hash"


def stateful_set(replicas: int, **spec: Any) -> Object:
    base = {
        "replicas": replicas,
        "serviceName": "peers",
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(),
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "revisionHistoryLimit": 10,
    }
    return {"metadata": {"name": "db"}, "spec": {**base, **spec}}


def rolling(**fields: Any) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, **fields}}


async def start(running: Running) -> None:
    await running.start(StatefulSetController(running.context))


async def make_all_ready(api: FakeAPI, running: Running) -> None:
    for pod in api.all("pods"):
        if not pod["status"].get("conditions"):
            make_ready(api, pod["metadata"]["name"])
    await running.settle()


async def complete(api: FakeAPI, running: Running) -> None:
    """Make pods ready until no more of them come or go."""
    before: list[str] = []
    while before != (now := [pod["metadata"]["uid"] for pod in api.all("pods")]):
        before = now
        await make_all_ready(api, running)


def images(api: FakeAPI) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in api.all("pods")}


def change_image(api: FakeAPI, image: str) -> None:
    api.change(SETS, "db", spec={"template": template(image)})


def status(api: FakeAPI) -> Object:
    found: Object = api.get(SETS, "db")["status"]  # type: ignore[index]
    return found


def revisions(api: FakeAPI) -> dict[int, str]:
    """Images of the kept templates by revision number."""
    return {
        one["revision"]: one["data"]["spec"]["template"]["spec"]["containers"][0]["image"] for one in api.all(REVISIONS)
    }


# ---------------------------------------------------------------------- identity
async def test_a_pod_has_a_name_labels_and_a_host_name_of_its_own(api: FakeAPI, running: Running) -> None:
    owner = api.add(SETS, stateful_set(1))
    await start(running)
    (pod,) = api.all("pods")
    (revision,) = api.all(REVISIONS)
    assert pod["metadata"]["name"] == "db-0"
    assert pod["metadata"]["labels"] == {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": "db-0",
        "apps.kubernetes.io/pod-index": "0",
        HASH: revision["metadata"]["name"],
    }
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-0", "peers")
    (reference,) = pod["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"]) == ("StatefulSet", owner["metadata"]["uid"])
    assert events(api, "SuccessfulCreate") == ["Create Pod db-0 in StatefulSet db successful"]


async def test_ordinals_begin_where_the_spec_says(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(2, ordinals={"start": 5}, podManagementPolicy="Parallel"))
    await start(running)
    assert names(api.all("pods")) == ["db-5", "db-6"]
    await make_all_ready(api, running)
    api.change(SETS, "db", spec={"ordinals": {"start": 6}})
    await running.settle()
    assert names(api.all("pods")) == ["db-6", "db-7"]


async def test_a_pod_that_lost_its_name_label_gets_it_back(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(1))
    await start(running)
    await make_all_ready(api, running)
    api.change("pods", "db-0", metadata={"labels": {"statefulset.kubernetes.io/pod-name": "other"}})
    await running.settle()
    assert api.get("pods", "db-0")["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-0"  # type: ignore[index]
    assert events(api, "SuccessfulUpdate") == ["Update Pod db-0 in StatefulSet db successful"]


async def test_an_orphan_is_adopted_if_it_has_a_name_of_the_set(api: FakeAPI, running: Running) -> None:
    for name in ("db-0", "web-0", "db-x"):
        api.add("pods", {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": template()["spec"]})
    api.add(SETS, stateful_set(1, updateStrategy={"type": "OnDelete"}))
    await start(running)
    owned = [pod for pod in api.all("pods") if pod["metadata"].get("ownerReferences")]
    assert names(owned) == ["db-0"]


# ---------------------------------------------------------------------- order
async def test_in_order_each_pod_waits_for_the_one_before_it(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(3))
    await start(running)
    for count in (1, 2, 3):
        assert names(api.all("pods")) == [f"db-{number}" for number in range(count)]
        await make_all_ready(api, running)


async def test_in_parallel_all_pods_are_made_at_once(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(4, podManagementPolicy="Parallel"))
    await start(running)
    assert names(api.all("pods")) == ["db-0", "db-1", "db-2", "db-3"]
    assert len(api.writes("create pods")) == 4


async def test_scaling_down_takes_the_highest_ordinal_and_waits_until_it_is_gone(
    api: FakeAPI, running: Running
) -> None:
    api.add(SETS, stateful_set(3))
    await start(running)
    await complete(api, running)
    for name in names(api.all("pods")):
        api.change("pods", name, spec={"nodeName": "n1"})
    api.change(SETS, "db", spec={"replicas": 1})
    await running.settle()
    leaving = [pod for pod in api.all("pods") if pod["metadata"].get("deletionTimestamp")]
    assert names(leaving) == ["db-2"]
    api.remove("pods", "db-2")
    await running.settle()
    leaving = [pod for pod in api.all("pods") if pod["metadata"].get("deletionTimestamp")]
    assert names(leaving) == ["db-1"]
    api.remove("pods", "db-1")
    await running.settle()
    assert names(api.all("pods")) == ["db-0"]
    assert events(api, "SuccessfulDelete") == [
        "Delete Pod db-2 in StatefulSet db successful",
        "Delete Pod db-1 in StatefulSet db successful",
    ]


async def test_scaling_down_waits_for_a_pod_below_that_is_not_well(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(3))
    await start(running)
    await complete(api, running)
    api.change("pods", "db-0", status={"conditions": [{"type": "Ready", "status": "False"}]})
    api.change(SETS, "db", spec={"replicas": 1})
    await running.settle()
    assert names(api.all("pods")) == ["db-0", "db-1", "db-2"]
    make_ready(api, "db-0")
    await running.settle()
    assert names(api.all("pods")) == ["db-0"]


async def test_of_two_pods_too_many_that_are_not_well_the_lower_must_come_up_first(
    api: FakeAPI, running: Running
) -> None:
    api.add(SETS, stateful_set(3))
    await start(running)
    await complete(api, running)
    for name in ("db-1", "db-2"):
        api.change("pods", name, status={"conditions": [{"type": "Ready", "status": "False"}]})
    api.change(SETS, "db", spec={"replicas": 1})
    await running.settle()
    assert names(api.all("pods")) == ["db-0", "db-1", "db-2"]
    make_ready(api, "db-1")
    await running.settle()
    assert names(api.all("pods")) == ["db-0"]


async def test_in_parallel_scaling_down_deletes_all_that_are_too_many(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(4, podManagementPolicy="Parallel"))
    await start(running)
    api.change(SETS, "db", spec={"replicas": 1})
    await running.settle()
    assert names(api.all("pods")) == ["db-0"]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_ended_is_made_anew_under_its_name(api: FakeAPI, running: Running, phase: str) -> None:
    api.add(SETS, stateful_set(2))
    await start(running)
    await complete(api, running)
    before = api.get("pods", "db-0")
    api.change("pods", "db-0", status={"phase": phase})
    await running.settle()
    after = api.get("pods", "db-0")
    assert before is not None and after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert names(api.all("pods")) == ["db-0", "db-1"]


async def test_a_pod_counts_after_min_ready_seconds(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(SETS, stateful_set(2, minReadySeconds=30))
    await start(running)
    await make_all_ready(api, running)
    assert names(api.all("pods")) == ["db-0"]
    assert (status(api)["readyReplicas"], status(api)["availableReplicas"]) == (1, 0)
    await clock.advance(30)
    assert names(api.all("pods")) == ["db-0", "db-1"]


async def test_a_pod_that_becomes_available_while_it_is_looked_at_counts(
    api: FakeAPI, running: Running, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer may be a millisecond early, and what follows takes its time."""
    call_later, report = clock.call_later, StatefulSetController._report

    async def taking_its_time(*args: Any, **options: Any) -> None:
        await report(*args, **options)
        await clock.sleep(0.01)

    monkeypatch.setattr(StatefulSetController, "_report", taking_its_time)
    monkeypatch.setattr(clock, "call_later", lambda wait, do: call_later(wait - 0.001 if wait > 1 else wait, do))
    api.add(SETS, stateful_set(1, minReadySeconds=30))
    await start(running)
    await make_all_ready(api, running)
    await clock.advance(35)
    assert status(api)["availableReplicas"] == 1


async def test_a_refused_pod_is_told_and_tried_again(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota"), times=2)
    api.add(SETS, stateful_set(1))
    await start(running)
    await clock.advance(5)
    assert names(api.all("pods")) == ["db-0"]
    told = "Create Pod db-0 in StatefulSet db failed error: pods is forbidden: exceeded quota"
    assert set(events(api, "FailedCreate")) == {told}


async def test_a_set_that_is_being_deleted_makes_nothing(api: FakeAPI, running: Running) -> None:
    doomed = stateful_set(2)
    doomed["metadata"] |= {"finalizers": ["x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    api.add(SETS, doomed)
    await start(running)
    assert not api.all("pods") and not api.all(REVISIONS)


# ---------------------------------------------------------------------- updates
async def test_an_update_goes_from_the_highest_ordinal_down_one_by_one(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(3))
    await start(running)
    await complete(api, running)
    before = status(api)["currentRevision"]
    change_image(api, "app:2")
    await running.settle()
    for updated in ("db-2", "db-1", "db-0"):
        assert images(api)[updated] == "app:2"
        assert sorted(images(api).values()).count("app:1") == int(updated[-1])
        assert status(api)["currentRevision"] == before != status(api)["updateRevision"]
        await make_all_ready(api, running)
    assert status(api)["currentRevision"] == status(api)["updateRevision"] != before
    assert (status(api)["currentReplicas"], status(api)["updatedReplicas"]) == (3, 3)


async def test_pods_below_the_partition_keep_their_revision_also_when_made_anew(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(3, updateStrategy=rolling(partition=2)))
    await start(running)
    await complete(api, running)
    change_image(api, "app:2")
    await running.settle()
    await complete(api, running)
    assert images(api) == {"db-0": "app:1", "db-1": "app:1", "db-2": "app:2"}
    assert (status(api)["currentReplicas"], status(api)["updatedReplicas"]) == (2, 1)
    api.remove("pods", "db-0")
    await running.settle()
    assert images(api)["db-0"] == "app:1"
    await complete(api, running)
    api.change(SETS, "db", spec={"updateStrategy": rolling(partition=0)})
    await running.settle()
    await complete(api, running)
    assert set(images(api).values()) == {"app:2"}


async def test_as_many_pods_as_max_unavailable_are_updated_at_once(api: FakeAPI, running: Running) -> None:
    strategy = rolling(maxUnavailable="50%")
    api.add(SETS, stateful_set(5, podManagementPolicy="Parallel", updateStrategy=strategy))
    await start(running)
    await complete(api, running)
    change_image(api, "app:2")
    await running.settle()
    assert [name for name, image in images(api).items() if image == "app:2"] == ["db-3", "db-4"]
    make_ready(api, "db-4")
    await running.settle()
    assert [name for name, image in images(api).items() if image == "app:2"] == ["db-2", "db-3", "db-4"]
    await complete(api, running)
    assert set(images(api).values()) == {"app:2"}


async def test_what_does_not_work_in_a_parallel_set_does_not_keep_its_update_from_coming(
    api: FakeAPI, running: Running
) -> None:
    api.add(SETS, stateful_set(3, podManagementPolicy="Parallel", updateStrategy=rolling()))
    await start(running)
    make_ready(api, "db-2")
    await running.settle()
    change_image(api, "app:2")
    await running.settle()
    assert images(api) == {"db-0": "app:2", "db-1": "app:2", "db-2": "app:1"}
    await complete(api, running)
    assert set(images(api).values()) == {"app:2"}


async def test_on_delete_a_pod_is_updated_when_somebody_deletes_it(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(2, updateStrategy={"type": "OnDelete"}))
    await start(running)
    await complete(api, running)
    change_image(api, "app:2")
    await running.settle()
    assert set(images(api).values()) == {"app:1"}
    api.remove("pods", "db-0")
    await running.settle()
    assert images(api) == {"db-0": "app:2", "db-1": "app:1"}


# ---------------------------------------------------------------------- status and history
async def test_its_status_counts_pods_and_names_revisions(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(SETS, stateful_set(2))
    await start(running)
    await complete(api, running)
    (revision,) = names(api.all(REVISIONS))
    assert status(api) == {
        "replicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "currentReplicas": 2,
        "updatedReplicas": 2,
        "observedGeneration": 1,
        "currentRevision": revision,
        "updateRevision": revision,
        "collisionCount": 0,
    }
    before = len(api.requests)
    await clock.advance(3600)
    assert len(api.requests) == before


async def test_a_revision_keeps_the_template(api: FakeAPI, running: Running) -> None:
    one = stateful_set(1)
    one["metadata"]["annotations"] = {"kubernetes.io/change-cause": "because"}
    owner = api.add(SETS, one)
    await start(running)
    (revision,) = api.all(REVISIONS)
    suffix = revision["metadata"]["labels"]["controller.kubernetes.io/hash"]
    assert revision["metadata"]["name"] == f"db-{suffix}"
    assert revision["metadata"]["labels"]["app"] == "web"
    assert revision["metadata"]["annotations"] == {"kubernetes.io/change-cause": "because"}
    assert revision["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert revision["data"] == {"spec": {"template": {**template(), "$patch": "replace"}}}


async def test_going_back_makes_the_old_revision_the_newest(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(1))
    await start(running)
    await complete(api, running)
    for image in ("app:2", "app:1"):
        change_image(api, image)
        await running.settle()
        await complete(api, running)
    assert revisions(api) == {2: "app:2", 3: "app:1"}
    assert images(api) == {"db-0": "app:1"}


async def test_revisions_beyond_the_limit_go_but_none_in_use(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(1, revisionHistoryLimit=1, updateStrategy={"type": "OnDelete"}))
    await start(running)
    await complete(api, running)
    for number in range(2, 6):
        change_image(api, f"app:{number}")
        await running.settle()
    assert revisions(api) == {1: "app:1", 4: "app:4", 5: "app:5"}


async def test_a_revision_whose_name_is_taken_gets_another(api: FakeAPI, running: Running) -> None:
    api.add(SETS, stateful_set(1))
    await start(running)
    (revision,) = api.all(REVISIONS)
    api.remove(SETS, "db")
    api.remove("pods", "db-0")
    other = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": "x", "controller": True}
    data = {"spec": {"template": {"other": True}}}
    api.change(REVISIONS, revision["metadata"]["name"], metadata={"ownerReferences": [other]}, data=data)
    api.add(SETS, stateful_set(1))
    await running.settle()
    assert status(api)["collisionCount"] == 1
    assert len(api.all(REVISIONS)) == 2
