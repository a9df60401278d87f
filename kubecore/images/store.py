"""Images on this machine's disk.

blobs/sha256/HEX      configurations and manifests, by content
layers/HEX/           unpacked layers, by the digest of what is unpacked; one for all images that have it
names.json            name -> image
lock                  held by whoever changes any of it
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from kubecore.images.digests import check, digest_of
from kubecore.images.layers import unpack
from kubecore.images.references import Reference
from kubecore.images.view import ImageView
from kubecore.whole_file import write_whole

Object = dict[str, Any]

_LAYER_NAME = 24
"""Digits of a digest that name a layer's folder: short, since overlayfs takes no more than a page of options."""


@dataclass(frozen=True)
class Image:
    """`id`: the digest of its configuration. `layers`: their folders, the uppermost first. `digests`: under which
    registries have it, `REPOSITORY@DIGEST`."""

    id: str
    config: Object
    layers: tuple[Path, ...]
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def run(self) -> Object:
        """What it says of the processes that are started from it."""
        return self.config.get("config") or {}

    @property
    def size(self) -> int:
        """Bytes of its layers, whoever else has them."""
        return sum(
            one.stat(follow_symlinks=False).st_blocks * 512 for layer in self.layers for one in _all_files(layer)
        )

    @property
    def told(self) -> str:
        """As `imageID` of a container's status."""
        return self.digests[0] if self.digests else self.id

    def view(self) -> ImageView:
        return ImageView(self.layers)


@dataclass
class _Record:
    config: str
    digests: list[str] = field(default_factory=list)


