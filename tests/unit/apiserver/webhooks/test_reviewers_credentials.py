"""Whom webhooks see that review tokens, requests and images, or are told of events: the user of their kubeconfig."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from kubecore.api.kubeconfig import Kubeconfig, KubeconfigError
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed
from kubecore.clock import VirtualClock
from tests.support.http_peers import read_body, read_head, serving


def written(folder: Path, user: dict[str, object], port: int = 1) -> Kubeconfig:
    file = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}/"}}],
        "users": [{"name": "us", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "us"}}],
        "current-context": "it",
    }
    file.write_text(yaml.safe_dump(document))
    return Kubeconfig.load(file)


class Seen:
    """What each request was authorized by, and what they are answered."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.status = "200 OK"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            await read_body(reader, head)
            self.said.append(head.headers.get("authorization", ""))
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()


@asynccontextmanager
async def asked(folder: Path, user: dict[str, object], clock: VirtualClock) -> AsyncIterator[tuple[Reviewer, Seen]]:
    seen = Seen()
    async with serving(seen.handle) as port:
        reviewer = Reviewer(written(folder, user, port), clock)
        try:
            yield reviewer, seen
        finally:
            await reviewer.close()


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({}, ""),
    ],
)
async def test_the_user_is_shown(tmp_path: Path, user: dict[str, object], said: str) -> None:
    async with asked(tmp_path, user, VirtualClock()) as (reviewer, seen):
        await reviewer.send(b"{}")
        assert seen.said == [said]


async def test_a_tokens_file_is_read_again_when_it_is_old_or_the_token_was_refused(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", VirtualClock()
    file.write_text("first")
    async with asked(tmp_path, {"tokenFile": "token"}, clock) as (reviewer, seen):
        await reviewer.send(b"{}")
        file.write_text("second")
        await reviewer.send(b"{}")
        await clock.advance(60)
        await reviewer.send(b"{}")
        file.write_text("third")
        seen.status = "401 Unauthorized"
        await clock.advance(1)
        with pytest.raises(ReviewFailed, match="provide credentials"):
            await reviewer.send(b"{}")
        seen.status = "200 OK"
        await reviewer.send(b"{}")
        assert seen.said == [f"Bearer {one}" for one in ("first", "first", "second", "second", "third")]


@pytest.mark.parametrize("how", ["exec", "auth-provider"])
def test_credentials_that_nobody_can_get_are_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(KubeconfigError, match=f"credentials by {how} are not supported"):
        Reviewer(written(tmp_path, {how: {"command": "login"}}), VirtualClock())
