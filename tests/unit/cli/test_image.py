"""`kubecore image` where it cannot do what it was asked for."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubecore.cli.main import app


def refused(*arguments: str | Path) -> str:
    """What it says."""
    done = CliRunner().invoke(app, ["image", *map(str, arguments)])
    assert done.exit_code == 1
    return done.output


def test_a_file_that_is_not_there_is_named_in_a_line(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert refused("load", missing, "--data-dir", tmp_path) == f"kubecore: {missing}: No such file or directory\n"


@pytest.mark.parametrize("content", [b"", b"no archive\n" * 1000])
def test_what_is_no_archive_is_named_in_a_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert refused("load", file, "--data-dir", tmp_path) == f"kubecore: {file} is no tar archive\n"


def test_an_archive_without_images_is_named_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "file.tar"
    tarfile.open(file, "w").close()
    said = f"kubecore: {file} holds neither an OCI layout nor what `docker save` writes\n"
    assert refused("load", file, "--data-dir", tmp_path) == said


def test_an_image_that_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    assert refused("rm", "app:v1", "--data-dir", tmp_path) == "kubecore: no such image: app:v1\n"


@pytest.mark.parametrize("arguments", [["ls"], ["rm", "busybox"]])
def test_a_data_directory_that_is_none_is_told_in_a_line(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").touch()
    said = refused(*arguments, "--data-dir", tmp_path / "file")
    assert said.startswith("kubecore: ") and said.endswith(": Not a directory\n")
