"""Every watcher sees every revision once and in order, and every page of a list is of one moment, while 64 clients
write ten thousand objects and the server is killed and started again in the middle (API_SEMANTICS, line 37).
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.ports import free_port
from tests.support.process import RunningCluster, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OBJECTS, WRITERS, WATCHERS = 10_000, 64, 100
NAMESPACE = "/api/v1/namespaces/default"
PATH = f"{NAMESPACE}/configmaps"
LABELS = "stress=yes"


@dataclass
class Watched:
    """What one watcher has seen: revisions in the order they came, and the names with them."""

    revision: int
    seen: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Run:
    """The server at hand; it is replaced once. `written` holds the acknowledged names and their revisions."""

    cluster: RunningCluster
    port: int
    written: dict[str, int] = field(default_factory=dict)
    done: bool = False
    half: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def write(run: Run, session: aiohttp.ClientSession, names: list[str]) -> None:
    """Create each name; after a broken connection ask again, taking AlreadyExists for an earlier success."""
    for name in names:
        body = {"metadata": {"name": name, "labels": {"stress": "yes"}}, "data": {"value": "x" * 200}}
        while name not in run.written:
            try:
                async with session.post(run.url + PATH, json=body) as answer:
                    got = await answer.json()
                    if answer.status == 409:
                        async with session.get(f"{run.url}{PATH}/{name}") as existing:
                            got = await existing.json()
                    else:
                        assert answer.status == 201, got
                run.written[name] = int(got["metadata"]["resourceVersion"])
                if len(run.written) >= OBJECTS // 2:
                    run.half.set()
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def lines(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for chunk in answer.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield json.loads(line)


async def watch(run: Run, session: aiohttp.ClientSession, watched: Watched) -> None:
    """Watch on from the last revision seen, again and again, until all that was written has come."""
    while len(watched.seen) < OBJECTS:
        query = {"watch": "1", "resourceVersion": str(watched.revision), "labelSelector": LABELS}
        try:
            async with session.get(run.url + PATH, params=query) as answer:
                assert answer.status == 200, await answer.text()
                async for event in lines(answer):
                    assert event["type"] == "ADDED", event
                    made = event["object"]["metadata"]
                    watched.revision = int(made["resourceVersion"])
                    watched.seen.append((watched.revision, made["name"]))
                    if len(watched.seen) >= OBJECTS:
                        return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)


async def page_through(run: Run, session: aiohttp.ClientSession) -> list[dict[str, Any]] | None:
    """All pages of one list; None when the server went away or the token expired on the way."""
    items: list[dict[str, Any]] = []
    query = {"limit": "500", "labelSelector": LABELS}
    revision = ""
    while True:
        try:
            async with session.get(run.url + PATH, params=query) as answer:
                page = await answer.json()
                if answer.status == 410:
                    return None
                assert answer.status == 200, page
        except aiohttp.ClientError:
            return None
        revision = revision or page["metadata"]["resourceVersion"]
        assert page["metadata"]["resourceVersion"] == revision, "pages of one list show one revision"
        items += page["items"]
        if not page["metadata"].get("continue"):
            names = [item["metadata"]["name"] for item in items]
            assert names == sorted(set(names)), "a list shows every object once, in order"
            assert all(int(item["metadata"]["resourceVersion"]) <= int(revision) for item in items)
            return items
        query["continue"] = page["metadata"]["continue"]


async def list_all_the_time(run: Run, session: aiohttp.ClientSession) -> None:
    """Until all is written, and once more: on a slow machine none may be complete before."""
    complete, fewest = 0, 0
    while not run.done or not complete:
        acknowledged = set(run.written)
        items = await page_through(run, session)
        if items is None:
            await asyncio.sleep(0.05)
            continue
        assert acknowledged <= {item["metadata"]["name"] for item in items}, "a list shows every acknowledged write"
        assert len(items) >= fewest, "lists never go back in time"
        complete, fewest = complete + 1, len(items)


async def restart_in_the_middle(run: Run, data_dir: Path) -> None:
    await run.half.wait()
    run.cluster.stop(number=signal.SIGKILL)
    run.cluster = await asyncio.to_thread(start, data_dir, "--nodes", "0", "--insecure-port", str(run.port))


async def test_every_watcher_sees_every_revision_once_and_in_order_across_a_restart(tmp_path: Path) -> None:
    port = free_port()
    run = Run(start(tmp_path, "--nodes", "0", "--insecure-port", str(port)), port)
    try:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
            async with session.get(run.url + PATH) as answer:
                revision = int((await answer.json())["metadata"]["resourceVersion"])
            watchers = [Watched(revision) for _ in range(WATCHERS)]
            names = [f"object-{number:05}" for number in range(OBJECTS)]
            lister = asyncio.create_task(list_all_the_time(run, session))
            async with asyncio.TaskGroup() as group:
                for watched in watchers:
                    group.create_task(watch(run, session, watched))
                for writer in range(WRITERS):
                    group.create_task(write(run, session, names[writer::WRITERS]))
                group.create_task(restart_in_the_middle(run, tmp_path))
            run.done = True
            await lister
            expected = sorted((revision, name) for name, revision in run.written.items())
            for watched in watchers:
                assert watched.seen == expected
    finally:
        run.cluster.stop(number=signal.SIGKILL)
