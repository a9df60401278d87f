"""Pods that mount persistent volumes through their claims."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]

_MOUNT = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
_CLAIMED = [{"name": "data", "persistentVolumeClaim": {"claimName": "wanted"}}]


def add_claim(node: Node, name: str = "wanted", *, volume: str = "v", phase: str = "Bound", **metadata: Any) -> Object:
    spec = {"volumeName": volume, "accessModes": ["ReadWriteOnce"]}
    return node.api.add(
        "persistentvolumeclaims", {"metadata": {"name": name, **metadata}, "spec": spec, "status": {"phase": phase}}
    )


def add_volume(node: Node, claim: Object, **source: Any) -> None:
    reference = {"namespace": "default", "name": claim["metadata"]["name"], "uid": claim["metadata"]["uid"]}
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "claimRef": reference, **source}
    node.api.add("persistentvolumes", {"metadata": {"name": "v"}, "spec": spec, "status": {"phase": "Bound"}})


async def run(node: Node, volumes: list[Object] | None = None) -> None:
    await node.run(container(**_MOUNT), volumes=volumes or _CLAIMED)


def mounted(node: Node) -> tuple[Path, bool]:
    """What is at /data, and whether it is read only."""
    (mount,) = (one for one in node.runtime.config("main").mounts if str(one.target) == "/data")
    return mount.source, mount.read_only


async def test_a_host_path_volume_is_mounted_and_made_where_it_says_so(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "made"
    add_volume(node, add_claim(node), hostPath={"path": str(path), "type": "DirectoryOrCreate"})
    await run(node)
    assert mounted(node) == (path, False)
    assert path.is_dir()


async def test_a_local_volume_is_mounted_where_it_is(node: Node, tmp_path: Path) -> None:
    add_volume(node, add_claim(node), local={"path": str(tmp_path)})
    await run(node, [{"name": "data", "persistentVolumeClaim": {"claimName": "wanted", "readOnly": True}}])
    assert mounted(node) == (tmp_path, True)


async def test_how_full_a_claims_volume_is_is_told(node: Node, tmp_path: Path) -> None:
    add_volume(node, add_claim(node), local={"path": str(tmp_path)})
    await run(node)
    lines = node.kubelet.metrics.render(node.kubelet.counts()).decode().splitlines()
    (line,) = [one for one in lines if one.startswith("kubelet_volume_stats_capacity_bytes{")]
    labels, _, value = line.partition("} ")
    assert labels.endswith('{namespace="default",persistentvolumeclaim="wanted"')
    assert int(value) == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    (pod,) = node.kubelet.workers.running()
    assert [(one.name, one.claim, one.path) for one in pod.claims] == [("data", "wanted", tmp_path)]


def volume_of_files(folder: Path) -> tuple[Path, Path, Path]:
    """A volume, a file in it, and one outside of it that a link within leads to; nobody else may look at any."""
    inside, file, outside = folder / "volume", folder / "volume" / "file", folder / "outside"
    inside.mkdir(mode=0o700)
    for one in (file, outside):
        one.touch(mode=0o600)
    (inside / "link").symlink_to(outside)
    return inside, file, outside


def modes(*paths: Path) -> list[str]:
    return [oct(stat.S_IMODE(path.stat().st_mode)) for path in paths]


async def test_a_pods_group_may_write_to_a_local_volume_and_to_nothing_that_links_in_it_lead_to(
    node: Node, tmp_path: Path
) -> None:
    inside, file, outside = volume_of_files(tmp_path)
    add_volume(node, add_claim(node), local={"path": str(inside)})
    await node.run(container(**_MOUNT), volumes=_CLAIMED, securityContext={"fsGroup": os.getgid()})
    assert modes(inside, file, outside) == ["0o2770", "0o660", "0o600"]


async def test_a_volume_that_a_pod_only_reads_is_not_given_to_its_group(node: Node, tmp_path: Path) -> None:
    inside, file, _ = volume_of_files(tmp_path)
    add_volume(node, add_claim(node), local={"path": str(inside)})
    read_only = [{"name": "data", "persistentVolumeClaim": {"claimName": "wanted", "readOnly": True}}]
    await node.run(container(**_MOUNT), volumes=read_only, securityContext={"fsGroup": os.getgid()})
    assert mounted(node) == (inside, True)
    assert modes(inside, file) == ["0o700", "0o600"]


async def test_a_local_volume_must_be_there(node: Node, tmp_path: Path) -> None:
    add_volume(node, add_claim(node), local={"path": str(tmp_path / "gone")})
    await run(node)
    assert node.events("FailedMount") == [
        f'MountVolume.SetUp failed for volume "v" : path "{tmp_path / "gone"}" does not exist'
    ]


async def test_what_a_node_cannot_mount_is_told(node: Node) -> None:
    add_volume(node, add_claim(node), nfs={"server": "s", "path": "/"})
    await run(node)
    assert node.events("FailedMount") == [
        'MountVolume.SetUp failed for volume "v" : volumes of type nfs are not supported on this node'
    ]


async def test_the_claim_of_an_ephemeral_volume_must_be_the_pods_own(node: Node, tmp_path: Path) -> None:
    claim = add_claim(node, "pod-data")
    add_volume(node, claim, hostPath={"path": str(tmp_path)})
    await run(node, [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}])
    assert node.events("FailedMount")[0].endswith(
        "PVC default/pod-data was not created for pod default/pod (pod is not owner)"
    )
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "pod", "uid": node.pod()["metadata"]["uid"]}
    node.api.change("persistentvolumeclaims", "pod-data", metadata={"ownerReferences": [owner]})
    await node.settle()
    assert mounted(node) == (tmp_path, False)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        (None, 'failed to fetch PVC from API server: persistentvolumeclaims "wanted" not found'),
        ({"phase": "Pending", "volume": ""}, "PVC is not bound"),
        ({}, 'failed to fetch PV v from API server: persistentvolumes "v" not found'),
    ],
)
async def test_a_pod_waits_for_its_claim_to_be_bound(node: Node, tmp_path: Path, claim: Any, told: str) -> None:
    found = add_claim(node, **claim) if claim is not None else None
    await run(node)
    assert node.events("FailedMount") == [
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], "
        f"failed to process volumes=[data]: error processing PVC default/wanted: {told}"
    ]
    found = found or add_claim(node)
    node.api.change("persistentvolumeclaims", "wanted", spec={"volumeName": "v"}, status={"phase": "Bound"})
    add_volume(node, found, hostPath={"path": str(tmp_path)})
    await node.settle()
    assert node.status()["phase"] == "Running"


async def test_a_running_pod_keeps_its_volume_whatever_becomes_of_the_claim(node: Node, tmp_path: Path) -> None:
    add_volume(node, add_claim(node), hostPath={"path": str(tmp_path)})
    await run(node)
    node.api.remove("persistentvolumes", "v")
    node.api.change("persistentvolumeclaims", "wanted", status={"phase": "Lost"})
    await node.settle(30)
    assert node.status()["phase"] == "Running"
    assert node.events("FailedMount") == []


async def test_a_volume_outlives_the_pod(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    add_volume(node, add_claim(node), hostPath={"path": str(tmp_path)})
    await run(node)
    await node.delete(grace_seconds=0)
    assert (tmp_path / "file").read_text() == "kept"
