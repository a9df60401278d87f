# ruff: noqa: PTH115
"""What the stacked layers of an image hold, looked at without mounting them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_MOST_LINKS = 40
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


class LinkLoop(Exception):
    """The text is the path."""


class ImageView:
    """`layers`: folders as overlayfs stacks them, the uppermost first. Paths are absolute, the image's root being /."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = [str(one) for one in layers]

    def resolve(self, path: str) -> str:
        """With the image's links followed, as far as it exists. Raises LinkLoop."""
        found: list[str] = []
        waiting = [one for one in reversed(path.split("/")) if one not in ("", ".")]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                del found[-1:]
                continue
            real = self._find([*found, part])
            if real is None or not stat.S_ISLNK(os.lstat(real).st_mode):
                found.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise LinkLoop(path)
            target = os.readlink(real)
            if target.startswith("/"):
                found.clear()
            waiting += [one for one in reversed(target.split("/")) if one not in ("", ".")]
        return "/" + "/".join(found)

    def read(self, path: str) -> bytes | None:
        """A file's content, None if there is none."""
        real = self._find([one for one in self.resolve(path).split("/") if one])
        with suppress(OSError):
            if real is not None and stat.S_ISREG(os.lstat(real).st_mode):
                return Path(real).read_bytes()
        return None

    def is_folder(self, path: str) -> bool | None:
        """None if there is nothing."""
        real = self._find([one for one in self.resolve(path).split("/") if one])
        return None if real is None else stat.S_ISDIR(os.lstat(real).st_mode)

    def _find(self, parts: Sequence[str]) -> str | None:
        """Where the uppermost of that name really is."""
        for layer in self._layers:
            path, opaque = layer, False
            for number, part in enumerate(parts, 1):
                opaque = opaque or _is_opaque(path)
                path = f"{path}/{part}"
                try:
                    about = os.lstat(path)
                except (FileNotFoundError, NotADirectoryError):
                    break
                if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
                    return None
                if number == len(parts):
                    return path
                if not stat.S_ISDIR(about.st_mode):
                    return None
            if not parts:
                return path
            if opaque:
                return None
        return None


def _is_opaque(folder: str) -> bool:
    for name in _OPAQUE:
        with suppress(OSError):
            if os.getxattr(folder, name, follow_symlinks=False) == b"y":
                return True
    return False
