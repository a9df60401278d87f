"""Restart back-off: 10 s, doubling to 5 min, forgotten once a container ran 10 min.

After client-go `util/flowcontrol/backoff.go` as the kubelet uses it: the first restart comes at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

INITIAL = timedelta(seconds=10)
MAXIMUM = timedelta(minutes=5)
FORGOTTEN_AFTER = timedelta(minutes=10)


@dataclass
class BackOff:
    """One container's; `longest` wait."""

    longest: timedelta = MAXIMUM
    _seconds: timedelta = timedelta(0)
    _updated: datetime | None = None

    def remaining(self, finished_at: datetime, now: datetime) -> timedelta:
        """How long a container that ended at `finished_at` must still wait; zero or less: not at all."""
        if self._updated is None or self._forgotten(finished_at):
            return timedelta(0)
        return finished_at + self._seconds - now

    def restarted(self, finished_at: datetime, now: datetime) -> None:
        """The container that ended at `finished_at` is started again: the next wait is longer."""
        if self._updated is None or self._forgotten(finished_at):
            self._seconds = min(INITIAL, self.longest)
        else:
            self._seconds = min(self._seconds * 2, self.longest)
        self._updated = now

    @property
    def delay(self) -> timedelta:
        """The wait in force."""
        return self._seconds

    def _forgotten(self, finished_at: datetime) -> bool:
        return self._updated is not None and finished_at - self._updated > FORGOTTEN_AFTER
