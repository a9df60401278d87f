"""Selection by fields that only a conversion webhook can tell: by their values in the version of the path."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.apiserver.conftest import Api
from tests.integration.apiserver.definitions import crd, define, events, version
from tests.support.conversion_webhook import ConversionWebhook, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
_numbers = itertools.count(1)


def _schema(**fields: str) -> JSON:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def _renamed(obj: JSON, wanted: str) -> JSON:
    """`size` of v1, a text, is the number `amount` of v2."""
    spec = dict(obj.get("spec") or {})
    if wanted.endswith("/v2") and "size" in spec:
        spec["amount"] = int(spec.pop("size"))
    elif wanted.endswith("/v1") and "amount" in spec:
        spec["size"] = str(spec.pop("amount"))
    return {**obj, "apiVersion": wanted, "spec": spec}


class Boxes:
    """A kind of its own group, stored in v1 and looked at in v2."""

    def __init__(self, api: Api, group: str, webhook: ConversionWebhook) -> None:
        self.api = api
        self.group = group
        self.webhook = webhook
        self.old = f"{group}/v1/boxes"
        self.new = f"{group}/v2/boxes"

    async def create(self, name: str, size: str, **labels: str) -> str:
        obj = {"apiVersion": f"{self.group}/v1", "kind": "Box", "metadata": {"name": name, "labels": labels}}
        status, made = await self.api.create(self.old, {**obj, "spec": {"size": size}})
        assert status == 201, made
        return str(made["metadata"]["resourceVersion"])

    async def resize(self, name: str, size: str) -> str:
        status, made = await self.api.patch(self.old, name, {"spec": {"size": size}})
        assert status == 200, made
        return str(made["metadata"]["resourceVersion"])

    async def named(self, **query: str) -> list[str]:
        status, listed = await self.api.list(self.new, **query)
        assert status == 200, listed
        return [item["metadata"]["name"] for item in listed["items"]]


@pytest_asyncio.fixture(loop_scope="module")
async def boxes(api: Api, cluster: Api) -> AsyncIterator[Boxes]:
    async with serving(ConversionWebhook(convert=_renamed)) as webhook:
        group = f"boxes{next(_numbers)}.example.com"
        client = {"url": webhook.url, "caBundle": webhook.ca_bundle}
        conversion = {
            "strategy": "Webhook",
            "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client},
        }
        versions = [
            version("v1", _schema(size="string"), selectableFields=[{"jsonPath": ".spec.size"}]),
            version("v2", _schema(amount="integer"), storage=False, selectableFields=[{"jsonPath": ".spec.amount"}]),
        ]
        await define(cluster, crd("boxes", "Box", *versions, group=group, conversion=conversion))
        yield Boxes(api, group, webhook)


async def told(
    boxes: Boxes, until: tuple[str, str], *, begun: asyncio.Event | None = None, **query: str
) -> list[tuple[str, str, Any]]:
    """Type, name and amount of what a watch in v2 says, up to that event; `begun` is set with the first."""
    found = []
    async with asyncio.timeout(120):
        async for kind, obj in events(boxes.api, boxes.new, **query):
            if kind == "BOOKMARK":
                continue
            name = obj.get("metadata", {}).get("name", "")
            found.append((kind, name, obj.get("spec", {}).get("amount")))
            if begun is not None:
                begun.set()
            if (kind, name) == until:
                break
    return found


async def test_11_a_list_selects_by_the_fields_of_its_version(boxes: Boxes) -> None:
    for name, size in (("a", "1"), ("b", "2"), ("c", "2")):
        await boxes.create(name, size, of="test" if name == "c" else "others")
    assert await boxes.named(fieldSelector="spec.amount=2") == ["b", "c"]
    assert await boxes.named(fieldSelector="spec.amount!=2") == ["a"]
    assert await boxes.named(fieldSelector="spec.amount=2,metadata.name!=b") == ["c"]
    assert await boxes.named(fieldSelector="spec.amount=2", labelSelector="of=others") == ["b"]
    assert await boxes.named(fieldSelector="spec.amount=3") == []
    status, refused = await boxes.api.list(boxes.new, fieldSelector="spec.size=2")
    assert (status, refused["message"]) == (400, "field label not supported: spec.size")
    assert (await boxes.api.list(boxes.old, fieldSelector="spec.size=2"))[1]["items"][0]["spec"] == {"size": "2"}


async def test_06_pages_of_such_a_list_are_full_and_of_one_revision(boxes: Boxes) -> None:
    for number in range(7):
        await boxes.create(f"box-{number}", str(number % 2))
    query = {"fieldSelector": "spec.amount=0", "limit": "2"}
    _, first = await boxes.api.list(boxes.new, **query)
    assert [item["metadata"]["name"] for item in first["items"]] == ["box-0", "box-2"]
    assert "remainingItemCount" not in first["metadata"]
    await boxes.create("box-5a", "0")
    _, second = await boxes.api.list(boxes.new, **query, **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["box-4", "box-6"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert not second["metadata"].get("continue")
    assert await boxes.named(**query, resourceVersion="0") == ["box-0", "box-2", "box-4", "box-5a", "box-6"]


async def test_09_a_watch_tells_what_comes_into_such_a_selection_and_leaves_it(boxes: Boxes) -> None:
    await boxes.create("stays", "1")
    await boxes.create("other", "2")
    begun = asyncio.Event()
    seen = asyncio.create_task(told(boxes, ("DELETED", "stays"), begun=begun, fieldSelector="spec.amount=1"))
    async with asyncio.timeout(120):
        await begun.wait()
    await boxes.resize("other", "1")
    await boxes.resize("other", "3")
    await boxes.resize("other", "4")
    await boxes.api.patch(boxes.old, "stays", {"metadata": {"labels": {"a": "b"}}})
    await boxes.api.delete(boxes.old, "other")
    await boxes.api.delete(boxes.old, "stays")
    assert await seen == [
        ("ADDED", "stays", 1),
        ("ADDED", "other", 1),
        # As it was when it was last selected.
        ("DELETED", "other", 1),
        ("MODIFIED", "stays", 1),
        ("DELETED", "stays", 1),
    ]


async def test_37_a_watch_from_a_revision_knows_what_was_selected_then(boxes: Boxes) -> None:
    await boxes.create("stays", "1")
    revision = await boxes.create("leaves", "1")
    newest = await boxes.resize("leaves", "2")
    await boxes.create("comes", "1")
    found = await told(boxes, ("ADDED", "comes"), fieldSelector="spec.amount=1", resourceVersion=revision)
    assert found == [("DELETED", "leaves", 1), ("ADDED", "comes", 1)]
    found = await told(boxes, ("ADDED", "comes"), fieldSelector="spec.amount=1", resourceVersion=newest)
    assert found == [("ADDED", "comes", 1)]


async def test_a_collection_is_deleted_by_the_fields_of_its_version(boxes: Boxes) -> None:
    for name, size in (("a", "1"), ("b", "2")):
        await boxes.create(name, size)
    status, deleted = await boxes.api.delete(boxes.new, fieldSelector="spec.amount=2")
    assert (status, [item["metadata"]["name"] for item in deleted["items"]]) == (200, ["b"]), deleted
    assert await boxes.named() == ["a"]


async def test_nothing_of_a_collection_is_deleted_that_cannot_be_converted(boxes: Boxes) -> None:
    await boxes.create("a", "1")
    boxes.webhook.convert = lambda obj, wanted: {**obj, "kind": "Lie"}
    status, refused = await boxes.api.delete(boxes.new)
    assert status == 500, refused
    assert len((await boxes.api.list(boxes.old))[1]["items"]) == 1
