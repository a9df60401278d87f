"""Starts and ends the audit of a server."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kubecore.apiserver.audit.options import BATCH, STRICT
from kubecore.apiserver.audit.webhook import AuditWebhook

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.audit.options import AuditOptions
    from kubecore.clock import Clock

_NOTHING = b'{"rules":[{"level":"None"}]}'
_log = logging.getLogger(__name__)


class Auditor:
    """Nothing is told without a policy and somewhere to tell it."""

    def __init__(self, native: _native.Audit, options: AuditOptions, clock: Clock, *, numbers: bool = False) -> None:
        """Whoever `numbers` requests finds the id of each in its header Audit-ID, though nothing may be told of it."""
        self._native = native
        self._numbers = numbers
        self._options = options
        self._clock = clock
        self._webhook: AuditWebhook | None = None
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Raises OSError for a log that cannot be opened, ValueError for a kubeconfig that is none."""
        log, hook = self._options.log, self._options.webhook
        told = [name for name, given in (("log", log.path), ("webhook", hook.config_file)) if given]
        if not self._options.policy:
            for name in told:
                _log.warning("No audit policy file provided, no events will be recorded for %s backend", name)
        if not self._options.policy or not told:
            if self._numbers:
                self._native.configure(_NOTHING)
            return
        if hook.config_file is not None:
            self._webhook = AuditWebhook(self._native, hook, self._clock)
            self._sending = asyncio.get_running_loop().create_task(self._webhook.run(), name="audit webhook")
        try:
            self._native.configure(
                self._options.policy,
                log_path=log.path or None,
                megabytes=log.megabytes,
                days=log.days,
                backups=log.backups,
                compress=log.compress,
                legacy=log.legacy,
                buffer=log.buffer if log.mode == BATCH else 0,
                strict=log.mode == STRICT,
                event_bytes=log.event_bytes,
                outbox=None if self._webhook is None else self._webhook.outbox,
            )
        except OSError as error:
            raise OSError(
                f"cannot write the audit log {log.path} (--audit-log-path): {error.strerror or error}"
            ) from error

    async def stop(self) -> None:
        """What was taken is written and sent."""
        self._native.stop()
        if self._sending is not None and self._webhook is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            await self._webhook.finish()
