"""What a store promises about writes."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from kubecore.api import schemas
from kubecore.api.schemas import DeferredValue
from kubecore.apiserver.storage.interface import (
    DELETE,
    PUT,
    KeyExists,
    KeyMissing,
    RevisionConflict,
    Storage,
    StorageClosed,
    ValueUnmade,
)

from .conftest import Harness, value

A = "/registry/core/configmaps/default/a"
B = "/registry/core/configmaps/default/b"


async def test_a_created_value_carries_its_revision(storage: Storage) -> None:
    before = storage.revision
    stored = await storage.create(A, value("one"))
    assert stored.revision == before + 1
    assert stored.value == b'{"rv":"%d","v":"one"}' % stored.revision
    assert await storage.get(A) == stored
    assert storage.revision == stored.revision


async def test_creating_a_taken_key_fails_and_changes_nothing(harness: Harness) -> None:
    first = await harness.storage.create(A, value("one"))
    with pytest.raises(KeyExists):
        await harness.storage.create(A, value("two"))
    assert await harness.storage.get(A) == first
    assert harness.storage.revision == first.revision
    assert len(harness.sink.events) == 1


async def test_update_replaces_the_value_of_the_expected_revision(storage: Storage) -> None:
    first = await storage.create(A, value("one"))
    second = await storage.update(A, value("two"), expected=first.revision)
    assert second.revision > first.revision
    assert await storage.get(A) == second


async def test_update_of_a_stale_revision_conflicts_and_tells_the_actual_one(storage: Storage) -> None:
    first = await storage.create(A, value("one"))
    second = await storage.update(A, value("two"), expected=first.revision)
    with pytest.raises(RevisionConflict) as caught:
        await storage.update(A, value("three"), expected=first.revision)
    assert caught.value.actual == second.revision
    assert await storage.get(A) == second


async def test_update_and_delete_of_a_missing_key_fail(storage: Storage) -> None:
    with pytest.raises(KeyMissing):
        await storage.update(A, value("x"), expected=1)
    with pytest.raises(KeyMissing):
        await storage.delete(A, value("x"), expected=1)


async def test_delete_publishes_the_last_value_with_the_deletions_revision(harness: Harness) -> None:
    first = await harness.storage.create(A, value("one"))
    gone = await harness.storage.delete(A, value("one"), expected=first.revision)
    assert await harness.storage.get(A) is None
    event = harness.sink.events[-1]
    assert (event.type, event.key, event.revision, event.previous) == (DELETE, A, gone.revision, first.revision)
    assert event.value == b'{"rv":"%d","v":"one"}' % gone.revision


async def test_a_deleted_key_can_be_created_again(storage: Storage) -> None:
    first = await storage.create(A, value("one"))
    await storage.delete(A, value("one"), expected=first.revision)
    again = await storage.create(A, value("two"))
    assert again.revision == first.revision + 2


async def test_of_concurrent_updates_of_one_revision_exactly_one_wins(storage: Storage) -> None:
    first = await storage.create(A, value("one"))
    tries = [storage.update(A, value(str(n)), expected=first.revision) for n in range(20)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, RevisionConflict) for result in results if isinstance(result, BaseException))


async def test_every_write_is_published_once_in_revision_order_before_its_answer(harness: Harness) -> None:
    async def write(number: int) -> None:
        stored = await harness.storage.create(f"/registry/core/pods/ns/{number}", value("x"))
        assert harness.sink.events[-1].revision >= stored.revision

    await asyncio.gather(*(write(number) for number in range(500)))
    revisions = [event.revision for event in harness.sink.events]
    assert revisions == sorted(set(revisions))
    assert len(revisions) == 500
    assert all(event.type == PUT for event in harness.sink.events)


async def test_a_failed_write_in_a_batch_leaves_the_others_alone(storage: Storage) -> None:
    await storage.create(A, value("taken"))
    results = await asyncio.gather(
        storage.create(B, value("one")),
        storage.create(A, value("two")),
        storage.create(B + "b", value("three")),
        return_exceptions=True,
    )
    assert isinstance(results[1], KeyExists)
    assert not isinstance(results[0], BaseException)
    assert not isinstance(results[2], BaseException)


async def test_a_waiter_that_gives_up_does_not_undo_the_write(storage: Storage) -> None:
    async def write() -> None:
        await storage.create(A, value("one"))

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.get(A) is not None


async def test_a_closed_store_finishes_what_it_has_and_refuses_the_rest(harness: Harness) -> None:
    pending = [harness.storage.create(f"/registry/core/pods/ns/{n}", value("x")) for n in range(10)]
    await harness.storage.close()
    assert len(await asyncio.gather(*pending)) == 10
    with pytest.raises(StorageClosed):
        await harness.storage.create(A, value("late"))


async def test_who_gives_up_closing_has_closed_the_store_and_nobody_waits_for_ever(harness: Harness) -> None:
    pending = [harness.storage.create(f"/registry/core/pods/ns/{n}", value("x")) for n in range(10)]
    closing = asyncio.create_task(harness.storage.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert [stored.revision for stored in await asyncio.gather(*pending)] == list(range(1, 11))
    assert (await harness.reopen()).revision == 10


def deferred(text: object) -> DeferredValue:
    """A ConfigMap with that under the key `text`."""
    opening = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{'
    body = opening + b'"name":"a"},"data":{"text":' + orjson.dumps(text) + b"}}"
    return schemas.default().created(
        "v1/ConfigMap", body, b'{"uid":"1"}', by=("me", "2026-01-01T00:00:00Z"), opening=opening
    )


async def test_a_deferred_value_is_stored_as_it_is_worked_out(storage: Storage) -> None:
    first = await storage.create(A, deferred("one"))
    assert first.value == deferred("one").render(first.revision)
    assert orjson.loads(first.value)["data"] == {"text": "one"}
    second = await storage.update(A, deferred("two"), expected=first.revision)
    assert await storage.get(A) == second == (second.revision, deferred("two").render(second.revision))
    last = await storage.delete(A, deferred("three"), expected=second.revision)
    assert last.value == deferred("three").render(last.revision)


async def test_a_deferred_value_may_be_what_is_stored_with_other_members(storage: Storage) -> None:
    opening = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{'
    first = await storage.create(A, deferred("one"))
    changes = b'{"metadata":{"resourceVersion":null,"labels":{"a":"b"}},"data":{"text":"two"}}'
    merged = DeferredValue.merged(first.value, changes, opening=opening)
    second = await storage.update(A, merged, expected=first.revision)
    before, after = orjson.loads(first.value), orjson.loads(second.value)
    assert after["metadata"] == {
        **before["metadata"],
        "resourceVersion": str(second.revision),
        "labels": {"a": "b"},
    }
    assert after["data"] == {"text": "two"}


async def test_what_is_merged_with_no_object_is_no_value(storage: Storage) -> None:
    for stored, changes in ((b"{}", b"{}"), (b"no", b"{}"), (b'{"metadata":{}}', b"[]")):
        with pytest.raises(ValueUnmade):
            await storage.create(A, DeferredValue.merged(stored, changes, opening=b'{"metadata":{'))


async def test_a_deferred_value_that_turns_out_not_to_be_there_fails_its_own_write_only(harness: Harness) -> None:
    storage = harness.storage
    first, unmade, last = (
        storage.create(A, value("one")),
        storage.create(B, deferred(5)),
        storage.create("/c/", value("x")),
    )
    with pytest.raises(ValueUnmade):
        await unmade
    assert (await last).revision == (await first).revision + 1
    assert await storage.get(B) is None
    assert len(harness.sink.events) == 2
    with pytest.raises(ValueError, match="there is no such value"):
        deferred(5).render(1)
