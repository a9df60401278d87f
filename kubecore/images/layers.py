# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH115, PTH123, PTH211
"""Unpacks layers of images into folders that overlayfs can stack.

A layer is a tar file, in which `.wh.NAME` says that NAME of the layers below is gone, and `.wh..wh..opq` that all of
its folder is (OCI image specification, `layer.md`). Overlayfs has a character device 0/0 for the one, and an extended
attribute of the folder for the other (Linux `Documentation/filesystems/overlayfs.rst`).

Who made the layer is not to be trusted: nothing is written outside of the folder, whatever names and links it holds.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from kubecore.images.digests import CHUNK_BYTES, check

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_MOST_LINKS = 40
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class BadLayer(Exception):
    """The text says what is wrong with it."""


class _Hashed:
    """A file that knows the hash of what was read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


def unpack(layer: BinaryIO, folder: Path, *, diff_id: str = "", as_root: bool | None = None) -> str:
    """Into an empty folder; returns the digest of the uncompressed layer. `as_root`: users, groups and devices are
    kept, by default if we are root. Raises BadLayer, WrongDigest where it is not `diff_id`, OSError."""
    hashed = _Hashed(_uncompressed(layer))
    unpacking = _Unpacking(folder, os.geteuid() == 0 if as_root is None else as_root)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, hashed), mode="r|", bufsize=CHUNK_BYTES) as archive:
            for member in archive:
                unpacking.take(archive, member)
        while hashed.read(CHUNK_BYTES):  # what follows the archive's end counts, too
            pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, zstd.ZstdError, EOFError) as error:
        raise BadLayer(f"failed to read layer: {error}") from error
    unpacking.finish()
    found = f"sha256:{hashed.hash.hexdigest()}"
    if diff_id:
        check(found, diff_id)
    return found


def _uncompressed(layer: BinaryIO) -> IO[bytes]:
    start = layer.read(4)
    layer.seek(0)
    if start.startswith(_ZSTD):
        return cast(IO[bytes], zstd.ZstdFile(layer))
    return cast(IO[bytes], gzip.GzipFile(fileobj=layer)) if start.startswith(_GZIP) else layer


@dataclass
class _Unpacking:
    folder: Path
    as_root: bool
    _times: list[tuple[str, int]] = field(default_factory=list)

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            if member.isdir():
                self._give(str(self.folder), member)
            return
        parent = self._parent(parts[:-1])
        name = parts[-1]
        if name == _OPAQUE:
            attribute = "trusted.overlay.opaque" if self.as_root else "user.overlay.opaque"
            os.setxattr(parent, attribute, b"y")
        elif name.startswith(_WHITEOUT):
            path = f"{parent}/{name.removeprefix(_WHITEOUT)}"
            _remove(path)
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        else:
            self._make(archive, member, f"{parent}/{name}")

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if member.isdir():
            if not _is_folder(path):
                _remove(path)
                os.mkdir(path)
            self._times.append((path, int(member.mtime)))
        else:
            _remove(path)
            if not self._make_other(archive, member, path):
                return
        self._give(path, member)

    def _make_other(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bool:
        """False for what has no owner and mode of its own."""
        if member.isreg():
            source = archive.extractfile(member)
            with open(path, "wb") as target:
                while source is not None and (data := source.read(CHUNK_BYTES)):
                    target.write(data)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            parts = _parts(member.linkname)
            if not parts:
                raise BadLayer(f"invalid hard link {member.name!r}")
            os.link(f"{self._parent(parts[:-1])}/{parts[-1]}", path, follow_symlinks=False)
            return False
        elif member.isfifo():
            os.mkfifo(path)
        elif self.as_root and (member.ischr() or member.isblk()):
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(path, kind, os.makedev(member.devmajor, member.devminor))
        else:
            return False
        return True

    def _give(self, path: str, member: tarfile.TarInfo) -> None:
        if self.as_root:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_XATTR)
            if name != key and not name.startswith(("trusted.", "user.overlay.")):
                with suppress(OSError):  # a file system without them
                    os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777 | (0 if self.as_root else 0o600 | (0o100 if member.isdir() else 0)))
        if not member.isdir():
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def finish(self) -> None:
        for path, when in reversed(self._times):
            with suppress(OSError):
                os.utime(path, (when, when))

    def _parent(self, parts: list[str]) -> str:
        """The folder, made as far as it is missing. Links on the way are read as if ours were the root."""
        return make_inside(str(self.folder), parts)


def make_inside(root: str, parts: list[str]) -> str:
    """The folder at a path within `root`, made as far as it is missing; no link leads out of it. Raises BadLayer."""
    found: list[str] = []
    waiting = list(reversed(parts))
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del found[-1:]
            continue
        path = "/".join([root, *found, part])
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            os.mkdir(path, 0o755)
            mode = stat.S_IFDIR
        if stat.S_ISLNK(mode):
            links += 1
            target = os.readlink(path)
            if links > _MOST_LINKS:
                raise BadLayer(f"too many links in {'/'.join(parts)!r}")
            if target.startswith("/"):
                found.clear()
            waiting += [one for one in reversed(target.split("/")) if one not in ("", ".")]
        elif stat.S_ISDIR(mode):
            found.append(part)
        elif stat.S_ISCHR(mode):  # a whiteout of this layer: the folder is a new one
            os.unlink(path)
            waiting.append(part)
        else:
            raise BadLayer(f"{'/'.join(parts)!r} lies within a file")
    return "/".join([root, *found])


def _parts(name: str) -> list[str]:
    parts = [one for one in PurePosixPath(name).parts if one not in ("/", ".")]
    if ".." in parts:
        raise BadLayer(f"invalid name {name!r}")
    return parts


def _is_folder(path: str) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def _remove(path: str) -> None:
    """What is there, of an earlier entry of the same layer."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            for entry in _entries(path):
                _remove(entry)
            os.rmdir(path)
        else:
            os.unlink(path)


def _entries(folder: str) -> Iterator[str]:
    with os.scandir(folder) as found:
        yield from [one.path for one in found]
