"""Objects that admission looks at for each write and that hardly ever change: decoded once a change, not each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]


class HeldObjects:
    """The objects of one resource as the watch cache has them now. They are shared: nobody changes them.

    What has been decoded is forgotten whenever any object of the resource changes, so this is for resources of which
    that is rare.
    """

    def __init__(self, cacher: Cacher, key: str) -> None:
        cached = cacher.cached(key)
        assert cached is not None, f"{key} is not stored"
        self._cached = cached
        self._native = cacher.native
        self._since = -1
        self._lists: dict[str, list[JSON]] = {}
        self._objects: dict[tuple[str, str], JSON] = {}

    def list(self, namespace: str = "") -> list[JSON]:
        """Of a namespace, or all."""
        self._renew()
        found = self._lists.get(namespace)
        if found is None:
            listing = self._native.list(self._cached.number, namespace or None)
            found = self._lists[namespace] = [loads(item) for item in listing.items]
        return found

    def get(self, namespace: str, name: str) -> JSON | None:
        self._renew()
        found = self._objects.get((namespace, name))
        if found is None and (stored := self._native.get(self._cached.number, namespace, name)) is not None:
            found = self._objects[namespace, name] = loads(stored[1])
        return found

    def _renew(self) -> None:
        changed = self._native.changed(self._cached.number)
        if changed != self._since:
            self._since = changed
            self._lists.clear()
            self._objects.clear()
