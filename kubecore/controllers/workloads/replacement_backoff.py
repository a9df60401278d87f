"""How long what failed is left lying before it is replaced. (client-go `util/flowcontrol/backoff.go`.)"""

from __future__ import annotations

from kubecore.clock import Clock

_TICK = 0.001


class ReplacementBackoff:
    """Per key: the first replacement comes at once, the wait before the next doubles from `initial` to `maximum`
    seconds, and is forgotten when for twice the maximum there was nothing to replace."""

    def __init__(self, clock: Clock, *, initial: float, maximum: float) -> None:
        self._clock = clock
        self._initial = initial
        self._maximum = maximum
        self._entries: dict[str, tuple[float, float]] = {}

    def remaining(self, key: str) -> float:
        """Seconds that must still pass; 0: replace it now."""
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        since, wait = entry
        passed = self._clock.monotonic() - since
        left = wait - passed
        # what rounding leaves over is no time that a timer could wait
        return left if left > _TICK and passed <= 2 * self._maximum else 0.0

    def replaced(self, key: str) -> None:
        now = self._clock.monotonic()
        entries = {k: one for k, one in self._entries.items() if now - one[0] <= 2 * self._maximum}
        known = entries.get(key)
        entries[key] = (now, self._initial if known is None else min(2 * known[1], self._maximum))
        self._entries = entries
