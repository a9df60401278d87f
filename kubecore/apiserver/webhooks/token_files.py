"""Tokens in files that somebody renews, as the kubelet does those of pods.

After client-go `transport/token_source.go`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore.api.quoting import quoted
from kubecore.own_threads import on_own_thread

if TYPE_CHECKING:
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

# A minute less ten seconds: who renews a token of ten minutes does it when a fifth of its life is left.
_GOOD_SECONDS = 50.0


class TokenFile:
    """Read anew once what was read is old, or was refused; what cannot be read leaves the old token."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_at = 0.0
        self._reading: asyncio.Task[str] | None = None

    async def token(self, clock: Clock) -> str:
        """Raises OSError where there has never been one."""
        if self._token and clock.monotonic() < self._read_at + _GOOD_SECONDS:
            return self._token
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._renewed(clock), name="token file")
            self._reading.add_done_callback(self._was_read)
        return await asyncio.shield(self._reading)

    def refused(self, since: float) -> None:
        """Whoever was shown it at that time did not take it."""
        if self._read_at < since:
            self._token = ""

    async def _renewed(self, clock: Clock) -> str:
        try:
            # Its file system's server may not answer.
            token = await on_own_thread(self._read, "kube-apiserver reading a token")
        except OSError as error:
            if not self._token:
                raise
            log.error("unable to rotate token: %s", error)
            return self._token
        self._token, self._read_at = token, clock.monotonic()
        return token

    def _read(self) -> str:
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise OSError(f"failed to read token file {quoted(str(self._path))}: {why}") from error
        if not token:
            raise OSError(f"read empty token from file {quoted(str(self._path))}")
        return token

    def _was_read(self, task: asyncio.Task[str]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # nobody may be there to hear of it any more
