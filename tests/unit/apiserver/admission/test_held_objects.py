"""What admission looks at for each write is decoded once, and is never older than the watch cache."""

from __future__ import annotations

import orjson

from kubecore.api import scheme
from kubecore.apiserver.admission.held_objects import HeldObjects
from kubecore.apiserver.storage.cacher import Cacher
from kubecore.apiserver.storage.interface import DELETE, PUT, Event

KEY = "limitranges"


def cacher() -> Cacher:
    made = Cacher()
    made.register_all(scheme.default(), {})
    return made


def written(cache: Cacher, revision: int, namespace: str, name: str, kind: int = PUT) -> None:
    metadata = {"resourceVersion": str(revision), "name": name, "namespace": namespace}
    value = orjson.dumps({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata})
    cache.publish(revision, [Event(kind, f"/registry/core/limitranges/{namespace}/{name}", revision, value, 0)])


def names(held: HeldObjects, namespace: str) -> list[str]:
    return [one["metadata"]["name"] for one in held.list(namespace)]


def test_a_change_shows_at_once() -> None:
    cache = cacher()
    held = HeldObjects(cache, KEY)
    assert held.list("a") == []
    assert held.get("a", "one") is None
    written(cache, 1, "a", "one")
    assert names(held, "a") == ["one"]
    assert held.get("a", "one") == held.list("a")[0]
    written(cache, 2, "a", "one", DELETE)
    assert held.list("a") == []
    assert held.get("a", "one") is None


def test_namespaces_are_kept_apart_and_none_means_all() -> None:
    cache = cacher()
    held = HeldObjects(cache, KEY)
    written(cache, 1, "a", "one")
    written(cache, 2, "b", "two")
    assert names(held, "a") == ["one"]
    assert names(held, "b") == ["two"]
    assert names(held, "") == ["one", "two"]


def test_nothing_is_decoded_again_while_nothing_changes() -> None:
    cache = cacher()
    held = HeldObjects(cache, KEY)
    written(cache, 1, "a", "one")
    assert held.get("a", "one") is held.get("a", "one")
    assert held.list("a") is held.list("a")
