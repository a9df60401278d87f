import hashlib
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.volumes.attach_detach import ATTACHMENTS, AttachDetachController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events
from tests.unit.controllers.volumes.objects import CLAIMS, VOLUMES, claim, pod_with, reference, volume

DRIVERS = "csidrivers.storage.k8s.io"
UNIQUE = "kubernetes.io/csi/d^h"


MANAGED = {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}


def add_node(api: FakeAPI, name: str = "n", *, ready: bool = True, **status: Any) -> None:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    api.add(
        "nodes", {"metadata": {"name": name, **MANAGED}, "spec": {}, "status": {"conditions": conditions, **status}}
    )


def add_volume(api: FakeAPI, **fields: Any) -> None:
    """A CSI volume that is bound to the claim `data`."""
    one = api.add(CLAIMS, claim(volumeName="v", status={"phase": "Bound"}))
    source = {"csi": {"driver": "d", "volumeHandle": "h"}}
    api.add(VOLUMES, volume(claimRef=reference(one), **{**source, **fields}))


def attachments(api: FakeAPI) -> list[Object]:
    return api.all(ATTACHMENTS)


async def attach(api: FakeAPI, running: Running, **fields: Any) -> Object:
    """The attachment for a pod on `n`."""
    add_node(api)
    add_volume(api, **fields)
    api.add("pods", pod_with("data", nodeName="n"))
    await running.start(AttachDetachController(running.context))
    (one,) = attachments(api)
    return one


async def attached(api: FakeAPI, running: Running, one: Object) -> None:
    """What the driver's attacher does."""
    api.change(ATTACHMENTS, meta.name(one), status={"attached": True})
    await running.settle()


def told(api: FakeAPI, node: str = "n") -> list[Object]:
    """What the node is told is attached."""
    found = api.get("nodes", node)
    assert found is not None
    return found["status"].get("volumesAttached") or []


async def test_a_node_whose_kubelet_attaches_itself_is_left_alone(api: FakeAPI, running: Running) -> None:
    api.add("nodes", {"metadata": {"name": "n"}, "spec": {}, "status": {}})
    add_volume(api)
    api.add("pods", pod_with("data", nodeName="n"))
    await running.start(AttachDetachController(running.context))
    assert attachments(api) == []
    api.change("nodes", "n", metadata=MANAGED)
    await running.settle()
    assert len(attachments(api)) == 1


