"""Certificates that the API server shows to others are renewed before they end, while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore.clock import Clock

log = logging.getLogger("kubecore.apiserver")

# They are due a month before they end (`pki`).
_EVERY_SECONDS = 86_400.0


async def renew(steps: Sequence[Callable[[], None]], clock: Clock) -> None:
    """Takes each step every day, until cancelled. One that fails is told of and taken again the next day."""
    while True:
        await clock.sleep(_EVERY_SECONDS)
        for step in steps:
            try:
                step()
            except Exception:
                log.exception("a certificate was not renewed")
