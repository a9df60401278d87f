"""The watch cache filled anew from a store; numbers in comments are lines of API_SEMANTICS.md."""

from __future__ import annotations

import json

import pytest

from tests.support.cache_harness import PUT, Harness, names, told


@pytest.fixture
def harness() -> Harness:
    return Harness()


def restarted(harness: Harness, events: list[tuple[int, str, int, bytes, bytes | None]], compacted: int) -> Harness:
    """A new cache with the same objects, its history refilled from a log after `compacted`."""
    again = Harness()
    bodies = harness.cache.list(harness.pods).items
    metadata = [json.loads(body)["metadata"] for body in bodies]
    items = [
        (f"default/{m['name']}", int(m["resourceVersion"]), body) for m, body in zip(metadata, bodies, strict=True)
    ]
    again.cache.load(again.pods, items)
    again.cache.compacted(compacted)
    log = [(again.pods, kind, key, revision, body) for kind, key, revision, body, _ in events]
    again.cache.replay(log, [previous for *_, previous in events])
    again.cache.progress(harness.revision)
    again.revision = harness.revision
    return again


def test_a_watch_goes_on_across_a_restart(harness: Harness) -> None:  # 37
    harness.put("a", app="web")
    harness.put("b", app="web")
    before = harness.cache.get(harness.pods, "default", "a")
    harness.put("a", app="db")
    after = harness.cache.get(harness.pods, "default", "a")
    assert before is not None and after is not None
    again = restarted(harness, [(PUT, "default/a", 3, after[1], before[1])], compacted=2)
    subscriptions = again.cache.subscriptions()
    subscriptions.watch(again.pods, label_selector="app=web", revision=2)
    subscriptions.watch(again.pods, revision=1)
    again.put("c", app="web")
    events = subscriptions.drain()
    assert told(events[:2]) == [("DELETED", "a", 3), ("ADDED", "c", 4)]
    assert json.loads(events[2][3])["reason"] == "Expired"
    assert names(again.cache.list(again.pods, at=2)) == ["a", "b"]


def test_without_a_log_watches_from_before_the_start_get_410(harness: Harness) -> None:
    harness.put("a")
    harness.put("a")
    again = Harness()
    stored = harness.cache.get(harness.pods, "default", "a")
    assert stored is not None
    again.cache.load(again.pods, [("default/a", *stored)])
    again.cache.progress(2)
    subscriptions = again.cache.subscriptions()
    subscriptions.watch(again.pods, revision=1)
    assert [kind for _, kind, _, _ in subscriptions.drain()] == ["ERROR"]
    subscriptions.watch(again.pods, revision=2)
    assert subscriptions.drain() == []