async def test_a_volume_is_attached_to_the_node_of_the_pod_that_uses_it(api: FakeAPI, running: Running) -> None:
    one = await attach(api, running)
    assert meta.name(one) == f"csi-{hashlib.sha256(b'hdn').hexdigest()}"
    assert one["spec"] == {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    assert told(api) == []
    await attached(api, running, one)
    assert told(api) == [{"name": UNIQUE, "devicePath": ""}]
    assert events(api, "SuccessfulAttachVolume") == ['AttachVolume.Attach succeeded for volume "v" ']


async def test_that_it_is_attached_is_told_once_to_all_pods_that_wait(api: FakeAPI, running: Running) -> None:
    one = await attach(api, running)
    api.add("pods", pod_with("data", name="second", nodeName="n"))
    await attached(api, running, one)
    api.change("pods", "p", metadata={"labels": {"a": "b"}})
    api.add("pods", pod_with("data", name="late", nodeName="n"))
    await running.settle()
    told = [event for event in api.all("events") if event["reason"] == "SuccessfulAttachVolume"]
    assert sorted((event["involvedObject"]["name"], event["count"]) for event in told) == [("p", 1), ("second", 1)]


async def test_each_try_of_the_attacher_that_fails_is_told_once(api: FakeAPI, running: Running) -> None:
    one = await attach(api, running)
    for minute in (1, 2):
        failed = {"message": "no luck", "time": f"2026-01-01T00:0{minute}:00Z"}
        api.change(ATTACHMENTS, meta.name(one), status={"attached": False, "attachError": failed})
        await running.settle()
        api.change("pods", "p", metadata={"labels": {"a": str(minute)}})
        await running.settle()
    [event] = [event for event in api.all("events") if event["reason"] == "FailedAttachVolume"]
    assert event["count"] == 2


async def test_volumes_of_other_kinds_are_not_attached(api: FakeAPI, running: Running) -> None:
    add_node(api)
    one = api.add(CLAIMS, claim(volumeName="v", status={"phase": "Bound"}))
    api.add(VOLUMES, volume(claimRef=reference(one)))
    api.add("pods", pod_with("data", nodeName="n"))
    await running.start(AttachDetachController(running.context))
    assert attachments(api) == []


async def test_a_driver_that_attaches_nothing_is_not_told(api: FakeAPI, running: Running) -> None:
    api.add(DRIVERS, {"metadata": {"name": "d"}, "spec": {"attachRequired": False}})
    add_node(api)
    add_volume(api)
    api.add("pods", pod_with("data", nodeName="n"))
    await running.start(AttachDetachController(running.context))
    assert attachments(api) == []


@pytest.mark.parametrize("phase", ["", "Succeeded"])
async def test_it_is_detached_when_no_pod_uses_it_any_more(api: FakeAPI, running: Running, phase: str) -> None:
    await attached(api, running, await attach(api, running))
    if phase:
        api.change("pods", "p", status={"phase": phase})
    else:
        api.remove("pods", "p")
    await running.settle()
    assert attachments(api) == []
    assert told(api) == []


async def test_a_node_that_still_uses_it_is_waited_for(api: FakeAPI, running: Running) -> None:
    await attached(api, running, await attach(api, running))
    api.change("nodes", "n", status={"volumesInUse": [UNIQUE]})
    api.remove("pods", "p")
    await running.settle()
    assert len(attachments(api)) == 1
    api.change("nodes", "n", status={"volumesInUse": []})
    await running.settle()
    assert attachments(api) == []


async def test_a_lost_node_is_waited_for_six_minutes(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    await attached(api, running, await attach(api, running))
    lost = [{"type": "Ready", "status": "Unknown"}]
    api.change("nodes", "n", status={"volumesInUse": [UNIQUE], "conditions": lost})
    api.remove("pods", "p")
    await clock.advance(350)
    assert len(attachments(api)) == 1
    await clock.advance(15)
    assert attachments(api) == []


async def test_a_node_out_of_service_is_not_waited_for(api: FakeAPI, running: Running) -> None:
    await attached(api, running, await attach(api, running))
    taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
    api.change("nodes", "n", spec={"taints": [taint]}, status={"volumesInUse": [UNIQUE]})
    api.remove("pods", "p")
    await running.settle()
    assert attachments(api) == []


async def test_a_volume_for_one_node_waits_until_it_has_left_the_other(api: FakeAPI, running: Running) -> None:
    await attached(api, running, await attach(api, running))
    add_node(api, "m")
    api.add("pods", pod_with("data", name="second", nodeName="m"))
    await running.settle()
    assert [one["spec"]["nodeName"] for one in attachments(api)] == ["n"]
    assert set(events(api, "FailedAttachVolume")) == {
        'Multi-Attach error for volume "v" Volume is already used by pod(s) p'
    }
    api.remove("pods", "p")
    await running.settle()
    assert [one["spec"]["nodeName"] for one in attachments(api)] == ["m"]


async def test_a_volume_for_many_nodes_is_attached_to_all(api: FakeAPI, running: Running) -> None:
    await attach(api, running, modes=("ReadWriteMany",))
    add_node(api, "m")
    api.add("pods", pod_with("data", name="second", nodeName="m"))
    await running.settle()
    assert sorted(one["spec"]["nodeName"] for one in attachments(api)) == ["m", "n"]


async def test_what_the_attacher_could_not_do_is_told_to_the_pod(api: FakeAPI, running: Running) -> None:
    one = await attach(api, running)
    api.change(ATTACHMENTS, meta.name(one), status={"attached": False, "attachError": {"message": "no luck"}})
    await running.settle()
    assert events(api, "FailedAttachVolume") == ['AttachVolume.Attach failed for volume "v" : no luck']


async def test_attachments_that_others_made_are_left_alone(api: FakeAPI, running: Running) -> None:
    add_node(api)
    spec = {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    api.add(ATTACHMENTS, {"metadata": {"name": "by-hand"}, "spec": spec})
    await running.start(AttachDetachController(running.context))
    assert len(attachments(api)) == 1
