"""Starts and ends the audit of a server."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kubecore.apiserver.audit import request_log
from kubecore.apiserver.audit.options import BATCH, STRICT
from kubecore.apiserver.audit.request_log import RequestLog
from kubecore.apiserver.audit.webhook import AuditWebhook

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.audit.options import AuditOptions
    from kubecore.clock import Clock

_NOTHING = b'{"rules":[{"level":"None"}]}'
_log = logging.getLogger(__name__)


class Auditor:
    """Nothing is told without a policy and somewhere to tell it, but to the log of requests."""

    def __init__(self, native: _native.Audit, options: AuditOptions, clock: Clock, *, numbers: bool = False) -> None:
        """Whoever `numbers` requests finds the id of each in its header Audit-ID, though nothing may be told of it."""
        self._native = native
        self._numbers = numbers
        self._options = options
        self._clock = clock
        self._webhook: AuditWebhook | None = None
        self._request_log: RequestLog | None = None
        self._working: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Raises OSError for a log that cannot be opened, ValueError for a kubeconfig that is none."""
        log, hook = self._options.log, self._options.webhook
        told = [name for name, given in (("log", log.path), ("webhook", hook.config_file)) if given]
        if not self._options.policy:
            for name in told:
                _log.warning("No audit policy file provided, no events will be recorded for %s backend", name)
        logs_requests = request_log.is_wanted()
        if not self._options.policy or not told:
            if logs_requests:
                self._native.configure(request_log.POLICY, outbox=self._logging())
            elif self._numbers:
                self._native.configure(_NOTHING)
            return
        outbox = None
        if hook.config_file is not None:
            seen = request_log.tell if logs_requests else None
            self._webhook = AuditWebhook(self._native, hook, self._clock, seen=seen)
            outbox = self._webhook.outbox
            self._working.append(asyncio.get_running_loop().create_task(self._webhook.run(), name="audit webhook"))
        elif logs_requests:
            outbox = self._logging()
        self._configure(outbox)

    def _logging(self) -> _native.AuditOutbox:
        """Has what comes out of it logged."""
        self._request_log = RequestLog(self._native, self._clock)
        self._working.append(asyncio.get_running_loop().create_task(self._request_log.run(), name="request log"))
        return self._request_log.outbox

    def _configure(self, outbox: _native.AuditOutbox | None) -> None:
        log = self._options.log
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
                outbox=outbox,
            )
        except OSError as error:
            raise OSError(
                f"cannot write the audit log {log.path} (--audit-log-path): {error.strerror or error}"
            ) from error

    async def stop(self) -> None:
        """What was taken is written and sent."""
        self._native.stop()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        if self._webhook is not None:
            await self._webhook.finish()
        if self._request_log is not None:
            self._request_log.flush()
