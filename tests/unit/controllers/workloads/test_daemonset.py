import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from kubecore.api import errors
from kubecore.client.client import Client, Object
from kubecore.client.informer import InformerFactory
from kubecore.client.transport import Event
from kubecore.clock import VirtualClock
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.workloads.daemonset import DaemonSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names, template

SETS = "daemonsets.apps"
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
RESERVED = {"key": "reserved", "value": "yes", "effect": "NoSchedule"}


def daemon_set(**spec: Any) -> Object:
    base = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "revisionHistoryLimit": 10,
    }
    return {"metadata": {"name": "agent"}, "spec": {**base, **spec}}


def surging(count: int | str) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": count}}


def add_nodes(api: FakeAPI, *found: str, **labels: str) -> None:
    for name in found:
        api.add("nodes", {"metadata": {"name": name, "labels": labels}, "spec": {}})


async def start(running: Running) -> None:
    await running.start(DaemonSetController(running.context))


def node_of(pod: Object) -> str:
    """The node a pod is meant for, and for no other."""
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    (field,) = term["matchFields"]
    assert (field["key"], field["operator"]) == ("metadata.name", "In")
    (name,) = field["values"]
    return str(name)


def placed(api: FakeAPI, image: str = "") -> list[str]:
    """The nodes of all pods, or of those with an image."""
    found = [pod for pod in api.all("pods") if not image or pod["spec"]["containers"][0]["image"] == image]
    return sorted(node_of(pod) for pod in found)


def pod_on(api: FakeAPI, node: str) -> str:
    (name,) = [pod["metadata"]["name"] for pod in api.all("pods") if node_of(pod) == node]
    return str(name)


async def make_all_ready(api: FakeAPI, running: Running) -> None:
    for pod in api.all("pods"):
        if not (pod.get("status") or {}).get("conditions"):
            make_ready(api, pod["metadata"]["name"])
    await running.settle()


def status(api: FakeAPI) -> Object:
    found: Object = api.get(SETS, "agent")["status"]  # type: ignore[index]
    return found


def change_image(api: FakeAPI, image: str) -> None:
    api.change(SETS, "agent", spec={"template": template(image)})


