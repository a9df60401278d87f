"""What a store promises about reads, history and restarts."""

from __future__ import annotations

import pytest

from kubecore.apiserver.storage.interface import DELETE, PUT, Compacted, Storage, StorageError

from .conftest import Harness, value

PODS = "/registry/core/pods/"


async def _fill(storage: Storage, *names: str) -> None:
    for name in names:
        await storage.create(PODS + name, value(name))


async def test_list_gives_keys_in_byte_order_at_one_revision(storage: Storage) -> None:
    await _fill(storage, "ns/b", "ns/a", "ns-2/a", "a/z")
    page = await storage.list(PODS)
    assert [key for key, _ in page.items] == [PODS + name for name in ("a/z", "ns-2/a", "ns/a", "ns/b")]
    assert page.revision == storage.revision


async def test_a_prefix_does_not_match_a_longer_resource_name(storage: Storage) -> None:
    await _fill(storage, "ns/a")
    await storage.create("/registry/core/podtemplates/ns/a", value("x"))
    assert len((await storage.list(PODS)).items) == 1


async def test_pages_go_on_from_next(storage: Storage) -> None:
    await _fill(storage, "ns/a", "ns/b", "ns/c")
    page = await storage.list(PODS, limit=2)
    assert [key for key, _ in page.items] == [PODS + "ns/a", PODS + "ns/b"]
    assert page.next is not None
    rest = await storage.list(PODS, start=page.next, limit=2, revision=page.revision)
    assert [key for key, _ in rest.items] == [PODS + "ns/c"]
    assert rest.next is None


async def test_a_list_at_an_older_revision_sees_what_was_there(storage: Storage) -> None:
    await _fill(storage, "ns/a", "ns/b", "ns/c")
    at = storage.revision
    a = await storage.get(PODS + "ns/a")
    b = await storage.get(PODS + "ns/b")
    assert a is not None and b is not None
    await storage.update(PODS + "ns/a", value("changed"), expected=a.revision)
    await storage.delete(PODS + "ns/b", value("b"), expected=b.revision)
    await _fill(storage, "ns/d")
    page = await storage.list(PODS, revision=at)
    assert [(key[-1], stored) for key, stored in page.items][:2] == [("a", a), ("b", b)]
    assert [key[-1] for key, _ in page.items] == ["a", "b", "c"]


async def test_events_since_a_revision_are_complete_and_in_order(storage: Storage) -> None:
    await _fill(storage, "ns/a", "ns/b")
    since = storage.revision
    a = await storage.get(PODS + "ns/a")
    assert a is not None
    changed = await storage.update(PODS + "ns/a", value("2"), expected=a.revision)
    await storage.delete(PODS + "ns/a", value("2"), expected=changed.revision)
    events = await storage.events(since)
    assert [(event.type, event.revision) for event in events] == [(PUT, since + 1), (DELETE, since + 2)]
    assert events[0].value == changed.value
    assert len(await storage.events(since, limit=1)) == 1


async def test_everything_survives_a_restart(harness: Harness) -> None:
    await _fill(harness.storage, "ns/a", "ns/b")
    before = await harness.storage.list(PODS)
    storage = await harness.reopen()
    assert storage.revision == before.revision
    assert await storage.list(PODS) == before
    assert len(await storage.events(0)) == 2
    stored = await storage.create(PODS + "ns/c", value("c"))
    assert stored.revision == before.revision + 1


async def test_compaction_drops_history_and_keeps_values(harness: Harness) -> None:
    storage = harness.storage
    await _fill(storage, "ns/a", "ns/b", "ns/c")
    a = await storage.get(PODS + "ns/a")
    assert a is not None
    await storage.update(PODS + "ns/a", value("2"), expected=a.revision)
    at = storage.revision
    await storage.compact(at - 1)
    assert harness.sink.compactions == [at - 1]
    with pytest.raises(Compacted):
        await storage.events(at - 2)
    with pytest.raises(Compacted):
        await storage.list(PODS, revision=at - 2)
    assert len(await storage.events(at - 1)) == 1
    assert len((await storage.list(PODS)).items) == 3
    reopened = await harness.reopen()
    assert reopened.compacted == at - 1


async def test_reads_within_the_window_find_values_that_compaction_passed(storage: Storage) -> None:
    await _fill(storage, "ns/a", "ns/b", "ns/c")
    first = await storage.list(PODS)
    stored = dict(first.items)
    changed = await storage.update(PODS + "ns/a", value("2"), expected=stored[PODS + "ns/a"].revision)
    await storage.compact(first.revision)
    await storage.delete(PODS + "ns/b", value("b"), expected=stored[PODS + "ns/b"].revision)
    assert await storage.list(PODS, revision=first.revision) == first
    await storage.compact(changed.revision)
    page = await storage.list(PODS, revision=changed.revision)
    assert dict(page.items) == {**stored, PODS + "ns/a": changed}


async def test_compacting_what_is_compacted_or_yet_to_come_fails(storage: Storage) -> None:
    await _fill(storage, "ns/a", "ns/b")
    await storage.compact(1)
    with pytest.raises(Compacted):
        await storage.compact(1)
    with pytest.raises(StorageError):
        await storage.compact(99)
    with pytest.raises(StorageError):
        await storage.list(PODS, revision=99)
