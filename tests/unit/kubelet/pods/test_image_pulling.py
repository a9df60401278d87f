"""Pods whose images have to be had first."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.images import registry as registry_client
from kubecore.images.archives import load
from kubecore.images.credentials import Credentials
from kubecore.images.references import Reference
from kubecore.images.registries import PullError, Registries
from kubecore.images.store import Image, ImageStore
from kubecore.kubelet.node.image_gc import ImageGarbage, StoredImages
from kubecore.kubelet.pods.image_pulling import ImagePuller
from tests.support.small_image import Layer, SmallImage
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]


class Registry:
    """What is pulled comes from a file, after `problems` have come up."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.problems: list[str] = []
        self.pulls: list[tuple[str, list[Credentials]]] = []

    async def pull(
        self, reference: Reference, store: ImageStore, registries: Registries, known: list[Credentials]
    ) -> Image:
        self.pulls.append((str(reference), known))
        if self.problems:
            raise PullError(self.problems.pop(0))
        (image,) = load(self.archive, store)
        return image


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    image = SmallImage([Layer({"file": b"x"})], {"User": "1000"}, ["app:1"])
    one = Registry(image.docker_archive(tmp_path / "image.tar"))
    monkeypatch.setattr(registry_client, "pull", one.pull)
    return one


@pytest.fixture
async def node(tmp_path: Path, registry: Registry) -> AsyncIterator[Node]:
    one = Node(tmp_path / "root")
    one.runtime.images = ImageStore(tmp_path / "root/images")
    await one.start()
    yield one
    await one.stop()


def waiting(node: Node) -> tuple[str, str]:
    told = node.container()["state"]["waiting"]
    return told["reason"], told.get("message", "")


async def test_an_image_that_is_missing_is_pulled_and_then_the_container_runs(node: Node, registry: Registry) -> None:
    await node.run()
    await node.settle()
    assert node.status()["phase"] == "Running"
    assert node.container()["imageID"].startswith("sha256:")
    assert node.runtime.config("main").image == node.container()["imageID"]
    assert node.events("Pulling") == ['Pulling image "app:1"']
    assert node.events("Pulled")[0].startswith('Successfully pulled image "app:1" in ')


async def test_an_image_that_is_there_is_not_pulled_unless_the_policy_says_always(
    node: Node, registry: Registry
) -> None:
    load(registry.archive, node.runtime.images)  # type: ignore[arg-type]
    await node.run()
    assert registry.pulls == []
    assert node.events("Pulled") == [
        'Container image "app:1" already present on machine and can be accessed by the pod'
    ]
    await node.run(container(imagePullPolicy="Always"), name="other")
    await node.settle()
    assert [image for image, _ in registry.pulls] == ["docker.io/library/app:1"]
    assert node.status("other")["phase"] == "Running"


async def test_a_container_that_is_started_again_waits_for_its_image_as_it_is(node: Node, registry: Registry) -> None:
    await node.run(container(imagePullPolicy="Always"))
    await node.settle()
    ask, asked = ImagePuller.image_for, 0

    async def counted(puller: ImagePuller, *arguments: Any) -> Image | None:
        nonlocal asked
        asked += 1
        assert asked < 100, "the pod's worker asks without end"
        return await ask(puller, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImagePuller, "image_for", counted)
        node.runtime.end("main", 1)
        await node.settle(1)
    assert len(registry.pulls) == 2
    assert (node.status()["phase"], node.container()["restartCount"]) == ("Running", 1)


async def test_an_image_that_may_not_be_pulled_must_be_there(node: Node) -> None:
    await node.run(container(imagePullPolicy="Never"))
    message = 'Container image "app:1" is not present with pull policy of Never'
    assert waiting(node) == ("ErrImageNeverPull", message)
    assert "Error: ErrImageNeverPull" in node.events("Failed")


