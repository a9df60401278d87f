"""A resource takes another's place in the cache while writes go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import orjson

from kubecore.api.scheme import Resource
from kubecore.apiserver.storage.cacher import Cacher
from kubecore.apiserver.storage.interface import DELETE, PUT, Event, Page, Stored

PREFIX = "/registry/example.com/widgets/"


def widgets() -> Resource:
    return Resource(
        group="example.com",
        version="v1",
        kind="Widget",
        plural="widgets",
        singular="widget",
        namespaced=False,
        verbs=frozenset(),
        short_names=(),
        categories=(),
        subresources={},
        api_version="example.com/v1",
        key="widgets.example.com",
        storage_key="widgets.example.com",
        storage_version="v1",
    )


def body(name: str, revision: int, **spec: Any) -> bytes:
    metadata = {"resourceVersion": str(revision), "name": name}
    return orjson.dumps({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": spec})


class SlowStorage:
    """Gives its page when told to."""

    def __init__(self, revision: int, *items: tuple[str, int]) -> None:
        entries = [(PREFIX + name, Stored(at, body(name, at))) for name, at in items]
        self.page = Page(revision, entries)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def list(self, prefix: str) -> Page:
        assert prefix == PREFIX
        self.asked.set()
        await self.go_on.wait()
        return self.page


def event(kind: int, name: str, revision: int) -> Event:
    return Event(kind, PREFIX + name, revision, body(name, revision), 0)


def listed(cacher: Cacher) -> list[tuple[str, str]]:
    found = [orjson.loads(item)["metadata"] for item in cacher.list("widgets.example.com").items]
    return [(one["name"], one["resourceVersion"]) for one in found]


async def replaced(cacher: Cacher, storage: SlowStorage, written: Sequence[Event]) -> None:
    task = asyncio.get_running_loop().create_task(
        cacher.replace(storage, widgets(), ["v1"], [])  # type: ignore[arg-type]
    )
    await storage.asked.wait()
    for one in written:
        cacher.publish(one.revision, [one])
    storage.go_on.set()
    await task


async def test_what_is_written_meanwhile_is_there_afterwards() -> None:
    cacher = Cacher()
    storage = SlowStorage(5, ("kept", 3), ("changed", 4), ("deleted", 5))
    written = [event(PUT, "changed", 6), event(PUT, "new", 7), event(DELETE, "deleted", 8)]
    await replaced(cacher, storage, written)
    assert listed(cacher) == [("changed", "6"), ("kept", "3"), ("new", "7")]


async def test_what_the_list_has_already_is_not_undone() -> None:
    cacher = Cacher()
    await replaced(cacher, SlowStorage(8, ("changed", 8)), [event(PUT, "changed", 7)])
    assert listed(cacher) == [("changed", "8")]


async def test_whoever_holds_the_resource_sees_the_new_one() -> None:
    cacher = Cacher()
    await replaced(cacher, SlowStorage(1, ("a", 1)), [])
    held = cacher.cached("widgets.example.com")
    assert held is not None
    before = held.number
    await replaced(cacher, SlowStorage(2, ("b", 2)), [])
    assert held.number != before
    assert listed(cacher) == [("b", "2")]


async def test_a_list_that_fails_leaves_everything_as_it_was() -> None:
    cacher = Cacher()
    await replaced(cacher, SlowStorage(1, ("a", 1)), [])

    async def fail(prefix: str) -> Page:
        raise OSError("disk")

    broken: Any = SimpleNamespace(list=fail)
    try:
        await cacher.replace(broken, widgets(), ["v1"], [])
    except OSError as error:
        assert str(error) == "disk"
    cacher.publish(9, [event(PUT, "b", 9)])
    assert listed(cacher) == [("a", "1"), ("b", "9")]


async def test_bytes_that_are_shown_otherwise_are_outdated_until_written() -> None:
    cacher = Cacher()
    storage = SlowStorage(2, ("old", 1), ("new", 2))
    storage.go_on.set()

    def normalize(value: bytes) -> bytes:
        return value.replace(b'"spec":{}', b'"spec":{"a":1}') if b'"old"' in value else value

    cached = await cacher.replace(storage, widgets(), ["v1"], [], normalize)  # type: ignore[arg-type]
    assert cached.outdated == {PREFIX + "old"}
    assert [orjson.loads(item)["spec"] for item in cacher.list("widgets.example.com").items] == [{}, {"a": 1}]
    cacher.publish(3, [event(PUT, "old", 3)])
    assert cached.outdated == set()


async def test_others_have_their_turn_while_many_objects_are_made_anew() -> None:
    """And what is written in such a turn is shown by the new rules, too."""
    cacher = Cacher()
    names = [f"n{number:04}" for number in range(1_000)]
    storage = SlowStorage(5, *((name, 4) for name in names))
    storage.go_on.set()
    made: list[bytes] = []
    begun = asyncio.Event()

    def normalize(value: bytes) -> bytes:
        made.append(value)
        begun.set()
        return value.replace(b'"spec":{}', b'"spec":{"new":true}')

    task = asyncio.get_running_loop().create_task(
        cacher.replace(storage, widgets(), ["v1"], [], normalize)  # type: ignore[arg-type]
    )
    await begun.wait()
    assert len(made) < len(names)
    changed, gone, new = names[0], names[1], "z"
    for one in (event(PUT, changed, 6), event(DELETE, gone, 7), event(PUT, new, 8)):
        cacher.publish(one.revision, [one])
    kept = [item for item in storage.page.items if item[0] not in (PREFIX + changed, PREFIX + gone)]
    later = [(PREFIX + name, Stored(at, body(name, at))) for name, at in ((changed, 6), (new, 8))]
    storage.page = Page(8, sorted(kept + later))
    await task
    shown = {one["metadata"]["name"]: one for one in map(orjson.loads, cacher.list("widgets.example.com").items)}
    assert sorted(shown) == sorted({*names, new} - {gone})
    assert all(one["spec"] == {"new": True} for one in shown.values())
    assert shown[changed]["metadata"]["resourceVersion"] == "6"
    cached = cacher.cached("widgets.example.com")
    assert cached is not None
    assert len(cached.outdated) == len(shown)


async def test_an_end_is_made_also_of_objects_that_are_all_written_again_and_again() -> None:
    cacher, lists = Cacher(), 0

    async def all_new(prefix: str) -> Page:
        nonlocal lists
        lists += 1
        return Page(lists, [(f"{PREFIX}n{number:04}", Stored(lists, body("n", lists))) for number in range(1_000)])

    busy: Any = SimpleNamespace(list=all_new)
    async with asyncio.timeout(30):
        await cacher.replace(busy, widgets(), ["v1"], [])
    assert lists <= 5
    assert len(listed(cacher)) == 1_000
