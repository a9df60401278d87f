"""Files that may change: what they say counts when it is another thing, and can be used."""

from __future__ import annotations

from pathlib import Path

from kubecore.clock import VirtualClock
from kubecore.followed_file import FollowedFile


class Reader:
    def __init__(self) -> None:
        self.read: list[bytes] = []

    async def __call__(self, content: bytes) -> None:
        self.read.append(content)
        if content == b"nonsense":
            raise ValueError("nonsense")


async def test_each_other_content_is_told_once(tmp_path: Path) -> None:
    file, reader = tmp_path / "file", Reader()
    file.write_bytes(b"one")
    followed = FollowedFile(file, VirtualClock(), reader, known=b"one")
    for content in (b"one", b"two", b"nonsense", b"two"):
        file.write_bytes(content)
        await followed.look()
        await followed.look()
    assert reader.read == [b"two", b"nonsense", b"two"]


async def test_a_file_that_is_gone_for_a_while_changes_nothing(tmp_path: Path) -> None:
    file, reader = tmp_path / "file", Reader()
    file.write_bytes(b"one")
    told: list[bool] = []
    followed = FollowedFile(file, VirtualClock(), reader, known=b"one", told=told.append)
    await followed.look()
    file.unlink()
    await followed.look()
    await followed.look()
    assert told == [False]
    file.write_bytes(b"one")
    await followed.look()
    assert reader.read == []