class ImageStore:
    """`root` is made when something is put in. Several processes may use it at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # ---- looking

    def find(self, text: str) -> Image | None:
        """By name, by name and digest, or by the image's own digest, in full or its first digits."""
        names = self._names()
        reference = Reference.parse(text) if not _is_id(text) else None
        if reference is None:
            wanted = text.removeprefix("sha256:")
            ids = {one.config for one in names.values() if one.config.removeprefix("sha256:").startswith(wanted)}
            return self._image(ids.pop(), names) if len(ids) == 1 else None
        if reference.digest:
            known = f"{reference.repository}@{reference.digest}"
            found = next((one.config for one in names.values() if known in one.digests), None)
        else:
            record = names.get(str(reference))
            found = record.config if record is not None else None
        return None if found is None else self._image(found, names)

    def stamp(self) -> object:
        """Another one whenever images have come or gone."""
        try:
            about = (self.root / "names.json").stat()
        except OSError:
            return None
        return about.st_ino, about.st_mtime_ns, about.st_size

    def images(self) -> list[Image]:
        names = self._names()
        ids = dict.fromkeys(one.config for one in names.values())
        found = (self._image(one, names) for one in ids)
        return [one for one in found if one is not None]

    def _image(self, config_digest: str, names: Mapping[str, _Record]) -> Image | None:
        try:
            config = json.loads(self._blob(config_digest).read_bytes())
        except FileNotFoundError:
            return None
        layers = tuple(self.layer(one) for one in reversed(config.get("rootfs", {}).get("diff_ids") or []))
        if not all(one.is_dir() for one in layers):
            return None
        mine = [(name, one) for name, one in names.items() if one.config == config_digest]
        digests = tuple(dict.fromkeys(digest for _, one in mine for digest in one.digests))
        return Image(config_digest, config, layers, tuple(name for name, _ in mine if "@" not in name), digests)

    def layer(self, diff_id: str) -> Path:
        return self.root / "layers" / diff_id.removeprefix("sha256:")[:_LAYER_NAME]

    def has_layer(self, diff_id: str) -> bool:
        return self.layer(diff_id).is_dir()

    # ---- in use

    def hold(self, image_id: str) -> int:
        """A descriptor: as long as somebody has it open, the image stays. Raises FileNotFoundError."""
        descriptor = os.open(self._blob(image_id), os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with suppress(OSError):
            os.utime(self._blob(image_id))
        return descriptor

    def is_held(self, image_id: str) -> bool:
        with suppress(OSError), self._blob(image_id).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def last_used(self, image_id: str) -> float:
        """Seconds since the epoch; 0 for one that is not there."""
        with suppress(OSError):
            return self._blob(image_id).stat().st_mtime
        return 0.0

    # ---- changing

    def add_layer(self, diff_id: str, layer: BinaryIO) -> None:
        """Unpack it, if it is not there. Raises BadLayer, WrongDigest, OSError."""
        place = self.layer(diff_id)
        if place.is_dir():
            return
        temporary = place.with_name(f"new-{os.getpid()}-{secrets.token_hex(4)}")
        temporary.mkdir(parents=True, mode=0o755)
        temporary.chmod(0o755)
        try:
            unpack(layer, temporary, diff_id=diff_id)
            try:
                temporary.rename(place)
            except OSError:
                if not place.is_dir():  # somebody else was faster
                    raise
        finally:
            remove_tree(temporary)

    def add_image(self, config: bytes, names: Sequence[str], digests: Sequence[str] = ()) -> Image:
        """Its layers have been added. Without a name it goes by its digest."""
        digest = digest_of(config)
        check(digest_of(config), digest)
        with self._locked():
            self._put_blob(digest, config)
            known = self._names()
            for name in names or [f"<none>@{digest}"]:
                known[name] = _Record(digest, list(digests))
            self._write_names(known)
            found = self._image(digest, known)
        if found is None:
            raise FileNotFoundError(f"layers of image {digest} are missing")
        return found

    def remove(self, text: str) -> bool:
        """A name, or with an image's digest all of its names; what no name needs goes. False if there is none."""
        image = self.find(text)
        if image is None:
            return False
        with self._locked():
            known = self._names()
            full = None if _is_id(text) else str(Reference.parse(text))
            for name in [one for one, record in known.items() if record.config == image.id]:
                if full in (None, name) or "@" in text:
                    del known[name]
            self._write_names(known)
            self._collect(known)
        return True

    def remove_image(self, image_id: str) -> None:
        """With all of its names."""
        with self._locked():
            known = {name: one for name, one in self._names().items() if one.config != image_id}
            self._write_names(known)
            self._collect(known)

    def _collect(self, names: Mapping[str, _Record]) -> None:
        blobs = {f"sha256:{blob.name}" for blob in _entries(self.root / "blobs/sha256")}
        named = {one.config for one in names.values()}
        kept = named | {one for one in blobs - named if self.is_held(one)}
        images = [image for one in kept if (image := self._image(one, names)) is not None]
        layers = {layer for image in images for layer in image.layers}
        for folder in _entries(self.root / "layers"):
            if folder not in layers and not folder.name.startswith("new-"):
                remove_tree(folder)
        for digest in blobs - kept:
            self._blob(digest).unlink(missing_ok=True)

    def _blob(self, digest: str) -> Path:
        return self.root / "blobs/sha256" / digest.removeprefix("sha256:")

    def _put_blob(self, digest: str, data: bytes) -> None:
        path = self._blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)

    def _names(self) -> dict[str, _Record]:
        try:
            told = json.loads((self.root / "names.json").read_bytes())
        except FileNotFoundError:
            return {}
        return {name: _Record(one["config"], one.get("digests") or []) for name, one in told.items()}

    def _write_names(self, names: Mapping[str, _Record]) -> None:
        told = {name: {"config": one.config, "digests": one.digests} for name, one in sorted(names.items())}
        write_whole(self.root / "names.json", json.dumps(told, indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_id(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return 6 <= len(digits) <= 64 and (text != digits or len(digits) in (12, 64)) and _is_hex(digits)


def _is_hex(text: str) -> bool:
    return all(one in "0123456789abcdef" for one in text)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _all_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _all_files(Path(entry.path))
            else:
                yield entry


def remove_tree(folder: Path) -> None:
    """Folders that nobody may look into as well, such as overlayfs leaves behind."""
    if os.geteuid() != 0:
        _open_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    with suppress(OSError):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            folder.chmod(0o700)
        with os.scandir(folder) as entries:
            inner = [Path(one.path) for one in entries if one.is_dir(follow_symlinks=False)]
        for one in inner:
            _open_up(one)
