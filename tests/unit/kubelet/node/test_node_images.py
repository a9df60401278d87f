"""Which images a node tells of, so that pods are placed where their images are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubecore.clock import VirtualClock
from kubecore.images.archives import load
from kubecore.images.store import ImageStore
from kubecore.kubelet.node.images import LOOK_SECONDS, KnownImage, NodeImages, StoredImages, told_of
from kubecore.kubelet.node.node import Machine, NodeIdentity, NodeKeeper
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.scheduler.plugins.image_locality import normalized
from tests.support.fake_api import FakeAPI
from tests.support.small_image import Layer, SmallImage

DIGEST = "sha256:" + "0" * 64


def image(name: str, size: int, *digests: str) -> KnownImage:
    return KnownImage(digests, (name,), size)


def names(images: Sequence[KnownImage], most: int = 50) -> list[str]:
    return [one["names"][0] for one in told_of(images, most)]


def test_the_largest_are_told_first_and_no_more_than_wanted() -> None:
    images = [image(f"r.example/{size}:1", size) for size in (5, 7, 6)]
    assert names(images) == ["r.example/7:1", "r.example/6:1", "r.example/5:1"]
    assert names(images, most=1) == ["r.example/7:1"]
    assert names(images, most=0) == []
    assert len(names(images * 20, most=-1)) == 60


def test_an_image_is_told_by_five_names_digests_first() -> None:
    one = KnownImage((f"r.example/a@{DIGEST}",), tuple(f"r.example/a:{number}" for number in range(9)), 1)
    (told,) = told_of([one], 50)
    assert told == {
        "names": [f"r.example/a@{DIGEST}", *(f"r.example/a:{number}" for number in range(4))],
        "sizeBytes": 1,
    }


def test_an_image_is_told_as_pods_call_it_too() -> None:
    (library,) = told_of([image("docker.io/library/nginx:1", 1)], 50)
    assert library["names"] == ["docker.io/library/nginx:1", "nginx:1"]
    (latest,) = told_of([image("docker.io/some/app:latest", 1)], 50)
    assert normalized("some/app") in latest["names"]


class Machines:
    """A node whose runtimes have `images`, or fail."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self.images: list[KnownImage] = []
        self.broken = False
        identity = NodeIdentity("node", ("10.0.0.1",), 10250, (), "loopback", "host", ("host",))
        self.told = NodeImages([self.read], self.clock, lambda: self.keeper.changed())
        machine = Machine.read(tmp_path)
        self.keeper = NodeKeeper(
            self.api.client("kubelet"), self.clock, identity, machine, images=lambda: self.told.told
        )

    async def read(self) -> Sequence[KnownImage]:
        if self.broken:
            raise RuntimeFailure("RuntimeNotReady", "no answer")
        return self.images

    def status(self) -> list[Any]:
        node: Any = self.api.get("nodes", "node")
        found: list[Any] = node["status"].get("images", [])
        return found


async def test_the_nodes_status_follows_what_comes_and_goes(tmp_path: Path) -> None:
    node = Machines(tmp_path)
    await node.keeper.register()
    tasks = [asyncio.create_task(one) for one in (node.keeper.keep_status(), node.told.run())]
    await node.clock.settle()
    assert node.status() == []
    node.images = [image("r.example/a:1", 5)]
    node.told.wake()
    await node.clock.settle()
    assert node.status() == [{"names": ["r.example/a:1"], "sizeBytes": 5}]
    node.broken = True  # nothing is known of it then, not that there is nothing
    await node.clock.advance(LOOK_SECONDS)
    assert node.status() == [{"names": ["r.example/a:1"], "sizeBytes": 5}]
    node.broken, node.images = False, []
    await node.clock.advance(LOOK_SECONDS)
    await node.clock.settle()
    assert node.status() == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_store_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    source = StoredImages(store)
    assert not await source()
    archive = SmallImage([Layer({"data": b"x" * 100_000})], {}, ["r.example/app:1"]).docker_archive(
        tmp_path / "app.tar"
    )
    load(archive, store)
    (found,) = known = await source()
    assert found.names == ("r.example/app:1",)
    assert found.size >= 100_000
    assert await source() is known
    store.remove("r.example/app:1")
    assert not await source()
