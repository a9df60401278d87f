"""Images that are pulled from a registry."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from kubecore.images.credentials import Credentials, for_image, from_secrets
from kubecore.images.references import Reference
from kubecore.images.registries import PullError, Registries
from kubecore.images.registry import pull
from kubecore.images.store import ImageStore
from tests.support.small_image import Layer, SmallImage, digest
from tests.support.small_registry import SmallRegistry, serving

ME = Credentials("me", "secret")
IMAGE = SmallImage([Layer({"one": b"1"}), Layer({"two": b"2"})], {"Cmd": ["run"]})


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with serving(SmallRegistry()) as one:
        one.push(IMAGE, "folder/app", "v1")
        yield one


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def reference(registry: SmallRegistry, rest: str = "folder/app:v1") -> Reference:
    return Reference.parse(f"{registry.host}/{rest}")


async def test_an_image_is_pulled_and_known_by_name_and_digest(registry: SmallRegistry, store: ImageStore) -> None:
    image = await pull(reference(registry), store, Registries())
    assert (image.id, image.run) == (IMAGE.id, {"Cmd": ["run"]})
    manifest = digest(registry.manifests["folder/app:v1"])
    assert image.told == f"{registry.host}/folder/app@{manifest}"
    assert store.find(f"{registry.host}/folder/app:v1") == store.find(image.told) == image
    assert [(layer / name).exists() for layer, name in zip(image.layers, ("two", "one"), strict=True)] == [True, True]


async def test_layers_that_are_there_are_not_fetched_again(registry: SmallRegistry, store: ImageStore) -> None:
    await pull(reference(registry), store, Registries())
    registry.asked.clear()
    registry.push(SmallImage([*IMAGE.layers, Layer({"three": b"3"})]), "folder/app", "v2")
    await pull(reference(registry, "folder/app:v2"), store, Registries())
    assert sum("/blobs/" in one for one in registry.asked) == 2  # configuration, one layer


@pytest.mark.parametrize("basic", [False, True])
async def test_who_may_pull_is_told_by_credentials_tried_in_turn(store: ImageStore, basic: bool) -> None:
    async with serving(SmallRegistry("secret", basic)) as registry:
        registry.push(IMAGE, "app", "v1")
        wanted = reference(registry, "app:v1")
        with pytest.raises(PullError, match=r"failed to authorize|401"):
            await pull(wanted, store, Registries(), [Credentials("me", "wrong")])
        assert (await pull(wanted, store, Registries(), [Credentials("me", "wrong"), ME])).id == IMAGE.id


async def test_a_digest_in_the_name_is_what_must_come(registry: SmallRegistry, store: ImageStore) -> None:
    manifest = digest(registry.manifests["folder/app:v1"])
    image = await pull(reference(registry, f"folder/app@{manifest}"), store, Registries())
    assert image.id == IMAGE.id
    registry.manifests[f"folder/app:{manifest}"] = b"{}"
    with pytest.raises(PullError, match="unexpected digest"):
        await pull(reference(registry, f"folder/app@{manifest}"), store, Registries())


@pytest.mark.parametrize("number", [0, 1])
async def test_content_that_was_changed_on_the_way_is_not_taken(
    registry: SmallRegistry, store: ImageStore, number: int
) -> None:
    name = list(registry.blobs)[number]
    registry.blobs[name] += b" "
    with pytest.raises(PullError, match=f"unexpected digest .*, expected {name}"):
        await pull(reference(registry), store, Registries())
    assert store.images() == []


async def test_an_image_that_is_not_there_is_told(registry: SmallRegistry, store: ImageStore) -> None:
    wanted = reference(registry, "other:v1")
    with pytest.raises(PullError) as raised:
        await pull(wanted, store, Registries())
    told = f'failed to resolve reference "{wanted}": {wanted}: not found'
    assert str(raised.value) == f'failed to pull and unpack image "{wanted}": {told}'


async def test_a_registry_that_does_not_answer_is_told(store: ImageStore) -> None:
    wanted = "127.0.0.1:1/app:latest"
    with pytest.raises(PullError) as raised:
        await pull(Reference.parse(wanted), store, Registries())
    assert str(raised.value) == (
        f'failed to pull and unpack image "{wanted}": failed to resolve reference "{wanted}": '
        "failed to do request: dial tcp 127.0.0.1:1: connect: connection refused"
    )


async def test_a_registry_that_fails_is_told(registry: SmallRegistry, store: ImageStore) -> None:
    registry.failing = 503
    url = f"http://{registry.host}/v2/folder/app/manifests/v1"
    told = f"unexpected status from GET request to {url}: 503 Service Unavailable"
    with pytest.raises(PullError, match=re.escape(told)):
        await pull(reference(registry), store, Registries())


async def test_a_registry_whose_name_nobody_knows_is_told(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise OSError(None, "Name or service not known")

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", unknown)
    with pytest.raises(PullError, match=r"failed to do request: dial tcp: lookup nowhere\.example: no such host$"):
        await pull(Reference.parse("nowhere.example/app"), store, Registries())


async def test_a_mirror_is_asked_first(registry: SmallRegistry, store: ImageStore) -> None:
    mirrored = Registries({"127.0.0.1:1": [f"http://{registry.host}"]})
    image = await pull(Reference.parse("127.0.0.1:1/folder/app:v1"), store, mirrored)
    assert image.names == ("127.0.0.1:1/folder/app:v1",)


async def test_of_an_index_this_machines_image_is_taken(registry: SmallRegistry, store: ImageStore) -> None:
    mine = digest(registry.manifests["folder/app:v1"])
    listed = [
        {"digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "none"}},
        {"digest": mine, "platform": {"os": "linux"}},
    ]
    index = json.dumps({"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": listed}).encode()
    registry.manifests["folder/app:all"] = index
    image = await pull(reference(registry, "folder/app:all"), store, Registries())
    assert image.told.endswith(digest(index))


# --- credentials


def secret(key: str, content: object) -> dict[str, object]:
    return {"data": {key: base64.b64encode(json.dumps(content).encode()).decode()}}


def test_secrets_of_both_types_are_read_and_bad_ones_left_out() -> None:
    auth = base64.b64encode(b"me:se:cret").decode()
    found = from_secrets(
        [
            secret(".dockerconfigjson", {"auths": {"one.example": {"auth": auth}}}),
            secret(".dockercfg", {"two.example": {"username": "me", "password": "secret"}}),
            {"data": {".dockerconfigjson": "!"}},
            {},
        ]
    )
    assert found == {"one.example": [Credentials("me", "se:cret")], "two.example": [ME]}


@pytest.mark.parametrize(
    ("name", "image", "matches"),
    [
        ("one.example", "one.example/app", True),
        ("https://one.example/v1/", "one.example/app", True),
        ("one.example/team", "one.example/team/app", True),
        ("one.example/team", "one.example/teams/app", False),
        ("*.example", "one.example/app", True),
        ("*.example", "one.two.example/app", False),
        ("https://index.docker.io/v1/", "app", True),
        ("one.example", "one.example:5000/app", False),
    ],
)
def test_credentials_are_for_a_registry_or_a_part_of_it(name: str, image: str, matches: bool) -> None:
    assert for_image({name: [ME]}, Reference.parse(image)) == ([ME] if matches else [])


def test_the_longest_name_is_tried_first() -> None:
    other = Credentials("team", "x")
    known = {"a.example": [ME], "a.example/team": [other]}
    assert for_image(known, Reference.parse("a.example/team/app")) == [other, ME]


def test_of_several_secrets_for_one_registry_all_are_tried() -> None:
    """(upstream `pkg/credentialprovider/keyring.go`)"""
    names = [json.dumps({"auths": {"a.example": {"username": "me", "password": word}}}) for word in ("old", "new")]
    secrets = [{"data": {".dockerconfigjson": base64.b64encode(one.encode()).decode()}} for one in names]
    tried = for_image(from_secrets(secrets), Reference.parse("a.example/app"))
    assert tried == [Credentials("me", "old"), Credentials("me", "new")]
