"""Images that are loaded from files, found, held and removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kubecore.images.archives import BadArchive, choose, load
from kubecore.images.digests import WrongDigest
from kubecore.images.store import ImageStore
from tests.support.small_image import Layer, SmallImage


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def small(*contents: bytes, names: tuple[str, ...] = ("app:v1",), **run: object) -> SmallImage:
    layers = [Layer({f"file{number}": content}) for number, content in enumerate(contents)]
    return SmallImage(layers, dict(run), names)


@pytest.mark.parametrize("kind", ["docker_archive", "oci_archive", "oci_folder"])
def test_an_image_is_loaded_from_what_the_usual_tools_write(tmp_path: Path, store: ImageStore, kind: str) -> None:
    image = small(b"lower", b"upper", Cmd=["run"])
    (loaded,) = load(getattr(image, kind)(tmp_path / "image"), store)
    found = store.find("app:v1")
    assert found is not None
    assert (found.id, found.names, found.run) == (image.id, ("docker.io/library/app:v1",), {"Cmd": ["run"]})
    assert found.id == loaded.id
    assert [layer.joinpath(f"file{1 - number}").read_bytes() for number, layer in enumerate(found.layers)] == [
        b"upper",
        b"lower",
    ]


def test_an_image_is_found_by_its_digest_too(tmp_path: Path, store: ImageStore) -> None:
    image = small(b"x")
    load(image.docker_archive(tmp_path / "image"), store)
    assert store.find(image.id) is not None
    assert store.find(image.id.removeprefix("sha256:")[:12]) is not None
    assert store.find("other") is None


def test_a_new_image_of_the_same_name_takes_it_over(tmp_path: Path, store: ImageStore) -> None:
    load(small(b"old").docker_archive(tmp_path / "1"), store)
    load(small(b"new").docker_archive(tmp_path / "2"), store)
    found = store.find("app:v1")
    assert found is not None
    assert (found.layers[0] / "file0").read_bytes() == b"new"


def test_layers_go_with_the_last_image_that_has_them(tmp_path: Path, store: ImageStore) -> None:
    load(small(b"shared", b"one", names=("one",)).docker_archive(tmp_path / "1"), store)
    load(small(b"shared", b"two", names=("two",)).docker_archive(tmp_path / "2"), store)
    assert len(list((store.root / "layers").iterdir())) == 3
    assert store.remove("one")
    assert len(list((store.root / "layers").iterdir())) == 2
    assert store.remove("two")
    assert not store.remove("two")
    assert list((store.root / "layers").iterdir()) == list((store.root / "blobs/sha256").iterdir()) == []


def test_an_image_in_use_keeps_its_layers_until_it_no_longer_is(tmp_path: Path, store: ImageStore) -> None:
    image = small(b"x")
    load(image.docker_archive(tmp_path / "image"), store)
    held = store.hold(image.id)
    assert store.is_held(image.id)
    store.remove("app:v1")
    assert store.find("app:v1") is None
    assert len(list((store.root / "layers").iterdir())) == 1
    os.close(held)
    assert not store.is_held(image.id)
    load(small(b"y", names=("y",)).docker_archive(tmp_path / "y"), store)
    store.remove("y")
    assert list((store.root / "layers").iterdir()) == []


def test_content_that_was_changed_is_not_taken(tmp_path: Path, store: ImageStore) -> None:
    image = small(b"x")
    folder = image.oci_folder(tmp_path / "image")
    config = folder / "blobs" / image.id.replace(":", "/")
    config.write_bytes(config.read_bytes() + b" ")
    with pytest.raises(WrongDigest):
        load(folder, store)
    assert store.images() == []


def test_a_file_that_holds_no_image_says_so(tmp_path: Path, store: ImageStore) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(BadArchive):
        load(tmp_path / "text", store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadArchive, match="holds neither an OCI layout"):
        load(tmp_path / "empty", store)


def test_of_several_platforms_this_machines_is_taken() -> None:
    other, mine = {"platform": {"os": "linux", "architecture": "none"}}, {"platform": {"os": "linux"}}
    assert choose([other, mine]) is mine
    with pytest.raises(BadArchive, match="no match for platform"):
        choose([other])


def test_what_is_written_can_be_read_by_people(tmp_path: Path, store: ImageStore) -> None:
    load(small(b"x").docker_archive(tmp_path / "image"), store)
    assert list(json.loads((store.root / "names.json").read_text())) == ["docker.io/library/app:v1"]
