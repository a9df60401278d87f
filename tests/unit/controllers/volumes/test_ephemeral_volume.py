from kubecore.api import errors, meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.volumes.ephemeral_volume import EphemeralVolumeController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, names
from tests.unit.controllers.volumes.objects import CLAIMS, claim, pod_with

SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def pod() -> Object:
    made = pod_with()
    template = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": SPEC}
    made["spec"]["volumes"] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "x", "ephemeral": {"volumeClaimTemplate": template}},
    ]
    return made


async def test_a_pod_gets_a_claim_of_its_own_for_each_ephemeral_volume(api: FakeAPI, running: Running) -> None:
    owner = api.add("pods", pod())
    await running.start(EphemeralVolumeController(running.context))
    (made,) = api.all(CLAIMS)
    assert made["metadata"]["name"] == "p-x"
    assert (meta.labels(made), meta.annotations(made)) == ({"a": "b"}, {"c": "d"})
    assert made["metadata"]["ownerReferences"] == [meta.controller_reference(owner, "v1", "Pod")]
    assert made["spec"] == SPEC


async def test_a_claim_that_was_deleted_is_made_again_as_long_as_the_pod_stays(api: FakeAPI, running: Running) -> None:
    api.add("pods", pod())
    await running.start(EphemeralVolumeController(running.context))
    api.remove(CLAIMS, "p-x")
    await running.settle()
    assert names(api.all(CLAIMS)) == ["p-x"]
    api.change("pods", "p", metadata={"finalizers": ["a/b"]})
    await api.client().delete("pods", "p", "default")
    api.remove(CLAIMS, "p-x")
    await running.settle()
    assert api.all(CLAIMS) == []


async def test_a_claim_of_somebody_else_is_left_alone_and_told(api: FakeAPI, running: Running) -> None:
    api.add("pods", pod())
    api.add(CLAIMS, claim("p-x"))
    await running.start(EphemeralVolumeController(running.context))
    assert set(events(api, "FailedBinding")) == {
        "ephemeral volume x: PVC default/p-x was not created for pod default/p (pod is not owner)"
    }


async def test_a_refused_claim_is_told_and_tried_again(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.react(f"create {CLAIMS}", errors.forbidden("", CLAIMS, "p-x", "exceeded quota"), times=8)
    api.add("pods", pod())
    await running.start(EphemeralVolumeController(running.context))
    assert "exceeded quota" in events(api, "FailedBinding")[0]
    await clock.advance(5)
    assert names(api.all(CLAIMS)) == ["p-x"]
