"""Pods that a node has from files of a folder, and their mirrors in the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubecore.kubelet.folder_watch import FolderWatch
from kubecore.kubelet.pods.manifests import HASH, MIRROR, BadManifest, static_pod
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]
NAME = "web-node"


def manifest(**spec: Any) -> bytes:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [container()], **spec},
    }
    return yaml.safe_dump(pod).encode()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    one = Node(tmp_path / "root")
    one.manifests = tmp_path / "manifests"  # type: ignore[attr-defined]
    one.manifests.mkdir()  # type: ignore[attr-defined]
    (one.manifests / "web.yaml").write_bytes(manifest())  # type: ignore[attr-defined]
    await one.start(pod_manifest_path=one.manifests)  # type: ignore[attr-defined]
    yield one
    await one.stop()


def folder(node: Node) -> Path:
    found: Path = node.manifests  # type: ignore[attr-defined]
    return found


async def looked(node: Node) -> None:
    """The folder has been looked at anew."""
    await node.settle(20)
    await node.settle()


async def test_a_pod_of_a_file_runs_and_the_api_has_a_mirror_of_it_that_the_node_owns(node: Node) -> None:
    assert node.runtime.running() == ["main"]
    mirror = node.pod(NAME)
    annotations = mirror["metadata"]["annotations"]
    assert annotations[MIRROR] == annotations[HASH] != mirror["metadata"]["uid"]
    assert annotations["kubernetes.io/config.seen"].endswith("Z")
    assert [(one["kind"], one["name"]) for one in mirror["metadata"]["ownerReferences"]] == [("Node", "node")]
    assert mirror["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    assert node.status(NAME)["phase"] == "Running"


async def test_a_mirror_that_is_deleted_comes_back_and_the_pod_runs_on(node: Node) -> None:
    before = node.pod(NAME)["metadata"]["uid"]
    await node.delete(NAME)
    await node.settle()
    assert node.pod(NAME)["metadata"]["uid"] != before
    assert node.status(NAME)["phase"] == "Running"
    assert node.runtime.attempts("main") == 1


async def test_a_file_that_goes_ends_what_runs_of_its_pod_though_another_container_is_being_started(node: Node) -> None:
    node.runtime.hangs.add(("start", "late"))
    hook = {"preStop": {"exec": {"command": ["bye"]}}}
    changed = manifest(containers=[container(lifecycle=hook), container("late")], terminationGracePeriodSeconds=4)
    (folder(node) / "web.yaml").write_bytes(changed)
    await looked(node)
    assert node.runtime.running() == ["main"]
    (folder(node) / "web.yaml").unlink()
    await looked(node)
    assert node.runtime.calls[-2:] == [("bye", "main"), ("stop", "main")]


async def test_a_file_that_goes_takes_its_pod_and_the_mirror_with_it(node: Node) -> None:
    (folder(node) / "web.yaml").unlink()
    await looked(node)
    assert node.runtime.running() == []
    assert node.api.get("pods", NAME) is None


async def test_a_file_of_another_content_is_another_pod_which_starts_when_the_old_one_has_ended(node: Node) -> None:
    (folder(node) / "web.yaml").write_bytes(manifest(hostNetwork=True))
    await looked(node)
    await looked(node)
    assert [call for call in node.runtime.calls if call[0] != "sandbox"] == [
        ("start", "main"),
        ("stop", "main"),
        ("start", "main"),
    ]
    assert node.pod(NAME)["spec"]["hostNetwork"] is True
    assert node.status(NAME)["phase"] == "Running"


async def test_what_cannot_be_read_does_not_keep_the_others_from_running(node: Node) -> None:
    (folder(node) / "bad.yaml").write_text("{")
    (folder(node) / ".hidden.yaml").write_bytes(manifest())
    (folder(node) / "more.yaml").write_bytes(manifest().replace(b"name: web", b"name: more"))
    await looked(node)
    assert node.status("more-node")["phase"] == "Running"
    assert len(node.api.all("pods")) == 2


async def test_a_mirror_whose_file_went_while_no_kubelet_ran_is_removed(node: Node) -> None:
    await node.stop()
    (folder(node) / "web.yaml").unlink()
    node.runtime = type(node.runtime)(node.clock)
    await node.start(pod_manifest_path=folder(node))
    assert node.api.get("pods", NAME) is None


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"serviceAccountName": "any"}, "serviceaccounts"),
        ({"volumes": [{"name": "a", "configMap": {"name": "b"}}]}, "configmaps"),
        ({"volumes": [{"name": "a", "projected": {"sources": [{"secret": {}}]}}]}, "secrets"),
        ({"containers": [container(envFrom=[{"secretRef": {"name": "a"}}])]}, "secrets"),
    ],
)
def test_a_static_pod_does_without_the_api(spec: Object, kind: str) -> None:
    with pytest.raises(BadManifest, match=f"static pods may not reference {kind}"):
        static_pod(manifest(**spec), Path("/etc/pod.yaml"), "node")


@pytest.mark.parametrize("text", [b"[]", b"kind: Pod\napiVersion: v1\nspec: {}", b"kind: Service\napiVersion: v1"])
def test_what_is_no_pod_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(BadManifest, match="invalid pod"):
        static_pod(text, Path("/etc/pod.yaml"), "node")


async def test_a_folder_tells_that_a_file_was_written(tmp_path: Path) -> None:
    changed = asyncio.Event()
    watch = FolderWatch(tmp_path, changed.set)
    (tmp_path / "file").write_text("content")
    with suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), 60)
    watch.close()
    assert changed.is_set()
