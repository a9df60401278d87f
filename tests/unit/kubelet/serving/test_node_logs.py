"""Files and folders of the node's logs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.serving.node_logs import Listing, OpenLog, find


async def said(found: Listing | OpenLog | None) -> bytes:
    assert isinstance(found, OpenLog)
    return b"".join([piece async for piece in found.pieces])


async def test_a_file_is_read_as_it_was_when_it_was_opened(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"x" * 1_000_000)
    found = find(tmp_path, "/a.log")
    with (tmp_path / "a.log").open("ab") as file:
        file.write(b"more")
    assert await said(found) == b"x" * 1_000_000


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.log", b"text", "text/plain; charset=utf-8"),
        ("0.log.20260101-000000", b"text", "text/plain; charset=utf-8"),
        ("page.html", b"<p>", "text/html; charset=utf-8"),
        ("wtmp", b"a\0b", "application/octet-stream"),
        ("old.log.gz", b"\x1f\x8b", "application/octet-stream"),
    ],
)
async def test_what_it_is_follows_from_its_name_and_its_beginning(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found = find(tmp_path, name)
    assert await said(found) == content
    assert isinstance(found, OpenLog)
    assert found.content_type == told


def test_folders_are_lists_of_links_in_order(tmp_path: Path) -> None:
    (tmp_path / "pods").mkdir()
    (tmp_path / "b&c?.log").touch()
    found = find(tmp_path, "/")
    assert isinstance(found, Listing)
    assert found.body.decode().splitlines()[-3:] == [
        '<a href="b%26c%3F.log">b&amp;c?.log</a>',
        '<a href="pods/">pods/</a>',
        "</pre>",
    ]


def test_what_is_neither_file_nor_folder_is_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert find(tmp_path, "pipe") is None
    assert find(tmp_path, "nul\0") is None


async def test_a_link_leads_within_the_folder_only(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "logs2").write_text("beside")
    (logs / "real.log").write_text("inside")
    (logs / "link").symlink_to(logs / "real.log")
    (logs / "out").symlink_to(tmp_path / "logs2")
    assert await said(find(logs, "link")) == b"inside"
    assert find(logs, "out") is None
    assert find(logs, "../logs2") is None


def opened(folder: Path) -> list[Path]:
    """What this process holds of it."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one for looking
            found.append(one.readlink())
    return [one for one in found if one.is_relative_to(folder)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_file_is_left_open_that_nobody_reads(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").write_text("text")
    os.mkfifo(logs / "pipe")
    for path in ("/", "nothing", "../", "pipe", "a.log"):
        find(logs, path)
    assert opened(tmp_path) == []


async def test_nor_one_that_has_been_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("text")
    found = find(tmp_path, "a.log")
    assert opened(tmp_path) == [tmp_path / "a.log"]
    await said(found)
    assert opened(tmp_path) == []


def test_what_is_not_shown_is_not_opened_for_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and pipes notice that."""
    logs = tmp_path / "logs"
    logs.mkdir()
    os.mkfifo(tmp_path / "outside")
    os.mkfifo(logs / "inside")
    (logs / "link").symlink_to(tmp_path / "outside")
    read, really = [], os.open

    def watched(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if not flags & os.O_PATH:
            read.append(path)
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", watched)
    for path in ("../outside", "link", "inside"):
        assert find(logs, path) is None
    assert read == []
