from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory, Of, SharedInformer
from kubecore.client.transport import Event
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI


@pytest.fixture
async def informers(api: FakeAPI) -> AsyncIterator[InformerFactory]:
    factory = api.informers()
    yield factory
    await factory.stop()


def config_map(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}


class Seen(list[str]):
    """Notes what a handler is told."""

    def __init__(self, informer: SharedInformer) -> None:
        super().__init__()
        informer.add_handler(
            lambda new: self.append(f"add {new['metadata']['name']}"),
            lambda old, new: self.append(f"update {new['metadata']['name']} {old['data']['a']}>{new['data']['a']}"),
            lambda old: self.append(f"delete {old['metadata']['name']}"),
        )


async def test_it_holds_what_exists_and_follows_changes(api: FakeAPI, informers: InformerFactory) -> None:
    api.add("configmaps", config_map("one"))
    informer = informers.informer("configmaps")
    seen = Seen(informer)
    await informers.start()
    await informers.wait_synced()
    api.add("configmaps", config_map("two"))
    api.change("configmaps", "one", data={"a": "2"})
    api.remove("configmaps", "two")
    await VirtualClock().settle()
    assert seen == ["add one", "add two", "update one 1>2", "delete two"]
    found = informer.get("default/one")
    assert found is not None and found["data"] == {"a": "2"} and found["kind"] == "ConfigMap"


async def test_nothing_is_kept_of_what_is_deleted(api: FakeAPI, informers: InformerFactory) -> None:
    spec = {"containers": [{"name": "main", "image": "any"}]}
    api.add("pods", {"metadata": {"name": "one", "uid": "u"}, "spec": spec})
    informer = informers.informer("pods")
    await informers.start()
    await informers.wait_synced()
    first = informer.get("default/one")
    assert first is not None
    api.change("pods", "one", status={"phase": "Running"})
    await VirtualClock().settle()
    assert (informer.get("default/one") or {})["spec"] is first["spec"]
    api.remove("pods", "one")
    await VirtualClock().settle()
    api.add("pods", {"metadata": {"name": "one", "uid": "u"}, "spec": spec})
    await VirtualClock().settle()
    assert (informer.get("default/one") or {})["spec"] is not first["spec"]


