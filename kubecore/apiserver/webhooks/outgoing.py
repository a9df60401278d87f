"""Requests of ours to other servers, made in Rust: their answers come back to the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from kubecore import _native

log = logging.getLogger(__name__)


class Outgoing:
    """For the loop in which it is used first; `close` ends it. `what` names in logs what goes wrong unexpectedly."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._calls: _native.OutgoingCalls | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def calls(self) -> _native.OutgoingCalls:
        if self._calls is None:
            self._loop = asyncio.get_running_loop()
            self._calls = _native.OutgoingCalls(self._loop)
            self._loop.add_reader(self._calls.fileno(), self._drain)
        return self._calls

    def _drain(self) -> None:
        assert self._calls is not None
        self._tell(self._calls.drain())

    def _tell(self, failures: Iterable[BaseException]) -> None:
        for failure in failures:
            log.error("%s failed", self._what, exc_info=failure)

    def close(self) -> None:
        """Whoever waits for an answer gets none any more."""
        if self._calls is not None and self._loop is not None:
            self._loop.remove_reader(self._calls.fileno())
            self._tell(self._calls.close())
            self._calls = None
