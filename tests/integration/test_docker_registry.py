"""Images that Debian's docker-registry has, pulled by a kubelet for its pods."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.images.credentials import Credentials
from kubecore.images.references import Reference
from kubecore.images.registries import PullError, Registries
from kubecore.images.registry import pull
from kubecore.images.store import ImageStore
from tests.support.debian_registry import PASSWORD, USER, DebianRegistry, fetched_registry, running_registry
from tests.support.running_kubelet import Running, running_kubelet
from tests.support.small_image import Layer, SmallImage, programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KNOWN = [Credentials(USER, PASSWORD)]


def saying(text: str) -> SmallImage:
    run = {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "cat /said; exec sleep 1000"]}
    return SmallImage([programs(("sh", "cat", "sleep")), Layer({"said": text.encode()})], run)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetched_registry(tmp_path_factory.mktemp("packages"))


@pytest.fixture
async def registry(program: Path, tmp_path: Path) -> AsyncIterator[DebianRegistry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    async with running_registry(program, folder) as running:
        yield running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_kubelet(tmp_path, runtime="oci") as running:
        if running.kubelet.image_lack:
            pytest.skip(running.kubelet.image_lack)
        yield running


def add_secret(node: Running, registry: DebianRegistry) -> None:
    auths = {"auths": {registry.host: {"username": USER, "password": PASSWORD}}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}
    node.api.add("secrets", {"metadata": {"name": "mine"}, "data": data})


async def waiting(node: Running, name: str, *reasons: str) -> str:
    """What a container is told to wait for, once the reason is one of these."""

    def state(pod: Any) -> Any:
        statuses = pod["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("waiting") or {}

    return str(state(await node.until(name, lambda pod: state(pod).get("reason") in reasons)).get("message", ""))


async def test_a_pod_runs_what_the_registry_has_by_tag_and_by_digest(registry: DebianRegistry, node: Running) -> None:
    name = f"{registry.host}/team/app"
    first = await registry.push(saying("first\n"), "team/app", "v1")
    add_secret(node, registry)
    secrets = {"imagePullSecrets": [{"name": "mine"}]}
    node.pod("refused", {"name": "main", "image": f"{name}:v1"})
    assert "failed to authorize" in await waiting(node, "refused", "ErrImagePull", "ImagePullBackOff")
    node.pod("tagged", {"name": "main", "image": f"{name}:v1"}, **secrets)
    await node.said("tagged", "first")
    second = await registry.push(saying("second\n"), "team/app", "v1")
    assert second != first
    for pod, image, policy, said in (
        ("kept", f"{name}:v1", "IfNotPresent", "first"),
        ("renewed", f"{name}:v1", "Always", "second"),
        ("exact", f"{name}@{first}", "Always", "first"),
    ):
        node.pod(pod, {"name": "main", "image": image, "imagePullPolicy": policy}, **secrets)
        await node.said(pod, said)
        (status,) = (await node.phase(pod, "Running"))["status"]["containerStatuses"]
        assert status["imageID"] == f"{name}@{first if said == 'first' else second}"


async def test_what_is_not_there_backs_off(registry: DebianRegistry, node: Running) -> None:
    await registry.push(saying("first\n"), "team/app", "v1")
    add_secret(node, registry)
    image = {"name": "main", "image": f"{registry.host}/team/app:v9"}
    node.pod("missing", image, imagePullSecrets=[{"name": "mine"}])
    assert "not found" in await waiting(node, "missing", "ErrImagePull")
    assert "Back-off pulling image" in await waiting(node, "missing", "ImagePullBackOff")


async def test_content_that_was_spoilt_in_the_registry_is_not_taken(registry: DebianRegistry, tmp_path: Path) -> None:
    image = saying("first\n")
    await registry.push(image, "app", "v1")
    registry.spoil(list(image.blobs())[2])
    with pytest.raises(PullError):
        await pull(Reference.parse(f"{registry.host}/app:v1"), ImageStore(tmp_path / "images"), Registries(), KNOWN)


async def test_it_may_be_the_mirror_of_another_registry(registry: DebianRegistry, tmp_path: Path) -> None:
    image = saying("mirrored\n")
    await registry.push(image, "library/small", "latest")
    mirrors = Registries({"docker.io": [f"http://{registry.host}"]})
    found = await pull(Reference.parse("small"), ImageStore(tmp_path / "images"), mirrors, KNOWN)
    assert found.id == image.id
