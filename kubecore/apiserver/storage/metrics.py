"""How many objects are stored, by resource, and what they take on disk, as kube-apiserver tells it.

(apiserver `pkg/storage/etcd3/metrics`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kubecore.api.scheme import Resource
from kubecore.metrics import Gauge, Named, Reading

_TOLD = "Number of stored objects at the time of last check split by kind."
_FAILURE = "In case of a fetching error, the value will be -1."
_NEWER = "apiserver_resource_objects"


def storage_size(allocated: Callable[[], int]) -> Reading:
    """There is one storage, which upstream counts from 0."""
    told = "[STABLE] Size of the storage database file physically allocated in bytes."
    named = Named("apiserver_storage_size_bytes", told, ("storage_cluster_id",))
    return Reading(named, lambda: [(("lmdb-0",), allocated())])


class StoredObjects:
    """`counted()`: all resources, and how many of each there are now."""

    def __init__(self, counted: Callable[[], Iterable[tuple[Resource, int]]]) -> None:
        self._counted = counted

    def lines(self) -> Iterator[str]:
        objects = Gauge(Named(_NEWER, f"[ALPHA] {_TOLD} {_FAILURE}", ("group", "resource")))
        instead = f"[DEPRECATED, consider using {_NEWER} instead]"
        known = f"[STABLE] (Deprecated since 1.34.0) {instead} {_TOLD} {_FAILURE}"
        former = Gauge(Named("apiserver_storage_objects", known, ("resource",)))
        for resource, count in self._counted():
            objects.set(count, resource.group, resource.plural)
            former.set(count, f"{resource.plural}.{resource.group}" if resource.group else resource.plural)
        yield from objects.lines()
        yield from former.lines()