# ---------------------------------------------------------------------- one pod a node
async def test_each_node_gets_one_pod_that_only_it_can_run(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1", "n2", "n3")
    owner = api.add(SETS, daemon_set())
    await start(running)
    assert placed(api) == ["n1", "n2", "n3"]
    for pod in api.all("pods"):
        (reference,) = pod["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["uid"]) == ("DaemonSet", owner["metadata"]["uid"])
    assert sorted(events(api, "SuccessfulCreate")) == [f"Created pod: {name}" for name in names(api.all("pods"))]


async def test_daemons_tolerate_what_is_wrong_with_a_node(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    one = daemon_set()
    one["spec"]["template"]["spec"]["tolerations"] = [own]
    api.add(SETS, one)
    await start(running)
    (pod,) = api.all("pods")
    tolerated = {(each["key"].partition("/")[2], each["effect"]) for each in pod["spec"]["tolerations"]}
    assert tolerated == {
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    }
    assert not any("tolerationSeconds" in each for each in pod["spec"]["tolerations"])


async def test_a_node_that_comes_gets_a_pod(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    add_nodes(api, "n2")
    await running.settle()
    assert placed(api) == ["n1", "n2"]
    assert status(api)["desiredNumberScheduled"] == 2


async def test_a_node_that_goes_is_counted_no_more_and_its_unbound_pod_is_deleted(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1", "n2")
    api.add(SETS, daemon_set())
    await start(running)
    api.remove("nodes", "n2")
    await running.settle()
    assert placed(api) == ["n1"]
    assert status(api)["desiredNumberScheduled"] == 1


async def test_only_nodes_that_the_template_selects_get_pods(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1", disk="ssd")
    add_nodes(api, "n2", disk="hdd")
    one = daemon_set()
    one["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    api.add(SETS, one)
    await start(running)
    assert placed(api) == ["n1"]
    api.change("nodes", "n2", metadata={"labels": {"disk": "ssd"}})
    api.change("nodes", "n1", metadata={"labels": {"disk": "hdd"}})
    await running.settle()
    assert placed(api) == ["n2"]


async def test_a_cordoned_node_still_gets_its_daemon(api: FakeAPI, running: Running) -> None:
    api.add("nodes", {"metadata": {"name": "n1"}, "spec": {"unschedulable": True, "taints": [CORDONED]}})
    api.add(SETS, daemon_set())
    await start(running)
    assert placed(api) == ["n1"]


async def test_a_taint_keeps_new_pods_off_and_lets_those_that_are_there_stay(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    api.add("nodes", {"metadata": {"name": "n2"}, "spec": {"taints": [RESERVED]}})
    api.add(SETS, daemon_set())
    await start(running)
    assert placed(api) == ["n1"]
    api.change("nodes", "n1", spec={"taints": [RESERVED]})
    await running.settle()
    assert placed(api) == ["n1"]
    assert (status(api)["desiredNumberScheduled"], status(api)["numberMisscheduled"]) == (0, 1)
    api.change("nodes", "n1", spec={"taints": [{**RESERVED, "effect": "NoExecute"}]})
    await running.settle()
    assert placed(api) == []


async def test_of_two_pods_on_a_node_the_younger_goes(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    (first,) = api.all("pods")
    await clock.advance(10)
    twin = {"metadata": {**first["metadata"], "name": "twin", "uid": "twin"}, "spec": first["spec"]}
    del twin["metadata"]["creationTimestamp"]
    api.add("pods", twin)
    await running.settle()
    assert names(api.all("pods")) == [first["metadata"]["name"]]


async def test_an_orphan_on_its_node_is_adopted(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    spec = {**template()["spec"], "nodeName": "n1"}
    api.add("pods", {"metadata": {"name": "orphan", "labels": {"app": "web"}}, "spec": spec})
    owner = api.add(SETS, daemon_set(updateStrategy={"type": "OnDelete"}))
    await start(running)
    (pod,) = api.all("pods")
    assert pod["metadata"]["name"] == "orphan"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]


async def test_a_failed_pod_is_replaced_at_once_and_then_ever_later(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)

    def fail() -> str:
        (name,) = names(api.all("pods"))
        api.change("pods", name, status={"phase": "Failed"})
        return name

    first = fail()
    await running.settle()
    assert names(api.all("pods")) != [first]
    told = events(api, "FailedDaemonPod")
    assert told == [f"Found failed daemon pod default/{first} on node n1, will try to kill it"]
    second = fail()
    await clock.advance(0.3)
    assert names(api.all("pods")) == [second]
    await clock.advance(1)
    assert names(api.all("pods")) != [second]
    third = fail()
    await clock.advance(1)
    assert names(api.all("pods")) == [third]
    await clock.advance(2)
    assert names(api.all("pods")) != [third]


async def test_a_succeeded_pod_is_replaced(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    (done,) = names(api.all("pods"))
    api.change("pods", done, status={"phase": "Succeeded"})
    await running.settle()
    assert names(api.all("pods")) != [done]
    told = events(api, "SucceededDaemonPod")
    assert told == [f"Found succeeded daemon pod default/{done} on node n1, will try to delete it"]


class LatePods:
    """The API as one sees it whose watches of pods stand still while `gate` is closed."""

    def __init__(self, api: FakeAPI) -> None:
        self._api = api
        self.gate = asyncio.Event()
        self.request = api.request
        self.close = api.close

    async def watch(self, path: str, *, query: Mapping[str, str] | None = None) -> AsyncGenerator[list[Event], None]:
        async for batch in self._api.watch(path, query=query):
            if path.endswith("/pods"):
                await self.gate.wait()
            yield batch


async def test_a_stale_cache_does_not_make_pods_twice(api: FakeAPI, clock: VirtualClock) -> None:
    add_nodes(api, "n1", "n2")
    api.add(SETS, daemon_set())
    late = LatePods(api)
    client = Client(late, field_manager="kube-controller-manager")
    context = ControllerContext(client, clock, InformerFactory(client, clock))
    controller = DaemonSetController(context)
    await context.informers.start()
    task = asyncio.create_task(controller.run())
    await clock.advance(1)
    add_nodes(api, "n3")
    await clock.advance(1)
    assert placed(api) == ["n1", "n2"]
    late.gate.set()
    await clock.advance(1)
    assert placed(api) == ["n1", "n2", "n3"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await context.informers.stop()


async def test_a_refused_pod_is_tried_again(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_nodes(api, "n1", "n2", "n3")
    api.react("create pods", errors.forbidden("", "pods", "", "exceeded quota"), times=2)
    api.add(SETS, daemon_set())
    await start(running)
    await clock.advance(5)
    assert placed(api) == ["n1", "n2", "n3"]
    assert set(events(api, "FailedCreate")) == {"Error creating: pods is forbidden: exceeded quota"}


async def test_a_set_that_is_being_deleted_is_left_alone(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    doomed = daemon_set()
    doomed["metadata"] |= {"finalizers": ["x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    api.add(SETS, doomed)
    await start(running)
    assert not api.requests


# ---------------------------------------------------------------------- status
async def test_its_status_counts_nodes(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_nodes(api, "n1", "n2", "n3")
    api.add(SETS, daemon_set())
    await start(running)
    for name in names(api.all("pods"))[:2]:
        make_ready(api, name)
    await running.settle()
    assert status(api) == {
        "currentNumberScheduled": 3,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 3,
        "numberReady": 2,
        "observedGeneration": 1,
        "updatedNumberScheduled": 3,
        "numberAvailable": 2,
        "numberUnavailable": 1,
    }
    before = len(api.requests)
    await clock.advance(3600)
    assert len(api.requests) == before


async def test_a_pod_is_available_after_min_ready_seconds(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set(minReadySeconds=30))
    await start(running)
    await make_all_ready(api, running)
    assert (status(api)["numberReady"], status(api).get("numberAvailable", 0)) == (1, 0)
    await clock.advance(30)
    assert status(api)["numberAvailable"] == 1


async def test_a_pod_that_becomes_available_while_it_is_looked_at_counts(
    api: FakeAPI, running: Running, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer may be a millisecond early, and what follows takes its time."""
    call_later, report = clock.call_later, DaemonSetController._report

    async def taking_its_time(*args: Any, **options: Any) -> None:
        await report(*args, **options)
        await clock.sleep(0.01)

    monkeypatch.setattr(DaemonSetController, "_report", taking_its_time)
    monkeypatch.setattr(clock, "call_later", lambda wait, do: call_later(wait - 0.001 if wait > 1 else wait, do))
    add_nodes(api, "n1")
    api.add(SETS, daemon_set(minReadySeconds=30))
    await start(running)
    await make_all_ready(api, running)
    await clock.advance(35)
    assert status(api)["numberAvailable"] == 1


# ---------------------------------------------------------------------- updates
async def test_a_rolling_update_never_has_too_many_nodes_without_an_available_pod(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1", "n2", "n3", "n4")
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%", "maxSurge": 0}}
    api.add(SETS, daemon_set(updateStrategy=rolling))
    await start(running)
    await make_all_ready(api, running)
    change_image(api, "app:2")
    await running.settle()
    assert len(placed(api, "app:1")) == 2
    assert placed(api) == ["n1", "n2", "n3", "n4"]
    await running.settle()
    assert len(placed(api, "app:1")) == 2
    await make_all_ready(api, running)
    assert placed(api, "app:2") == ["n1", "n2", "n3", "n4"]
    assert status(api)["updatedNumberScheduled"] == 4


async def test_old_pods_that_are_not_available_are_replaced_at_once(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1", "n2", "n3")
    api.add(SETS, daemon_set())
    await start(running)
    make_ready(api, pod_on(api, "n3"))
    await running.settle()
    change_image(api, "app:2")
    await running.settle()
    assert placed(api, "app:2") == ["n1", "n2"]
    assert placed(api, "app:1") == ["n3"]


async def test_with_surge_an_old_pod_stays_until_the_new_one_on_its_node_is_available(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1", "n2", "n3")
    api.add(SETS, daemon_set(updateStrategy=surging(1)))
    await start(running)
    await make_all_ready(api, running)
    change_image(api, "app:2")
    await running.settle()
    for updated in range(1, 4):
        assert len(placed(api, "app:2")) == updated
        assert len(placed(api, "app:1")) == 4 - updated
        await make_all_ready(api, running)
    assert placed(api, "app:2") == ["n1", "n2", "n3"]
    assert placed(api, "app:1") == []


async def test_with_surge_a_node_whose_old_pod_is_not_available_gets_a_new_one_whatever_the_limit(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1", "n2", "n3")
    api.add(SETS, daemon_set(updateStrategy=surging(1)))
    await start(running)
    make_ready(api, pod_on(api, "n3"))
    await running.settle()
    change_image(api, "app:2")
    await running.settle()
    assert {"n1", "n2"} <= set(placed(api, "app:2"))
    assert "n3" in placed(api, "app:1")


async def test_with_surge_an_old_pod_that_stops_being_ready_goes_before_the_new_one_is(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set(updateStrategy=surging(1)))
    await start(running)
    await make_all_ready(api, running)
    (old,) = names(api.all("pods"))
    change_image(api, "app:2")
    await running.settle()
    assert placed(api, "app:1") == placed(api, "app:2") == ["n1"]
    api.change("pods", old, status={"conditions": [{"type": "Ready", "status": "False"}]})
    await running.settle()
    assert placed(api, "app:1") == []


async def test_on_delete_a_new_pod_has_the_new_template_when_the_old_one_was_deleted(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1", "n2")
    api.add(SETS, daemon_set(updateStrategy={"type": "OnDelete"}))
    await start(running)
    await make_all_ready(api, running)
    change_image(api, "app:2")
    await running.settle()
    assert placed(api, "app:1") == ["n1", "n2"]
    api.remove("pods", pod_on(api, "n1"))
    await running.settle()
    assert placed(api, "app:2") == ["n1"]
    assert status(api)["updatedNumberScheduled"] == 1
