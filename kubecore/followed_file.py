"""Files that somebody may replace while we run: certificates and configurations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore.clock import Clock

log = logging.getLogger("kubecore")

# Looked at, not listened to: files of mounted volumes are swapped as links of folders, which events do not tell of
# where the folder is another one afterwards. kube-apiserver looks every minute besides listening.
LOOK_EVERY_SECONDS = 1.0


class NotYet(Exception):
    """What the file says cannot be in force yet, but maybe a little later."""


class FollowedFile:
    """Calls `changed` with the content, each time it is another one. What `changed` raises is logged: what was in force
    stays so, until the file says something else, or what it says is tried again after NotYet."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        changed: Callable[[bytes], Awaitable[None]],
        *,
        known: bytes,
        told: Callable[[bool], None] | None = None,
    ) -> None:
        """`known` is the content that has been taken notice of already; whether another one could be put in force is
        `told`."""
        self._path = path
        self._clock = clock
        self._changed = changed
        self._known = known
        self._missing = False
        self._told = told

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Once; nothing happens while the file is as it was."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            if not self._missing:
                log.error("%s cannot be read, what it said stays in force: %s", self._path, error)
                if self._told is not None:
                    self._told(False)
            self._missing = True
            return
        self._missing = False
        if content == self._known:
            return
        before, self._known = self._known, content
        succeeded = True
        try:
            await self._changed(content)
        except NotYet as problem:
            # Tried again with the next look, which tells how it went.
            self._known = before
            log.error("what %s says cannot be in force yet: %s", self._path, problem)
            return
        except Exception as error:
            succeeded = False
            log.error("%s is not usable, what it said before stays in force: %s", self._path, error)
        else:
            log.info("%s has been read again", self._path)
        if self._told is not None:
            self._told(succeeded)
