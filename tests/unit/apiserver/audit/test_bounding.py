"""How much is sent to an audit webhook at once, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from kubecore.apiserver.audit.bounding import Bucket, truncated
from kubecore.apiserver.audit.options import WebhookOptions
from kubecore.clock import VirtualClock

JSON = dict[str, Any]


def event(level: str = "RequestResponse", **more: Any) -> bytes:
    return orjson.dumps({"level": level, "auditID": "i", **more}, option=orjson.OPT_APPEND_NEWLINE)


def sent(*events: bytes, each: int = 200, together: int = 1000) -> list[list[JSON]]:
    options = WebhookOptions(event_bytes=each, batch_bytes=together)
    return [[orjson.loads(one) for one in batch] for batch in truncated(events, options)]


def test_an_event_that_is_too_large_loses_its_objects_and_says_so() -> None:
    large = event(requestObject={"a": "x" * 300}, responseObject={"b": "y"}, annotations={"why": "not"})
    annotations = {"why": "not", "audit.k8s.io/truncated": "true"}
    assert sent(large) == [[{"level": "RequestResponse", "auditID": "i", "annotations": annotations}]]


@pytest.mark.parametrize("level", ["Metadata", "Request"])
def test_an_event_that_is_too_large_without_them_is_not_sent(level: str) -> None:
    small = {"level": "Metadata", "auditID": "i"}
    assert sent(event(level, requestURI="/" * 300), event("Metadata")) == [[small]]


def test_events_that_fit_are_sent_as_they_are() -> None:
    whole = event(requestObject={"a": 1})
    assert sent(whole) == [[orjson.loads(whole)]]


def test_a_batch_that_is_too_large_is_split() -> None:
    one = event()
    batches = list(truncated([one] * 5, WebhookOptions(event_bytes=200, batch_bytes=2 * len(one))))
    assert [len(batch) for batch in batches] == [2, 2, 1]


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    clock = VirtualClock()
    bucket = Bucket(2.0, 3, clock)
    taken: list[float] = []
    began = clock.monotonic()

    async def take() -> None:
        for _ in range(6):
            await bucket.take()
            taken.append(clock.monotonic() - began)

    task = asyncio.create_task(take())
    await clock.advance(10)
    await task
    assert taken == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]
