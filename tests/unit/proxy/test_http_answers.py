"""What a proxy tells of itself: the addresses it listens on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubecore.proxy.http_answers import Answer, HttpAnswers

Listen = Callable[[HttpAnswers, Path], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    "listen",
    [lambda answers, folder: answers.listen_at(folder / "sock"), lambda answers, _: answers.listen("127.0.0.1", 0)],
    ids=["socket", "port"],
)
async def test_what_is_closed_while_it_begins_to_listen_leaves_no_socket_open(listen: Listen, tmp_path: Path) -> None:
    before = open_sockets()
    answers = HttpAnswers(lambda *_: Answer(b"ok"))
    beginning = asyncio.ensure_future(listen(answers, tmp_path))
    await asyncio.sleep(0)
    assert open_sockets() - before
    beginning.cancel()
    await asyncio.wait([beginning])
    answers.close()
    await asyncio.sleep(0)
    assert open_sockets() - before == set()  # of those before, of other tests, some may have ended meanwhile


def open_sockets() -> set[str]:
    """Of this process, by inode."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(one.readlink()))
    return {one for one in found if one.startswith("socket:")}
