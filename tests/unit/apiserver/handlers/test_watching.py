"""In-process watches: what comes of a query string, and bookmarks by the clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from kubecore import _native
from kubecore.api import scheme
from kubecore.api.errors import StatusError
from kubecore.apiserver.authorization.authorizer import Authorizer
from kubecore.apiserver.authorization.held import HeldRights
from kubecore.apiserver.handlers.watching import WatchHub
from kubecore.apiserver.storage.cacher import Cacher
from kubecore.clock import VirtualClock

CLOCK = VirtualClock()


@pytest.fixture
def cacher() -> Cacher:
    made = Cacher()
    made.register_all(scheme.default(), {})
    return made


@pytest.fixture
async def hub(cacher: Cacher) -> AsyncIterator[WatchHub]:
    native = _native.Front(cacher.native).authorizer()
    made = WatchHub(cacher, CLOCK, HeldRights(Authorizer(native, ["RBAC"], {}), native, CLOCK))
    yield made
    made.close()


def put(cacher: Cacher, resource: str, name: str, revision: int) -> None:
    cached = cacher.cached(resource)
    assert cached is not None
    metadata = {"resourceVersion": str(revision), "name": name, "namespace": "default"}
    body = orjson.dumps({"apiVersion": "v1", "kind": cached.resource.kind, "metadata": metadata})
    cacher.native.publish(revision, [(cached.number, 0, f"default/{name}", revision, body)])


async def test_a_watch_that_wants_bookmarks_is_told_each_minute_how_far_it_is(cacher: Cacher, hub: WatchHub) -> None:
    put(cacher, "configmaps", "a", 1)
    watch = hub.query("configmaps", "resourceVersion=1&allowWatchBookmarks=true")
    put(cacher, "secrets", "b", 2)
    await CLOCK.advance(61)
    (event,) = await watch.next_batch()
    assert (event.type, orjson.loads(event.object)["metadata"]["resourceVersion"]) == ("BOOKMARK", "2")


async def test_a_watch_without_a_revision_begins_with_what_there_is(cacher: Cacher, hub: WatchHub) -> None:
    put(cacher, "configmaps", "a", 1)
    put(cacher, "configmaps", "b", 2)
    watch = hub.query("configmaps", "", "default", "b")
    (event,) = await watch.next_batch()
    assert (event.type, orjson.loads(event.object)["metadata"]["name"]) == ("ADDED", "b")


async def test_options_that_do_not_go_together_are_refused(hub: WatchHub) -> None:
    with pytest.raises(StatusError) as refused:
        hub.query("configmaps", "watch=false&sendInitialEvents=true")
    assert refused.value.code == 422
