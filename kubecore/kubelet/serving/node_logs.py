"""The node's log folder over HTTP, as /logs/ of kubelets has it: files, and folders as lists of links.

(kubernetes `pkg/kubelet/kubelet_pods.go`, ServeLogs; Go's `net/http` FileServer.)
"""

from __future__ import annotations

import asyncio
import html
import mimetypes
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import quote

_PIECE = 1 << 18
_SNIFFED = 512
_HEAD = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n'


@dataclass(frozen=True, slots=True)
class Listing:
    body: bytes


@dataclass(frozen=True, slots=True)
class OpenLog:
    """`pieces` holds the file."""

    content_type: str
    pieces: AsyncIterator[bytes]


def find(root: Path, path: str) -> Listing | OpenLog | None:
    """What is at `path` below `root`; None for what there is not, for what is neither file nor folder, and for what is
    elsewhere: a link may lead within `root` only. Reads files: not for the event loop."""
    try:
        place = os.open(root / path.lstrip("/"), os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return _found(place, root)
    except OSError:
        return None
    finally:
        os.close(place)


def _found(place: int, root: Path) -> Listing | OpenLog | None:
    # A place is judged that stays the same, as who may write to the folder could change links meanwhile; and before it
    # is opened, as devices and pipes notice that.
    known = Path(f"/proc/self/fd/{place}")
    real, top = known.readlink(), root.resolve()
    about = os.fstat(place)
    if real != top and top not in real.parents:
        return None
    if not stat.S_ISDIR(about.st_mode) and not stat.S_ISREG(about.st_mode):
        return None
    descriptor = os.open(known, os.O_RDONLY | os.O_CLOEXEC)
    if stat.S_ISDIR(about.st_mode):
        try:
            return Listing(_listed(descriptor))
        finally:
            os.close(descriptor)
    file = os.fdopen(descriptor, "rb", buffering=0)
    return OpenLog(_type_of(real.name, descriptor), _read(file, about.st_size))


def _listed(folder: int) -> bytes:
    """Folders end with a slash."""
    with os.scandir(folder) as entries:
        names = sorted(f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name for one in entries)
    lines = [f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names]
    return (_HEAD + "".join(lines) + "</pre>\n").encode("utf-8", "surrogateescape")


def _type_of(name: str, descriptor: int) -> str:
    """By its name, else by how it begins."""
    found, packed = mimetypes.guess_type(name)
    if packed or (found and not found.startswith("text/")):
        return found if found and not packed else "application/octet-stream"
    binary = b"\0" in os.pread(descriptor, _SNIFFED, 0)
    return "application/octet-stream" if binary else f"{found or 'text/plain'}; charset=utf-8"


async def _read(file: FileIO, left: int) -> AsyncIterator[bytes]:
    """As much as there was when it was opened. The file is closed with it, be it that nobody reads."""
    with file:
        while left > 0:
            piece = await asyncio.to_thread(file.read, min(_PIECE, left))
            if not piece:
                return
            left -= len(piece)
            yield piece