async def test_a_watch_that_ends_is_resumed_without_loss(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    seen = Seen(informers.informer("configmaps"))
    await informers.start()
    await clock.settle()
    api.end_watches()
    await clock.settle()
    api.add("configmaps", config_map("one"))
    await clock.advance(10)
    assert seen == ["add one"]


class Noting(FakeAPI):
    """Notes how it was asked to watch."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.asked: list[Mapping[str, str]] = []

    def watch(self, path: str, *, query: Mapping[str, str] | None = None) -> AsyncGenerator[list[Event], None]:
        self.asked.append(query or {})
        return super().watch(path, query=query)


class Near(Noting):
    in_process = True


async def asked_for(api: Noting, *, found: bool = False) -> Mapping[str, str]:
    """`found`: in discovery."""
    client = api.client()
    if found:
        client.learn(client.resource("configmaps"))
    factory = InformerFactory(client, api.clock)
    factory.informer("configmaps")
    await factory.start()
    await VirtualClock().settle()
    await factory.stop()
    (query,) = api.asked
    return query


async def test_a_watch_ends_after_some_minutes_lest_a_dead_connection_be_waited_for(clock: VirtualClock) -> None:
    assert 300 <= int((await asked_for(Noting(clock)))["timeoutSeconds"]) <= 600


async def test_a_watch_of_what_is_served_in_this_process_has_no_end(clock: VirtualClock) -> None:
    assert "timeoutSeconds" not in await asked_for(Near(clock))


async def test_bookmarks_are_for_a_watch_that_is_resumed(clock: VirtualClock) -> None:
    assert (await asked_for(Noting(clock)))["allowWatchBookmarks"] == "true"
    assert "allowWatchBookmarks" not in await asked_for(Near(clock))


async def test_who_serves_what_was_found_in_discovery_may_be_elsewhere(clock: VirtualClock) -> None:
    query = await asked_for(Near(clock), found=True)
    assert "timeoutSeconds" in query and query["allowWatchBookmarks"] == "true"


async def test_after_410_it_lists_anew_and_tells_the_differences(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    for name in ("kept", "gone", "changed"):
        api.add("configmaps", config_map(name))
    seen = Seen(informers.informer("configmaps"))
    await informers.start()
    await clock.settle()
    seen.clear()
    api.end_watches()
    await clock.settle()
    api.remove("configmaps", "gone")
    api.change("configmaps", "changed", data={"a": "2"})
    api.add("configmaps", config_map("new"))
    api.compact()
    await clock.advance(10)
    assert sorted(seen) == ["add new", "delete gone", "update changed 1>2"]


async def test_an_object_made_anew_between_two_lists_is_told_as_deleted_and_added(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    api.add("configmaps", config_map("one"))
    seen = Seen(informers.informer("configmaps"))
    await informers.start()
    await clock.settle()
    api.end_watches()
    await clock.settle()
    api.remove("configmaps", "one")
    api.add("configmaps", config_map("one"))
    api.compact()
    await clock.advance(10)
    assert seen == ["add one", "delete one", "add one"]


async def test_a_failed_list_is_retried(api: FakeAPI, clock: VirtualClock, informers: InformerFactory) -> None:
    api.react("get configmaps", errors.service_unavailable("starting"), times=2)
    informer = informers.informer("configmaps")
    await informers.start()
    await clock.settle()
    assert not informer.synced
    await clock.advance(10)
    assert informer.synced


async def test_a_selector_limits_it_and_objects_that_stop_matching_leave(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    api.add("configmaps", config_map("one", app="web"))
    api.add("configmaps", config_map("two"))
    seen = Seen(informers.informer("configmaps", label_selector="app=web"))
    await informers.start()
    await clock.settle()
    api.change("configmaps", "one", metadata={"labels": {"app": "other"}})
    await clock.settle()
    assert seen == ["add one", "delete one"]


async def test_indexes_follow_the_objects(api: FakeAPI, clock: VirtualClock, informers: InformerFactory) -> None:
    api.add("configmaps", config_map("one", app="web"))
    informer = informers.informer("configmaps")
    informer.add_index("app", lambda obj: [obj["metadata"]["labels"].get("app", "")])
    await informers.start()
    await clock.settle()
    api.change("configmaps", "one", metadata={"labels": {"app": "db"}})
    await clock.settle()
    assert informer.by_index("app", "web") == []
    assert [obj["metadata"]["name"] for obj in informer.by_index("app", "db")] == ["one"]
    assert len(informer.list("default")) == 1 and informer.list("other") == []


async def test_an_index_is_asked_again_only_when_what_it_looks_at_changes(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    asked: list[str] = []

    def index(name: str, of: Of) -> None:
        def function(obj: Object) -> list[str]:
            asked.append(name)
            return ["all"]

        informer.add_index(name, function, of=of)

    informer = informers.informer("pods")
    for of in Of:
        index(of.value, of)
    await informers.start()
    api.add("pods", {"metadata": {"name": "one", "labels": {"app": "web"}}, "spec": {"priority": 1}, "status": {}})
    await clock.settle()
    for changed, asks in (
        ({"status": {"phase": "Running"}}, {"object"}),
        ({"spec": {"priority": 2}}, {"object", "spec"}),
        ({"metadata": {"labels": {"app": "db"}}}, {"object", "spec", "metadata"}),
    ):
        asked.clear()
        api.change("pods", "one", **changed)
        await clock.settle()
        assert set(asked) == asks
        newest = informer.get("default/one")
        assert all(informer.by_index(of.value, "all") == [newest] for of in Of)
        assert all(informer.by_index(of.value, "all")[0] is newest for of in Of)


async def test_an_index_name_belongs_to_one_function(informers: InformerFactory) -> None:
    def by_name(obj: Object) -> list[str]:
        return [obj["metadata"]["name"]]

    informer = informers.informer("pods")
    informer.add_index("mine", by_name)
    informer.add_index("mine", by_name)
    with pytest.raises(ValueError, match="index 'mine' of pods is somebody else's"):
        informer.add_index("mine", lambda obj: [])


async def test_informers_are_shared_and_late_handlers_are_told_what_exists(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    api.add("configmaps", config_map("one"))
    informer = informers.informer("configmaps")
    assert informers.informer("configmaps") is informer
    await informers.start()
    await clock.settle()
    assert Seen(informer) == ["add one"]


async def test_a_handler_that_fails_does_not_stop_the_others(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    informer = informers.informer("configmaps")

    def fail(_: Object) -> None:
        raise RuntimeError("a bug")

    informer.add_handler(fail)
    seen = Seen(informer)
    await informers.start()
    await clock.settle()
    api.add("configmaps", config_map("one"))
    await clock.settle()
    assert seen == ["add one"]


def pod(phase: str) -> Object:
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "app"}]}
    return {"metadata": {"name": "one", "labels": {"app": "web"}}, "spec": spec, "status": {"phase": phase}}


async def test_a_new_version_shares_with_the_former_one_what_did_not_change(
    api: FakeAPI, clock: VirtualClock, informers: InformerFactory
) -> None:
    api.add("pods", pod("Pending"))
    informer = informers.informer("pods")
    versions: list[tuple[Object, Object]] = []
    informer.add_handler(on_update=lambda old, new: versions.append((old, new)))
    await informers.start()
    await clock.settle()
    api.change("pods", "one", status={"phase": "Running"})
    await clock.settle()
    api.change("pods", "one", spec={"nodeName": "m"})
    await clock.settle()
    (old, new), (_, moved) = versions
    assert new["spec"] is old["spec"] and new["metadata"]["labels"] is old["metadata"]["labels"]
    assert (old["status"], new["status"]) == ({"phase": "Pending"}, {"phase": "Running"})
    assert moved["spec"]["containers"] is old["spec"]["containers"]
    assert (old["spec"]["nodeName"], moved["spec"]["nodeName"]) == ("n", "m")
