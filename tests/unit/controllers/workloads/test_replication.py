from typing import Any

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.workloads.replicaset import ReplicaSetController
from kubecore.controllers.workloads.replication import ReplicationManager
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names, template

CONTROLLERS = "replicationcontrollers"


def controller(replicas: int, **spec: Any) -> Object:
    spec = {"replicas": replicas, "selector": {"app": "web"}, "template": template(), **spec}
    return {"metadata": {"name": "web"}, "spec": spec}


def current(api: FakeAPI) -> Object:
    found = api.get(CONTROLLERS, "web")
    assert found is not None
    return found


async def start(running: Running) -> None:
    await running.start(ReplicationManager(running.context), ReplicaSetController(running.context))


async def test_missing_pods_are_made_and_name_the_replication_controller(api: FakeAPI, running: Running) -> None:
    owner = api.add(CONTROLLERS, controller(2))
    await start(running)
    made = api.all("pods")
    assert len(made) == 2
    for pod in made:
        (reference,) = pod["metadata"]["ownerReferences"]
        assert (reference["apiVersion"], reference["kind"]) == ("v1", "ReplicationController")
        assert reference["uid"] == owner["metadata"]["uid"]
    assert sorted(events(api, "SuccessfulCreate")) == [f"Created pod: {name}" for name in names(made)]


async def test_an_orphan_with_its_labels_is_adopted_and_another_left_alone(api: FakeAPI, running: Running) -> None:
    for name, app in (("orphan", "web"), ("other", "db")):
        api.add("pods", {"metadata": {"name": name, "labels": {"app": app}}, "spec": template()["spec"]})
    owner = api.add(CONTROLLERS, controller(1))
    await start(running)
    assert names(api.all("pods")) == ["orphan", "other"]
    (reference,) = api.get("pods", "orphan")["metadata"]["ownerReferences"]  # type: ignore[index]
    assert reference["uid"] == owner["metadata"]["uid"]
    assert not api.get("pods", "other")["metadata"].get("ownerReferences")  # type: ignore[index]


async def test_pods_that_are_not_ready_go_first_when_it_shrinks(api: FakeAPI, running: Running) -> None:
    api.add(CONTROLLERS, controller(3))
    await start(running)
    _, keeps, _ = names(api.all("pods"))
    make_ready(api, keeps)
    api.change(CONTROLLERS, "web", spec={"replicas": 1})
    await running.settle()
    assert names(api.all("pods")) == [keeps]
    assert len(events(api, "SuccessfulDelete")) == 2


async def test_its_status_counts_pods_and_does_not_know_terminating_ones(api: FakeAPI, running: Running) -> None:
    api.add(CONTROLLERS, controller(2))
    await start(running)
    make_ready(api, names(api.all("pods"))[0])
    await running.settle()
    assert current(api)["status"] == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 1,
    }


async def test_a_refused_pod_is_told_in_a_condition_until_it_works(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota"), times=8)
    api.add(CONTROLLERS, controller(1))
    await start(running)
    (condition,) = current(api)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
    assert condition["message"] == "pods is forbidden: exceeded quota"
    await clock.advance(5)
    assert len(api.all("pods")) == 1
    assert "conditions" not in current(api)["status"]
