"""Volumes of a pod whose files are to be its group's, and those in memory."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.volumes import ownership
from tests.unit.kubelet.conftest import Node, container
from tests.unit.kubelet.test_claims import add_claim, add_volume

Object = dict[str, Any]

GROUP = os.getgid()
CLAIMED = [{"name": "data", "persistentVolumeClaim": {"claimName": "wanted"}}]
SETTINGS = {"metadata": {"name": "settings"}, "data": {"a": "1", "b": "2"}}


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def folder(node: Node, kind: str, name: str = "data") -> Path:
    return node.root / "pods" / node.pod()["metadata"]["uid"] / "volumes" / f"kubernetes.io~{kind}" / name


async def test_files_of_a_config_map_are_the_groups_from_the_first_moment_and_written_once(node: Node) -> None:
    node.api.add("configmaps", SETTINGS)
    items = [{"key": "a", "path": "sub/a", "mode": 0o400}]
    volumes = [{"name": "data", "configMap": {"name": "settings", "items": items}}]
    await node.run(container(), volumes=volumes, securityContext={"fsGroup": GROUP})
    made = folder(node, "configmap")
    generation = (made / "..data").readlink()
    assert [mode(made), mode(made / "..data"), mode(made / "sub"), mode(made / "sub/a")] == [
        "0o2755",
        "0o2755",
        "0o2755",
        "0o440",
    ]
    node.api.change("pods", "pod", metadata={"annotations": {"looked": "at again"}})
    await node.settle()
    assert (made / "..data").readlink() == generation


@pytest.mark.parametrize(("root", "given"), [(0o2770, False), (0o770, True), (0o2750, True)])
async def test_who_wants_it_has_a_volume_given_to_the_group_only_where_its_root_is_not(
    node: Node, tmp_path: Path, root: int, given: bool
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").touch(mode=0o600)
    volume.chmod(root)
    add_volume(node, add_claim(node), local={"path": str(volume)})
    context = {"fsGroup": GROUP, "fsGroupChangePolicy": "OnRootMismatch"}
    await node.run(container(), volumes=CLAIMED, securityContext=context)
    assert (mode(volume), mode(volume / "file")) == ("0o2770", "0o660" if given else "0o600")


@pytest.mark.parametrize("finished", range(4))
def test_a_root_is_not_the_groups_before_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    """The node may be killed after each of them."""
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub").chmod(0o700)
    files = [volume / "file", volume / "sub/file"]
    for file in files:
        file.touch(mode=0o600)
    given: list[Path] = []

    def interrupted(path: Path, group: int, *, writable: bool) -> None:
        if len(given) == finished:
            raise InterruptedError
        given.append(path)
        give(path, group, writable=writable)

    give = ownership.give
    monkeypatch.setattr(ownership, "give", interrupted)
    with pytest.raises(InterruptedError):
        ownership.give_tree(volume, GROUP)
    monkeypatch.undo()
    assert not ownership.is_given(volume, GROUP)
    ownership.give_tree(volume, GROUP)
    assert ownership.is_given(volume, GROUP)
    assert [mode(one) for one in (*files, volume / "sub")] == ["0o660", "0o660", "0o2770"]


async def test_others_go_on_while_a_volume_is_given_to_its_pod(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, went_on, seen = asyncio.get_running_loop(), threading.Event(), list[bool]()

    def slow(path: Path, group: int) -> None:
        loop.call_soon_threadsafe(went_on.set)
        seen.append(went_on.wait(60))

    monkeypatch.setattr(ownership, "give_tree", slow)
    add_volume(node, add_claim(node), local={"path": str(tmp_path)})
    await node.run(container(), volumes=CLAIMED, securityContext={"fsGroup": GROUP})
    assert seen == [True]
    assert node.runtime.running() == ["main"]


@pytest.mark.parametrize(
    ("limit", "own", "size"),
    [("64Mi", "16Mi", 16), ("64Mi", None, 64), ("64Mi", "128Mi", 64), (None, "16Mi", 16)],
)
async def test_a_volume_in_memory_holds_no_more_than_its_pod_may_have(
    node: Node, limit: str | None, own: str | None, size: int
) -> None:
    source = {"medium": "Memory", **({"sizeLimit": own} if own else {})}
    resources = {"limits": {"memory": limit}} if limit else {}
    await node.run(container(resources=resources), volumes=[{"name": "data", "emptyDir": source}])
    ((made,),) = (one.memory_directories for one in node.runtime.sandboxes.values())
    assert (made.size, made.options(any_group=True)) == (size << 20, f"mode=777,size={size << 20}")


async def test_without_a_limit_it_holds_what_all_pods_of_the_node_may_have(node: Node) -> None:
    source = {"medium": "Memory"}
    await node.run(
        container(), volumes=[{"name": "data", "emptyDir": source}], securityContext={"fsGroup": 3000}, name="pod"
    )
    ((made,),) = (one.memory_directories for one in node.runtime.sandboxes.values())
    whole = node.kubelet.machine.memory
    assert made.size is not None
    assert 0 < made.size <= whole
    assert made.options(any_group=True) == f"mode=2777,size={made.size},gid=3000"
    assert made.options(any_group=False) == f"mode=2777,size={made.size}"


async def test_a_medium_that_the_node_has_not_is_told(node: Node) -> None:
    await node.run(volumes=[{"name": "data", "emptyDir": {"medium": "HugePages"}}])
    told = 'MountVolume.SetUp failed for volume "data" : medium HugePages is not supported on this node'
    assert node.events("FailedMount") == [told]
