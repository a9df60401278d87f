"""Pods whose images have to be had first."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubecore.clock import VirtualClock
from kubecore.images import registry as registry_client
from kubecore.images.archives import load
from kubecore.images.credentials import Credentials, Origin
from kubecore.images.references import Reference
from kubecore.images.registries import PullError, Registries
from kubecore.images.store import Image, ImageStore
from kubecore.kubelet.node.image_gc import LOOK_SECONDS as IMAGE_LOOK
from kubecore.kubelet.node.image_gc import ImageGarbage, Space, StoredImages
from kubecore.kubelet.pods import pull_records
from kubecore.kubelet.pods.image_pulling import ImagePuller
from kubecore.kubelet.pods.pull_records import PullRecords, Verification
from kubecore.whole_file import write_whole
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
        self,
        reference: Reference,
        store: ImageStore,
        registries: Registries,
        known: list[Credentials],
        used: Callable[[Credentials | None], None],
    ) -> Image:
        self.pulls.append((str(reference), known))
        if self.problems:
            raise PullError(self.problems.pop(0))
        (image,) = load(self.archive, store)
        used(known[0] if known else None)
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


def pull_secret(password: str = "secret") -> Object:
    """Data of one."""
    auths = {"auths": {"https://index.docker.io/v1/": {"username": "me", "password": password}}}
    return {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}


async def test_pull_secrets_say_who_asks(node: Node, registry: Registry) -> None:
    node.api.add("secrets", {"metadata": {"name": "mine"}, "data": pull_secret()})
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
    # Of the first look, before and after; of the second before, with each image, and after.
    available = iter([10, 10, 10, 10, 21, 21])
    garbage = ImageGarbage(StoredImages(store, lambda _: Space(100, next(available))), node.clock)
    await garbage.look()
    await node.clock.advance(120)
    await garbage.look()
    os.close(descriptor)
    assert [name for name in ("old", "held", "new") if store.find(name) is not None] == ["held", "new"]


# ---- images of those who may pull them

PRESENT = 'Container image "app:1" already present on machine and can be accessed by the pod'
ABSENT = 'Container image "app:1" is not present with pull policy of Never'


async def run_with(node: Node, name: str, *secrets: str, policy: str = "IfNotPresent") -> Object:
    """The state of a pod's container."""
    await node.run(
        container(imagePullPolicy=policy), name=name, imagePullSecrets=[{"name": secret} for secret in secrets]
    )
    await node.settle()
    state: Object = node.container(pod=name)["state"]
    return state


@pytest.fixture
async def pulled_by_one(node: Node, registry: Registry) -> None:
    node.api.add("secrets", {"metadata": {"name": "mine"}, "data": pull_secret()})
    assert "running" in await run_with(node, "one", "mine")


@pytest.mark.usefixtures("pulled_by_one")
async def test_what_was_pulled_with_a_secret_is_not_there_for_who_has_none(node: Node, registry: Registry) -> None:
    registry.problems = ["denied"]
    assert (await run_with(node, "other"))["waiting"] == {"reason": "ErrImagePull", "message": "denied"}
    never = (await run_with(node, "never", policy="Never"))["waiting"]
    assert never == {"reason": "ErrImageNeverPull", "message": ABSENT}
    assert node.events("Pulled").count(PRESENT) == 0


@pytest.mark.usefixtures("pulled_by_one")
async def test_what_was_pulled_with_a_secret_is_there_for_who_has_it_or_its_like(
    node: Node, registry: Registry
) -> None:
    node.api.add("secrets", {"metadata": {"name": "alike"}, "data": pull_secret()})
    node.api.add("secrets", {"metadata": {"name": "different"}, "data": pull_secret("another")})
    for name, secret in (("same", "mine"), ("like", "alike")):
        assert "running" in await run_with(node, name, secret, policy="Never"), name
    assert "waiting" in await run_with(node, "unlike", "different", policy="Never")
    node.api.change("secrets", "alike", data=pull_secret("renewed"))
    assert "running" in await run_with(node, "renewed", "alike", policy="Never")
    assert len(registry.pulls) == 1


@pytest.mark.usefixtures("pulled_by_one")
async def test_whoever_has_pulled_it_anew_may_have_it_from_then_on(node: Node, registry: Registry) -> None:
    node.api.add("secrets", {"metadata": {"name": "different"}, "data": pull_secret("another")})
    for name in ("first", "second"):
        assert "running" in await run_with(node, name, "different")
    assert len(registry.pulls) == 2
    assert "running" in await run_with(node, "nobody's")
    assert "running" in await run_with(node, "anybody's", policy="Never")
    assert len(registry.pulls) == 3


@pytest.mark.usefixtures("pulled_by_one")
async def test_another_kubelet_knows_whose_an_image_is(node: Node) -> None:
    await node.kill()
    await node.start()
    assert "waiting" in await run_with(node, "other", policy="Never")
    assert "running" in await run_with(node, "same", "mine", policy="Never")


@pytest.mark.usefixtures("pulled_by_one")
async def test_where_nothing_is_verified_everybody_may_have_it(node: Node) -> None:
    await node.stop()
    await node.start(image_verification=Verification("NeverVerify"))
    assert "running" in await run_with(node, "other", policy="Never")


async def test_whose_the_image_is_that_a_killed_kubelet_was_pulling_nobody_knows(
    node: Node, registry: Registry
) -> None:
    store = node.runtime.images
    assert store is not None
    killed = PullRecords(store.root / "pulls/own", node.clock, Verification())
    for name in ("app:1", "never-came:1"):
        with killed.begin(Reference.parse(name)):
            pass  # whoever held it is no more
    load(registry.archive, store)
    assert "waiting" in await run_with(node, "other", policy="Never")
    assert list((store.root / "pulls/own/pulling").iterdir()) == []
    assert "running" in await run_with(node, "pulls")
    assert "running" in await run_with(node, "anybody's", policy="Never")


