"""An informer's objects, with what we have written ourselves and the informer has not been told yet."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import Objects, SharedInformer


class Ahead:
    """For who must not act twice on what it changed a moment ago: `wrote` what the server answered, and `get` gives
    that until the informer has it or something newer. (kubernetes `pkg/scheduler/util/assumecache`.)"""

    def __init__(self, informer: SharedInformer) -> None:
        self._informer = informer
        self._written: dict[str, Object] = {}
        informer.add_handler(self._seen, lambda _, new: self._seen(new), self._gone)

    def wrote(self, obj: Object) -> Object:
        """Remember an answer to an update; gives it back."""
        key = meta.key(obj)
        seen = self._informer.get(key)
        if seen is not None and meta.uid(seen) == meta.uid(obj) and _version(seen) < _version(obj):
            self._written[key] = obj
        return obj

    def made(self, obj: Object) -> Object:
        """Remember an answer to a create; gives it back. Who then fails to write it has to `forget` it, since it may
        have gone without the informer having been told of it at all."""
        key = meta.key(obj)
        if self._informer.get(key) is None:
            self._written[key] = obj
        return obj

    def get(self, key: str) -> Object | None:
        return self._written.get(key) or self._informer.get(key)

    def forget(self, key: str) -> None:
        """Back to what the informer knows."""
        self._written.pop(key, None)

    def by_index(self, index: str, value: str) -> Objects:
        """Those that the informer finds, as they are now: they may not be of that value any more."""
        return [self._written.get(meta.key(one), one) for one in self._informer.by_index(index, value)]

    def _seen(self, obj: Object) -> None:
        written = self._written.get(meta.key(obj))
        if written is not None and _version(obj) >= _version(written):
            del self._written[meta.key(obj)]

    def _gone(self, obj: Object) -> None:
        self._written.pop(meta.key(obj), None)


def _version(obj: Object) -> int:
    return int(meta.resource_version(obj) or 0)
