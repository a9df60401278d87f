"""What a namespace's metadata says to admission: read once a revision, not for each write into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kubecore.api import errors
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.apiserver.storage.cacher import Cacher

T = TypeVar("T")

# How many namespaces are remembered.
_KNOWN = 4096


class HeldNamespaces(Generic[T]):
    """`read` makes of a namespace what is kept."""

    def __init__(self, cacher: Cacher, read: Callable[[dict[str, Any]], T]) -> None:
        cached = cacher.cached("namespaces")
        assert cached is not None
        self._get = cacher.native.get
        self._number = cached.number
        self._read = read
        self._known: dict[str, tuple[int, T]] = {}

    def get(self, name: str) -> T:
        """Raises 404 where there is none."""
        found = self._get(self._number, "", name)
        if found is None:
            raise errors.not_found("", "namespaces", name)
        known = self._known.get(name)
        if known is None or known[0] != found[0]:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[name] = (found[0], self._read(loads(found[1])))
        return known[1]
