"""Volumes whose policy is Recycle, once their claim is gone."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.volumes.binder import VolumeBinder
from kubecore.controllers.volumes.recycler import VolumeRecycler
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, names
from tests.unit.controllers.volumes.objects import CLAIMS, VOLUMES, Folders, claim, phase, pod_with, volume

POD = "recycler-for-v"


async def release(api: FakeAPI, running: Running, **fields: Any) -> None:
    api.add(VOLUMES, volume(policy="Recycle", **fields))
    api.add(CLAIMS, claim())
    await running.start(VolumeBinder(running.context, Folders()), VolumeRecycler(running.context))
    assert phase(api, CLAIMS, "data") == "Bound"
    api.remove(CLAIMS, "data")
    await running.settle()


def recycler(api: FakeAPI) -> Object:
    found = api.get("pods", POD)
    assert found is not None
    return found


async def test_a_pod_empties_its_path_and_it_is_available_again(api: FakeAPI, running: Running) -> None:
    await release(api, running)
    assert phase(api, VOLUMES, "v") == "Released"
    spec = recycler(api)["spec"]
    assert spec["volumes"] == [{"name": "vol", "hostPath": {"path": "/tmp/volumes/v"}}]
    (container,) = spec["containers"]
    assert container["command"] == ["/bin/sh"] and "find /scrub -mindepth 1 -delete" in container["args"][1]
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 60)
    api.change("pods", POD, status={"phase": "Succeeded"})
    await running.settle()
    assert phase(api, VOLUMES, "v") == "Available"
    assert "claimRef" not in api.get(VOLUMES, "v")["spec"]  # type: ignore[index]
    assert api.get("pods", POD) is None
    assert events(api, "VolumeRecycled") == ["Volume recycled"]


async def test_a_large_volume_has_more_time(api: FakeAPI, running: Running) -> None:
    await release(api, running, size="10Gi")
    assert recycler(api)["spec"]["activeDeadlineSeconds"] == 300


async def test_what_is_told_of_the_pod_is_told_of_the_volume(api: FakeAPI, running: Running) -> None:
    await release(api, running)
    told = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": POD, "uid": recycler(api)["metadata"]["uid"]},
        "type": "Warning",
        "reason": "FailedScheduling",
        "message": "no nodes available to schedule pods",
    }
    api.add("events", told)
    await running.settle()
    assert events(api, "RecyclerPod") == ["Recycler pod: no nodes available to schedule pods"]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"phase": "Failed", "message": "too late"}, "too late"),
        ({"phase": "Failed"}, "pod failed, pod.Status.Message unknown"),
    ],
)
async def test_a_pod_that_fails_fails_the_volume_and_another_one_is_tried(
    api: FakeAPI, running: Running, clock: VirtualClock, status: Object, why: str
) -> None:
    await release(api, running)
    api.change("pods", POD, status=status)
    await running.settle()
    message = f"Recycle failed: failed to recycle volume: {why}"
    assert api.get(VOLUMES, "v")["status"] == {"phase": "Failed", "message": message}  # type: ignore[index]
    assert events(api, "VolumeFailedRecycle") == [message]
    await clock.advance(20)
    api.change("pods", POD, status={"phase": "Succeeded"})
    await running.settle()
    assert phase(api, VOLUMES, "v") == "Available"


async def test_a_pod_of_that_name_makes_way_first(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add("pods", {**pod_with(name=POD), "metadata": {"name": POD, "namespace": "default", "labels": {"a": "b"}}})
    await release(api, running)
    assert events(api, "VolumeFailedRecycle") == ["Recycle failed: old recycler pod found, will retry later"]
    await clock.advance(20)
    assert not recycler(api)["metadata"].get("labels")


async def test_a_volume_that_pods_use_is_left_until_they_have_ended(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add("pods", pod_with("data"))
    await release(api, running)
    assert set(events(api, "VolumeFailedRecycle")) == {"Volume is used by pods: default/p"}
    assert phase(api, VOLUMES, "v") == "Released"
    api.remove("pods", "p")
    await clock.advance(20)
    assert names(api.all("pods")) == [POD]


async def test_a_volume_whose_claim_is_there_after_all_keeps_what_it_has(api: FakeAPI, running: Running) -> None:
    held = api.add(CLAIMS, claim())
    reference = {"namespace": "default", "name": "data", "uid": held["metadata"]["uid"]}
    api.add(VOLUMES, volume(policy="Recycle", claimRef=reference, status={"phase": "Released"}))
    await running.start(VolumeRecycler(running.context))
    assert api.all("pods") == []
