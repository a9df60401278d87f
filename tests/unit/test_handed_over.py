"""Requests are tasks that end with their listener."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kubecore.handed_over import HandedOver


class Listener:
    """Hands over a request when it begins, and another one while it shuts down, which takes until `closed` is set."""

    def __init__(self) -> None:
        self.event = os.eventfd(1, os.EFD_NONBLOCK)
        self.closing, self.closed = threading.Event(), threading.Event()
        self._paths = ["/late", "/first"]

    def fileno(self) -> int:
        return self.event

    def drain(self) -> list[Any]:
        os.eventfd_read(self.event)
        return [SimpleNamespace(path=self._paths.pop(), method="GET")]

    def shutdown(self, grace_seconds: float) -> None:
        self.closing.set()
        os.eventfd_write(self.event, 1)
        self.closed.wait(30)


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.closed.set()
    os.close(one.event)


def handed_over(listener: Listener, answer: Callable[[Any], Any]) -> HandedOver:
    made = HandedOver(listener, answer, "test")  # type: ignore[arg-type]
    made.begin()
    return made


async def test_requests_that_come_at_the_very_end_are_cancelled_and_waited_for(listener: Listener) -> None:
    begun, ended = asyncio.Event(), []

    async def answer(request: Any) -> None:
        (begun if request.path == "/first" else listener.closed).set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):  # its end takes a while
                await asyncio.to_thread(lambda: None)
            ended.append(request.path)

    requests = handed_over(listener, answer)
    await begun.wait()
    await requests.end()
    assert set(ended) == {"/first", "/late"}


async def test_who_is_at_its_end_already_is_not_cancelled_again(listener: Listener) -> None:
    begun, second_round, ended = asyncio.Event(), asyncio.Event(), []

    async def answer(request: Any) -> None:
        (begun if request.path == "/first" else listener.closed).set()
        try:
            await asyncio.Event().wait()
        finally:
            if request.path == "/late":
                second_round.set()
            await second_round.wait()
            ended.append(request.path)

    requests = handed_over(listener, answer)
    await begun.wait()
    await requests.end()
    assert set(ended) == {"/first", "/late"}


async def test_nothing_listens_on_the_loop_after_an_end_that_is_broken_off(listener: Listener) -> None:
    async def answer(request: Any) -> None:
        await asyncio.Event().wait()

    ending = asyncio.create_task(handed_over(listener, answer).end())
    await asyncio.to_thread(listener.closing.wait, 30)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    listener.closed.set()
    assert not asyncio.get_running_loop().remove_reader(listener.event)