async def test_an_image_whose_record_cannot_be_written_is_for_nobody_unasked(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its coming may have filled the disk. Also not for who looks back later."""

    def full(self: PullRecords, record: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    node.api.add("secrets", {"metadata": {"name": "mine"}, "data": pull_secret()})
    with monkeypatch.context() as failing:
        failing.setattr(PullRecords, "_write", full)
        assert "waiting" in await run_with(node, "one", "mine")
    assert "waiting" in await run_with(node, "other", policy="Never")
    await node.kill()
    await node.start()
    assert "waiting" in await run_with(node, "another", policy="Never")


async def test_what_another_kubelet_is_pulling_is_not_taken_for_what_a_killed_one_has_left(
    node: Node, registry: Registry
) -> None:
    store = node.runtime.images
    assert store is not None
    another = PullRecords(store.root / "pulls/own", node.clock, Verification())
    with another.begin(Reference.parse("app:1")):
        # of this node it is the first image that is asked for
        assert "waiting" in await run_with(node, "first", policy="Never")
        load(registry.archive, store)
        assert "waiting" in await run_with(node, "other", policy="Never")
    assert another.interrupted() == [str(Reference.parse("app:1"))]


@pytest.mark.usefixtures("pulled_by_one")
async def test_what_was_removed_and_is_brought_by_hand_is_for_everybody(node: Node, registry: Registry) -> None:
    store = node.runtime.images
    assert store is not None
    image = store.find("app:1")
    assert image is not None
    await node.delete("one", grace_seconds=0)
    store.remove_image(image.id)
    await node.settle(IMAGE_LOOK)
    async with asyncio.timeout(60):
        # which takes real time: a thread reads what images there are
        while list((store.root / "pulls/own/pulled").iterdir()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    load(registry.archive, store)
    assert "running" in await run_with(node, "other", policy="Never")


def test_a_record_that_cannot_be_read_lets_nobody_have_the_image(tmp_path: Path) -> None:
    records = PullRecords(tmp_path, VirtualClock(), Verification())
    image, mine = Reference.parse("app:1"), Credentials("me", "secret", origin=Origin("1", "default", "mine"))
    records.note("sha256:1", image, mine)
    assert records.allows("sha256:1", image, [mine])
    (file,) = (tmp_path / "pulled").iterdir()
    file.write_text("{")
    assert not records.allows("sha256:1", image, [mine])
    records.note("sha256:1", image, mine)
    assert records.allows("sha256:1", image, [mine])


async def test_what_is_pulled_while_images_are_listed_is_kept_in_mind(tmp_path: Path) -> None:
    clock = VirtualClock()
    records = PullRecords(tmp_path, clock, Verification())
    image, mine = Reference.parse("app:1"), Credentials("me", "secret", origin=Origin("1", "default", "mine"))
    records.note("sha256:old", image, mine)
    await clock.advance(5)
    records.note("sha256:new", image, mine)
    records.keep([], clock.now())
    assert records.allows("sha256:old", image, [])
    assert not records.allows("sha256:new", image, [])


async def test_whoever_waits_for_the_disk_holds_up_nobody(
    node: Node, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, writers = threading.get_ident(), list[int]()

    def write(path: Path, content: bytes, *, mode: int) -> None:
        writers.append(threading.get_ident())
        write_whole(path, content, mode=mode)

    monkeypatch.setattr(pull_records, "write_whole", write)
    node.api.add("secrets", {"metadata": {"name": "mine"}, "data": pull_secret()})
    node.api.add("secrets", {"metadata": {"name": "alike"}, "data": pull_secret()})
    for name in ("mine", "alike"):
        writers.clear()
        assert "running" in await run_with(node, name, name)
        assert writers, name
        assert loop not in writers, name


async def test_who_pulls_at_the_same_time_is_remembered_with_the_others(tmp_path: Path) -> None:
    image, everybody = Reference.parse("app:1"), range(20)
    who = [
        Credentials("me", str(number), origin=Origin(str(number), "default", f"of-{number}")) for number in everybody
    ]
    kubelets = [PullRecords(tmp_path, VirtualClock(), Verification()) for _ in everybody]
    await asyncio.gather(
        *(asyncio.to_thread(one.note, "sha256:1", image, own) for one, own in zip(kubelets, who, strict=True))
    )
    assert [one.allows("sha256:1", image, [own]) for one, own in zip(kubelets, who, strict=True)] == [True] * 20


LISTED = Verification("NeverVerifyAllowlistedImages", ("docker.io/library/app", "example.com:5000/free/*"))


@pytest.mark.parametrize(
    ("verification", "image", "pulled", "wanted"),
    [
        (Verification(), "app:1", True, True),
        (Verification(), "app:1", False, False),
        (Verification("NeverVerify"), "app:1", True, False),
        (Verification("AlwaysVerify"), "app:1", False, True),
        (LISTED, "docker.io/library/app:1", True, False),
        (LISTED, "docker.io/library/app@sha256:" + "0" * 64, True, False),
        (LISTED, "app:1", True, False),
        (LISTED, "library/app", True, False),
        (LISTED, "index.docker.io/app", True, False),
        (LISTED, "docker.io/library/apps", False, True),
        (LISTED, "docker.io/library/app/part", False, True),
        (LISTED, "example.com:5000/free/any:1", True, False),
        (LISTED, "example.com:5000/other", True, True),
    ],
)
def test_the_policy_says_which_images_are_for_those_alone_who_may_pull_them(
    verification: Verification, image: str, pulled: bool, wanted: bool
) -> None:
    assert verification.wanted(Reference.parse(image), pulled=pulled) == wanted
