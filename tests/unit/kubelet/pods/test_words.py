"""What is wrong with a pod's volumes, and in which order its containers are told of: as kubelet has it."""

from __future__ import annotations

import pytest

from tests.unit.kubelet.conftest import Node, container


async def test_every_volume_that_is_missing_something_is_told(node: Node) -> None:
    await node.run(
        volumes=[
            {"name": "settings", "configMap": {"name": "none"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "keys", "secret": {"secretName": "none"}},
        ]
    )
    assert sorted(node.events("FailedMount")) == [
        'MountVolume.SetUp failed for volume "keys" : secret "none" not found',
        'MountVolume.SetUp failed for volume "settings" : configmap "none" not found',
    ]


async def test_every_source_of_a_projected_volume_that_is_missing_is_told(node: Node) -> None:
    sources = [{"secret": {"name": "none"}}, {"configMap": {"name": "none"}}, {"secret": {"name": "none"}}]
    await node.run(volumes=[{"name": "all", "projected": {"sources": sources}}])
    (told,) = node.events("FailedMount")
    missing = '[secret "none" not found, configmap "none" not found]'
    assert told == f'MountVolume.SetUp failed for volume "all" : {missing}'


async def test_a_driver_that_the_node_has_not_is_told_in_upstreams_words(node: Node) -> None:
    await node.run(volumes=[{"name": "data", "csi": {"driver": "csi.example.com"}}])
    known = "driver name csi.example.com not found in the list of registered CSI drivers"
    (told,) = node.events("FailedMount")
    failed = f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {known}"
    assert told == f'MountVolume.SetUp failed for volume "data" : {failed}'


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../out", "unable to provision SubPath `../out`: must not contain '..'"),
        ("/out", "error SubPath `/out` must not be an absolute path"),
        ("link/file", 'failed to prepare subPath for volumeMount "data" of container "main"'),
    ],
)
async def test_a_path_that_leads_out_of_its_volume_is_refused(node: Node, path: str, told: str) -> None:
    """What is found on the host is not told whoever made the pod."""
    outside, inside = node.root / "outside", node.root / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    mount = {"name": "data", "mountPath": "/data", "subPathExpr": "$(WHERE)"}
    volume = {"name": "data", "hostPath": {"path": str(inside)}}
    await node.run(container(env=[{"name": "WHERE", "value": path}], volumeMounts=[mount]), volumes=[volume])
    assert node.container()["state"]["waiting"] == {"reason": "CreateContainerConfigError", "message": told}


async def test_containers_are_told_by_name_and_those_that_go_before_them_in_their_order(node: Node) -> None:
    before = [container(name, restartPolicy="Always") for name in ("second", "first")]
    await node.run(container("web"), container("agent"), initContainers=before)
    status = node.status()
    assert [one["name"] for one in status["containerStatuses"]] == ["agent", "web"]
    assert [one["name"] for one in status["initContainerStatuses"]] == ["second", "first"]
