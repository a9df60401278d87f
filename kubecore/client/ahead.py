"""An informer's objects, with what we have written ourselves and the informer has not been told yet."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import Objects, SharedInformer
from kubecore.clock import Clock

_BELIEVED_SECONDS = 30.0
"""How long an informer may be behind."""


class Ahead:
    """For who must not act twice on what it changed a moment ago: `wrote` what the server answered, and `get` gives
    that until the informer has it or something newer. (kubernetes `pkg/scheduler/util/assumecache`.)"""

    def __init__(self, informer: SharedInformer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._written: dict[str, Object] = {}
        self._believed_until: dict[str, float] = {}
        informer.add_handler(self._seen, lambda _, new: self._seen(new), self._gone)

    def wrote(self, obj: Object) -> Object:
        """Remember an answer to an update; gives it back."""
        key = meta.key(obj)
        seen = self._informer.get(key)
        if seen is not None and meta.uid(seen) == meta.uid(obj) and _version(seen) < _version(obj):
            self._written[key] = obj
        return obj

    def made(self, obj: Object) -> Object:
        """Remember an answer to a create; gives it back. It may have gone without the informer having been told of it
        at all, or before the answer came: who fails to write it has to `forget` it, and it is not believed for long
        (see `unseen`)."""
        key = meta.key(obj)
        if self._informer.get(key) is None:
            self._written[key] = obj
            self._believed_until[key] = self._clock.monotonic() + _BELIEVED_SECONDS
        return obj

    def get(self, key: str) -> Object | None:
        self.unseen(key)
        return self._written.get(key) or self._informer.get(key)

    def unseen(self, key: str) -> float | None:
        """In how many seconds to look again at what was made and the informer does not have; None if there is none."""
        until = self._believed_until.get(key)
        if until is None:
            return None
        rest = until - self._clock.monotonic()
        if rest > 0:
            return rest
        self.forget(key)
        return None

    def forget(self, key: str) -> None:
        """Back to what the informer knows."""
        self._written.pop(key, None)
        self._believed_until.pop(key, None)

    def by_index(self, index: str, value: str) -> Objects:
        """Those that the informer finds, as they are now: they may not be of that value any more."""
        return [self._written.get(meta.key(one), one) for one in self._informer.by_index(index, value)]

    def _seen(self, obj: Object) -> None:
        key = meta.key(obj)
        self._believed_until.pop(key, None)
        written = self._written.get(key)
        if written is not None and _version(obj) >= _version(written):
            del self._written[key]

    def _gone(self, obj: Object) -> None:
        self.forget(meta.key(obj))


def _version(obj: Object) -> int:
    return int(meta.resource_version(obj) or 0)
