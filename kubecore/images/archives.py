"""Reads images from files: `docker save`'s archives, OCI archives, and OCI layouts that are folders."""

from __future__ import annotations

import json
import platform
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from kubecore.images.digests import check, digest_of
from kubecore.images.references import InvalidReference, Reference
from kubecore.images.store import Image, ImageStore

Object = dict[str, Any]

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class BadArchive(Exception):
    """The text says what is wrong with the file."""


class _Files(Protocol):
    """The files of an archive or a folder."""

    def open(self, name: str) -> BinaryIO:
        """Raises KeyError."""


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        path = self._root / name
        if ".." in name.split("/") or not path.is_file():
            raise KeyError(name)
        return path.open("rb")


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {one.name.removeprefix("./"): one for one in archive.getmembers()}

    def open(self, name: str) -> BinaryIO:
        member = self._members[name]
        for _ in range(8):  # `docker save` links a layer that two images have
            if not (member.issym() or member.islnk()):
                break
            folder = name.rpartition("/")[0] if member.issym() else ""
            name = _join(folder, member.linkname)
            member = self._members[name]
        file = self._archive.extractfile(member)
        if file is None:
            raise KeyError(name)
        return cast(BinaryIO, file)


def _join(folder: str, relative: str) -> str:
    parts: list[str] = []
    for part in f"{folder}/{relative}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def load(path: Path, store: ImageStore, *, name: str = "") -> list[Image]:
    """All images of the file or folder. `name`: for one that has none. Raises BadArchive, BadLayer, WrongDigest,
    OSError."""
    with _opened(path) as files:
        if (listed := _json(files, "index.json")) is not None and _json(files, "oci-layout") is not None:
            return _load_layout(files, listed, store, name)
        if (listed := _json(files, "manifest.json")) is not None:
            return [_load_docker(files, one, store, name) for one in listed]
    raise BadArchive(f"{path} holds neither an OCI layout nor what `docker save` writes")


@contextmanager
def _opened(path: Path) -> Iterator[_Files]:
    if path.is_dir():
        yield _Folder(path)
        return
    try:
        archive = tarfile.open(path)  # noqa: SIM115
    except tarfile.ReadError as error:  # whose text is a line for each compression that was tried
        raise BadArchive(f"{path} is no tar archive") from error
    with archive:
        try:
            yield _Tar(archive)
        except tarfile.TarError as error:
            raise BadArchive(f"{path}: {error}") from error


def _read(files: _Files, name: str) -> bytes:
    try:
        with files.open(name) as file:
            return file.read()
    except KeyError:
        raise BadArchive(f"{name} is missing") from None


def _json(files: _Files, name: str) -> Any:
    """None if it is not there."""
    try:
        with files.open(name) as file:
            return json.load(file)
    except KeyError:
        return None
    except ValueError as error:
        raise BadArchive(f"{name}: {error}") from error


def _load_docker(files: _Files, listed: Object, store: ImageStore, name: str) -> Image:
    config = _read(files, listed["Config"])
    names = [str(Reference.parse(one)) for one in listed.get("RepoTags") or ([name] if name else [])]
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    _add_layers(files, list(zip(diff_ids, listed["Layers"], strict=True)), store)
    return store.add_image(config, names)


def _load_layout(files: _Files, index: Object, store: ImageStore, name: str) -> list[Image]:
    found = []
    for descriptor in index.get("manifests") or []:
        annotations = descriptor.get("annotations") or {}
        manifest = _manifest(files, descriptor)
        config = _blob(files, manifest["config"]["digest"])
        layers = [_blob_name(one["digest"]) for one in manifest["layers"]]
        _add_layers(files, list(zip(json.loads(config)["rootfs"]["diff_ids"], layers, strict=True)), store)
        names = _full_names([annotations.get(key, "") for key in _NAMES], name)
        found.append(store.add_image(config, names))
    if not found:
        raise BadArchive("there is no image in it")
    return found


def _full_names(told: Sequence[str], name: str) -> list[str]:
    """A tag alone, which many tools write, names nothing without a repository."""
    for one in (name, *told):
        if one and ("/" in one or ":" in one or one == name):
            try:
                return [str(Reference.parse(one))]
            except InvalidReference:
                continue
    return []


def _manifest(files: _Files, descriptor: Object) -> Object:
    """Of this machine's architecture where there are several."""
    manifest: Object = json.loads(_blob(files, descriptor["digest"]))
    if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
        return _manifest(files, choose(manifest["manifests"]))
    return manifest


def choose(manifests: Sequence[Object]) -> Object:
    """The one for this machine. Raises BadArchive."""
    wanted = architecture()
    for one in manifests:
        platform_ = one.get("platform") or {}
        if (platform_.get("os", "linux"), platform_.get("architecture", wanted)) == ("linux", wanted):
            return one
    raise BadArchive(f"no match for platform in manifest: linux/{wanted}")


def architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _add_layers(files: _Files, layers: Sequence[tuple[str, str]], store: ImageStore) -> None:
    for diff_id, name in layers:
        if not store.has_layer(diff_id):
            try:
                with files.open(name) as file:
                    store.add_layer(diff_id, file)
            except KeyError:
                raise BadArchive(f"{name} is missing") from None


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _blob(files: _Files, digest: str) -> bytes:
    data = _read(files, _blob_name(digest))
    check(digest_of(data), digest)
    return data
