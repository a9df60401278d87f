"""Variables from files of volumes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.pods.env_files import BadFile, value_in_file, value_of
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]

FORMAT = "invalid environment variable format"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A='1'", "1"),
        ("# A='0'\n\n  A='1'  # one\nA='2'\n", "1"),
        ("B='x'\nA='$B \\n \"'", '$B \\n "'),
        ("A='one\n\n two'\nB='3'", "one\n\n two"),
        ("A= 'spaced'\nA='1'", ""),
        ("A=''", ""),
        ("B='1'", ""),
    ],
)
def test_a_value_is_what_stands_between_single_quotes(text: str, value: str) -> None:
    assert value_of(text, "A") == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nA", f"{FORMAT} at line 2: missing '='"),
        ("='1'", f"{FORMAT} at line 1: empty variable name"),
        ("A ='1'", f"{FORMAT} at line 1: whitespace before '=' is not allowed"),
        ("A=1", f"{FORMAT} at line 1: value must be enclosed in single quotes"),
        ("A=", f"{FORMAT} at line 1: value must be enclosed in single quotes"),
        ("B='1' 2\nA='1'", f"{FORMAT} at line 1: unexpected content after closing quote"),
        ("B='1\n2' 3\nA='1'", f"{FORMAT} at line 2: unexpected content after closing quote"),
        ("B='1'\nA='1\n2\n", f"{FORMAT} starting at line 2: unclosed single quote"),
    ],
)
def test_what_is_written_otherwise_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadFile) as refused:
        value_of(text, "A")
    assert str(refused.value) == told


def test_no_link_leads_out_of_the_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "secret").write_text("A='secret'")
    (volume / "env").write_text("A='own'")
    for name, leads_to in (("up", "../secret"), ("out", str(tmp_path / "secret")), ("within", "/env")):
        (volume / name).symlink_to(leads_to)
    assert value_in_file(volume, "within", "A") == "own"
    for name in ("up", "out", "../secret", str(tmp_path / "secret")):
        with pytest.raises(FileNotFoundError):
            value_in_file(volume, name, "A")


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    most, last = 1 << 20, "\nA='last'\n"
    (tmp_path / "env").write_text("#".ljust(most - len(last), "-") + last)
    assert value_in_file(tmp_path, "env", "A") == "last"
    (tmp_path / "env").write_text("#".ljust(most - len(last) + 1, "-") + last)
    with pytest.raises(BadFile, match="larger than 1048576 bytes"):
        value_in_file(tmp_path, "env", "A")


@pytest.mark.parametrize("kind", ["folder", "pipe", "pipe that somebody writes to"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "env"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK) if "writes" in kind else -1
    with pytest.raises(BadFile, match="not a regular file"):
        value_in_file(tmp_path, "env", "A")
    if writer >= 0:
        os.close(writer)


async def test_a_container_waits_for_a_file_where_there_is_a_pipe(node: Node) -> None:
    env = [{"name": "NAME", "valueFrom": {"fileKeyRef": {"volumeName": "data", "path": "env", "key": "A"}}}]
    await node.run(container(env=env), initContainers=[container("writes")], volumes=[{"name": "data", "emptyDir": {}}])
    os.mkfifo(folder(node) / "env")
    writer = os.open(folder(node) / "env", os.O_RDWR | os.O_NONBLOCK)
    node.runtime.end("writes")
    await node.settle()
    os.close(writer)
    waiting = {"reason": "CreateContainerConfigError", "message": "couldn't parse env file"}
    assert node.container()["state"]["waiting"] == waiting


async def run(node: Node, text: str | None, *, optional: bool = False, medium: str = "") -> None:
    reference = {"volumeName": "data", "path": "env", "key": "A", "optional": optional}
    env = [{"name": "NAME", "valueFrom": {"fileKeyRef": reference}}, {"name": "OF", "value": "of $(NAME)"}]
    volumes = [{"name": "data", "emptyDir": {"medium": medium}}]
    await node.run(container(env=env), initContainers=[container("writes")], volumes=volumes)
    if text is not None:
        (folder(node) / "env").write_text(text)
    node.runtime.end("writes")
    await node.settle()


def folder(node: Node) -> Path:
    return node.root / "pods" / node.pod()["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/data"


async def test_a_container_has_what_an_init_container_has_written(node: Node) -> None:
    await run(node, "A='written'")
    environment = dict(node.runtime.config("main").environment)
    assert (environment["NAME"], environment["OF"]) == ("written", "of written")


@pytest.mark.parametrize("text", [None, "B='1'"])
async def test_what_is_optional_may_be_missing(node: Node, text: str | None) -> None:
    await run(node, text, optional=True)
    assert "NAME" not in dict(node.runtime.config("main").environment)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "couldn't parse env file"),
        ("A=unquoted", "couldn't parse env file"),
        ("B='1'", 'environment variable key "A" not found in file "{}/env"'),
    ],
)
async def test_a_container_waits_for_what_is_missing(node: Node, text: str | None, told: str) -> None:
    await run(node, text)
    waiting = {"reason": "CreateContainerConfigError", "message": told.format(folder(node))}
    assert node.container()["state"]["waiting"] == waiting
    (folder(node) / "env").write_text("A='now'")
    await node.settle(10)
    assert dict(node.runtime.config("main").environment)["NAME"] == "now"


async def test_a_volume_in_memory_is_told_not_to_do(node: Node) -> None:
    await run(node, None, medium="Memory")
    told = 'the volume "data" referenced by FileKeyRef is in memory, which is not supported'
    assert node.container()["state"]["waiting"] == {"reason": "CreateContainerConfigError", "message": told}
