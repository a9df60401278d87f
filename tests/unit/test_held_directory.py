"""One process at a time uses a data directory."""

import os
from pathlib import Path

import pytest

from kubecore.held_directory import DirectoryInUse, HeldDirectory


def test_who_holds_a_directory_is_told_to_the_next(tmp_path: Path) -> None:
    held = HeldDirectory(tmp_path / "new")
    with pytest.raises(DirectoryInUse, match=rf"new is in use by process {os.getpid()}$"):
        HeldDirectory(tmp_path / "new")
    held.release()
    HeldDirectory(tmp_path / "new").release()


def test_releasing_twice_releases_nobody_elses(tmp_path: Path) -> None:
    first = HeldDirectory(tmp_path)
    first.release()
    second = HeldDirectory(tmp_path)
    first.release()
    with pytest.raises(DirectoryInUse):
        HeldDirectory(tmp_path)
    second.release()


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        HeldDirectory(tmp_path / "file" / "below")
