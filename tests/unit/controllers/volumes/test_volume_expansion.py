from typing import Any

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.volumes.expansion import ExpandController
from kubecore.controllers.volumes.local_provisioner import PROVISIONER
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events
from tests.unit.controllers.volumes.objects import CLAIMS, VOLUMES, claim, reference, volume

OURS = {"annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}}


def add_bound(api: FakeAPI, **fields: Any) -> None:
    """A claim with 1Gi and its volume."""
    status = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    one = api.add(CLAIMS, claim(volumeName="v", status=status))
    api.add(VOLUMES, volume(claimRef=reference(one), status={"phase": "Bound"}, **fields))


def ask_for(api: FakeAPI, size: str) -> None:
    api.change(CLAIMS, "data", spec={"resources": {"requests": {"storage": size}}})


def found(api: FakeAPI, resource: str, name: str) -> Object:
    one = api.get(resource, name)
    assert one is not None
    return one


async def test_a_local_volume_grows_in_the_books(api: FakeAPI, running: Running) -> None:
    add_bound(api, metadata=OURS)
    await running.start(ExpandController(running.context))
    assert api.writes() == []
    ask_for(api, "5Gi")
    await running.settle()
    assert found(api, VOLUMES, "v")["spec"]["capacity"] == {"storage": "5Gi"}
    assert found(api, CLAIMS, "data")["status"] == {
        "phase": "Bound",
        "capacity": {"storage": "5Gi"},
        "allocatedResources": {"storage": "5Gi"},
        "conditions": [],
    }
    assert events(api) == ["External resizer is resizing volume v", "Resize volume succeeded"]


async def test_while_it_grows_the_claim_says_so(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_bound(api, metadata=OURS)
    await running.start(ExpandController(running.context))
    api.react(f"update {VOLUMES}", errors.StatusError.from_body(500, b"{}"), times=8)
    ask_for(api, "5Gi")
    await running.settle()
    status = found(api, CLAIMS, "data")["status"]
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"]) == ("Resizing", "True")
    assert status["allocatedResourceStatuses"] == {"storage": "ControllerResizeInProgress"}
    assert status["capacity"] == {"storage": "1Gi"}
    await clock.advance(10)
    assert found(api, CLAIMS, "data")["status"]["capacity"] == {"storage": "5Gi"}


@pytest.mark.parametrize("source", [{"csi": {"driver": "d"}}, {}])
async def test_other_volumes_wait_for_their_own_resizer(api: FakeAPI, running: Running, source: dict[str, Any]) -> None:
    add_bound(api, **source)
    await running.start(ExpandController(running.context))
    ask_for(api, "5Gi")
    await running.settle()
    (event,) = api.all("events")
    assert (event["type"], event["reason"]) == ("Normal", "ExternalExpanding")
    assert event["message"] == "waiting for an external controller to expand this PVC"
    assert found(api, CLAIMS, "data")["status"]["capacity"] == {"storage": "1Gi"}
