"""Books on writes a controller has made and not yet seen, so that it does not make them twice from a stale cache.

(kubernetes `pkg/controller/controller_utils.go`, ControllerExpectations.) Deletions are remembered by uid, so that
seeing one deletion twice, as marked and as gone, counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubecore.clock import Clock

# After this long a lost event is assumed and the cache is believed again.
_EXPIRY_SECONDS = 300.0


@dataclass(slots=True)
class _Expected:
    created_at: float
    creations: int = 0
    deletions: set[str] = field(default_factory=set)


class Expectations:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected: dict[str, _Expected] = {}

    def satisfied(self, key: str) -> bool:
        expected = self._expected.get(key)
        if expected is None:
            return True
        if expected.creations <= 0 and not expected.deletions:
            return True
        return self._clock.monotonic() - expected.created_at > _EXPIRY_SECONDS

    def expect(self, key: str, *, creations: int, deletions: Iterable[str]) -> None:
        self._expected[key] = _Expected(self._clock.monotonic(), creations=creations, deletions=set(deletions))

    def expect_creations(self, key: str, count: int) -> None:
        self._expected[key] = _Expected(self._clock.monotonic(), creations=count)

    def expect_deletions(self, key: str, uids: Iterable[str]) -> None:
        self._expected[key] = _Expected(self._clock.monotonic(), deletions=set(uids))

    def creation_observed(self, key: str, count: int = 1) -> None:
        expected = self._expected.get(key)
        if expected is not None:
            expected.creations -= count

    def deletion_observed(self, key: str, uid: str) -> None:
        expected = self._expected.get(key)
        if expected is not None:
            expected.deletions.discard(uid)

    def forget(self, key: str) -> None:
        self._expected.pop(key, None)
