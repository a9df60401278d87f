"""Makes small images: files of one's own, and programs of this machine with the libraries they need."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubecore.images.archives import architecture

Object = dict[str, Any]

PROGRAMS = ("sh", "cat", "echo", "env", "grep", "head", "id", "ls", "mkdir", "pwd", "rm", "seq", "sleep", "tail")
FURTHER = ("touch", "true", "stat", "setsid", "unshare", "tr", "tty", "test", "hostname", "sed", "wc", "mount")


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Layer:
    """Entries of a tar file in order. Content None is a folder; text that begins with `->` a symbolic link, with `=>` a
    hard one."""

    entries: Mapping[str, bytes | str | None]
    modes: Mapping[str, int] = field(default_factory=dict)
    owners: Mapping[str, int] = field(default_factory=dict)

    def tar(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in self.entries.items():
                archive.addfile(*self._member(name, content))
        return buffer.getvalue()

    def _member(self, name: str, content: bytes | str | None) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
        member = tarfile.TarInfo(name)
        member.uid = member.gid = self.owners.get(name, 0)
        member.mode = self.modes.get(name, 0o755)
        if content is None:
            member.type = tarfile.DIRTYPE
        elif isinstance(content, str):
            member.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
            member.linkname = content[2:]
        else:
            member.size = len(content)
            return member, io.BytesIO(content)
        return member, None


def programs(names: Iterable[str] = (*PROGRAMS, *FURTHER)) -> Layer:
    """Those of this machine, at their places, with their libraries."""
    files: dict[str, bytes | str | None] = {"tmp": None}
    for name in names:
        found = shutil.which(name)
        if found is None:
            continue
        files[f"bin/{name}"] = Path(found).resolve().read_bytes()
        told = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+)", told):
            files.setdefault(library.lstrip("/"), Path(library).read_bytes())
    return Layer(files, modes={"tmp": 0o1777})


@dataclass
class SmallImage:
    layers: Sequence[Layer]
    run: Object = field(default_factory=dict)
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.tars = [one.tar() for one in self.layers]
        rootfs = {"type": "layers", "diff_ids": [digest(one) for one in self.tars]}
        told = {"architecture": architecture(), "os": "linux", "config": self.run, "rootfs": rootfs}
        self.config = json.dumps(told).encode()

    @property
    def id(self) -> str:
        return digest(self.config)

    def docker_archive(self, path: Path) -> Path:
        files = {"config.json": self.config, **{f"{number}/layer.tar": one for number, one in enumerate(self.tars)}}
        layers = [f"{number}/layer.tar" for number in range(len(self.tars))]
        listed = [{"Config": "config.json", "RepoTags": list(self.names) or None, "Layers": layers}]
        return _archive(path, {**files, "manifest.json": json.dumps(listed).encode()})

    def blobs(self) -> dict[str, bytes]:
        """By digest, the manifest last."""
        layers = [gzip.compress(one, mtime=0) for one in self.tars]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"digest": self.id, "mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": [
                {"digest": digest(one), "size": len(one), "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
                for one in layers
            ],
        }
        blobs = [self.config, *layers, json.dumps(manifest).encode()]
        return {digest(one): one for one in blobs}

    def layout(self) -> dict[str, bytes]:
        """Files of an OCI layout."""
        blobs = self.blobs()
        manifest = list(blobs)[-1]
        annotations = {"org.opencontainers.image.ref.name": self.names[0]} if self.names else {}
        index = {"schemaVersion": 2, "manifests": [{"digest": manifest, "annotations": annotations}]}
        files = {f"blobs/{name.replace(':', '/')}": data for name, data in blobs.items()}
        version = {"imageLayoutVersion": "1.0.0"}
        return {**files, "oci-layout": json.dumps(version).encode(), "index.json": json.dumps(index).encode()}

    def oci_archive(self, path: Path) -> Path:
        return _archive(path, self.layout())

    def oci_folder(self, path: Path) -> Path:
        for name, data in self.layout().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path


def _archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