async def test_what_cannot_be_pulled_is_tried_again_after_ten_seconds_then_twenty(
    node: Node, registry: Registry
) -> None:
    registry.problems = ["no such image", "still none"]
    await node.run()
    await node.settle()
    assert waiting(node) == ("ErrImagePull", "no such image")
    assert node.events("Failed")[:2] == ['Failed to pull image "app:1": no such image', "Error: ErrImagePull"]
    await node.settle(5)
    await until(node, "ErrImagePull", "still none")
    assert len(registry.pulls) == 2
    await node.settle(10)
    assert waiting(node) == ("ImagePullBackOff", 'Back-off pulling image "app:1": ErrImagePull: still none')
    assert node.events("BackOff")
    await node.settle(20)
    await node.settle()
    assert node.status()["phase"] == "Running"


async def test_an_image_of_a_volume_that_cannot_be_pulled_is_the_trouble_of_who_mounts_it(
    node: Node, registry: Registry
) -> None:
    registry.problems = ["no such image"]
    volumes = [{"name": "data", "image": {"reference": "data:1"}}]
    mounting = container(volumeMounts=[{"name": "data", "mountPath": "/data"}])
    await node.run(mounting, container("beside"), volumes=volumes)
    await node.settle()
    assert waiting(node) == ("ErrImagePull", "no such image")
    assert node.container("beside")["state"]["waiting"] == {"reason": "ContainerCreating"}
    assert node.events("FailedCreatePodSandBox") == []
    failed = [one for one in node.api.all("events") if one["reason"] == "Failed"]
    assert [(one["message"], one["involvedObject"].get("fieldPath")) for one in failed] == [
        ('Failed to pull image "data:1": no such image', None),
        ("Error: ErrImagePull", "spec.containers{main}"),
    ]
    await node.settle(30)
    assert node.status()["phase"] == "Running"


async def until(node: Node, reason: str, message: str) -> None:
    for _ in range(20):
        if waiting(node) == (reason, message):
            return
        await node.settle(1)
    assert waiting(node) == (reason, message)


async def test_a_name_that_is_none_is_told(node: Node) -> None:
    await node.run(container(image="No Image"))
    assert waiting(node)[0] == "InvalidImageName"


async def test_pull_secrets_say_who_asks(node: Node, registry: Registry) -> None:
    auths = {"auths": {"https://index.docker.io/v1/": {"username": "me", "password": "secret"}}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}
    node.api.add("secrets", {"metadata": {"name": "mine"}, "data": data})
    await node.run(imagePullSecrets=[{"name": "mine"}, {"name": "missing"}])
    await node.settle()
    assert registry.pulls == [("docker.io/library/app:1", [Credentials("me", "secret")])]
    told = "Unable to retrieve some image pull secrets (missing); attempting to pull the image may not succeed."
    assert set(node.events("FailedToRetrieveImagePullSecret")) == {told}


async def test_two_pods_of_one_image_pull_it_once(node: Node, registry: Registry) -> None:
    for name in ("one", "two"):
        spec = {"containers": [container()], "nodeName": "node"}
        node.api.add("pods", {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}})
    await node.settle()
    await node.settle()
    assert len(registry.pulls) == 1
    assert [node.status(name)["phase"] for name in ("one", "two")] == ["Running", "Running"]


async def test_a_container_that_must_not_be_root_is_judged_by_its_images_user(node: Node) -> None:
    await node.run(securityContext={"runAsNonRoot": True})
    await node.settle()
    assert node.status()["phase"] == "Running"


async def test_images_that_were_not_used_for_longest_go_first_until_there_is_room(tmp_path: Path, node: Node) -> None:
    store = ImageStore(tmp_path / "store")
    for number, name in enumerate(("old", "held", "new")):
        (image,) = load(SmallImage([Layer({name: b"x"})], {}, [name]).docker_archive(tmp_path / name), store)
        os.utime(store.root / "blobs" / image.id.replace(":", "/"), (number, number))
    held = store.find("held")
    assert held is not None
    descriptor = store.hold(held.id)
    percents = iter([90.0, 90.0, 90.0, 79.0])
    garbage = ImageGarbage(StoredImages(store, lambda _: next(percents)), node.clock)
    await garbage.look()
    await node.clock.advance(120)
    await garbage.look()
    os.close(descriptor)
    assert [name for name in ("old", "held", "new") if store.find(name) is not None] == ["held", "new"]
