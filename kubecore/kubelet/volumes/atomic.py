"""Files of a volume, replaced all at once so that a reader never sees half an update.

    volume/..2026_01_01_12_00_00.123456/key     the files of one generation
    volume/..data -> ..2026_01_01_12_00_00.123456
    volume/key -> ..data/key

Renaming a fresh `..data` over the old one switches every file in one step (upstream
`pkg/volume/util/atomic_writer.go`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from kubecore.kubelet.volumes.ownership import give_tree, granted

_DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """`mode` as chmod(2) takes it. `owner`: the file's user, where we may give it away; None for ours."""

    content: bytes
    mode: int = 0o644
    owner: int | None = None


def write_atomically(volume: Path, files: Mapping[str, File], now: datetime, *, group: int | None = None) -> bool:
    """Make the volume hold exactly these files (relative paths), which the `group` may read. False when it did
    already."""
    if group is not None:
        files = {name: replace(file, mode=granted(file.mode, writable=False)) for name, file in files.items()}
    current = _current(volume)
    if current is not None and _holds(current, files):
        return False
    generation = volume / now.strftime("..%Y_%m_%d_%H_%M_%S.%f")
    if generation.exists():
        shutil.rmtree(generation)
    generation.mkdir(mode=0o755)
    generation.chmod(0o755)
    for relative, file in files.items():
        path = generation / relative
        _make_folders(generation, path.parent)
        path.write_bytes(file.content)
        path.chmod(file.mode)
        if file.owner is not None:
            with suppress(OSError):
                os.chown(path, file.owner, -1)
    if group is not None:
        give_tree(generation, group, writable=False)
    fresh = volume / "..data_tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(generation.name)
    fresh.replace(volume / _DATA)
    _link_files(volume, files)
    if current is not None:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _current(volume: Path) -> Path | None:
    try:
        return volume / os.readlink(volume / _DATA)  # noqa: PTH115 - the link's own text is wanted
    except OSError:
        return None


def _holds(generation: Path, files: Mapping[str, File]) -> bool:
    found: set[str] = set()
    for folder, _, names in os.walk(generation):
        for name in names:
            path = Path(folder) / name
            relative = str(path.relative_to(generation))
            wanted = files.get(relative)
            if wanted is None or path.read_bytes() != wanted.content or path.stat().st_mode & 0o7777 != wanted.mode:
                return False
            found.add(relative)
    return found == set(files)


def _make_folders(generation: Path, folder: Path) -> None:
    """Readable by whoever the container runs as, whatever our umask."""
    for part in reversed([folder, *folder.parents]):
        if generation in part.parents and not part.exists():
            part.mkdir()
            part.chmod(0o755)


def _link_files(volume: Path, files: Mapping[str, File]) -> None:
    """One link per first path component; those of files that are no more go."""
    wanted = {Path(relative).parts[0] for relative in files}
    for name in wanted:
        link = volume / name
        if not link.is_symlink():
            with suppress(FileExistsError):
                link.symlink_to(f"{_DATA}/{name}")
    for entry in volume.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
