"""Conditions of pods, and deletions with them: what is asked for in one turn of the loop goes to the API server in one
call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kubecore.api.amendment import Amendment
from kubecore.client.client import Client, Outcomes


class PodAmender:
    """Outcomes are as of `Client.amend_pods`: None where pods have to be patched, and deleted. `spawn` runs a
    coroutine, which does not raise, beside whoever asks, under that name."""

    def __init__(self, client: Client, spawn: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        self._client = client
        self._spawn = spawn
        self._asked: list[tuple[Sequence[Amendment], Callable[[Outcomes | None], None]]] = []

    def ask(self, amendments: Sequence[Amendment], then: Callable[[Outcomes | None], None]) -> None:
        """`then`, which must not raise, is told how they ended."""
        self._asked.append((amendments, then))
        if len(self._asked) == 1:
            self._spawn(self._send(), "scheduler amends pods")

    async def outcomes(self, amendments: Sequence[Amendment]) -> Outcomes | None:
        told: asyncio.Future[Outcomes | None] = asyncio.get_running_loop().create_future()
        self.ask(amendments, lambda outcomes: None if told.done() else told.set_result(outcomes))
        return await told

    async def _send(self) -> None:
        asked, self._asked = self._asked, []
        amendments = [one for some, _ in asked for one in some]
        outcomes: Outcomes | None
        try:
            outcomes = await self._client.amend_pods(amendments)
        except Exception as error:
            outcomes = [error] * len(amendments)
        begin = 0
        for some, then in asked:
            end = begin + len(some)
            then(None if outcomes is None else outcomes[begin:end])
            begin = end
