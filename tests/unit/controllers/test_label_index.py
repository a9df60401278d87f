from kubecore.clock import VirtualClock
from kubecore.controllers.label_index import by_labels, having
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import names


async def test_it_finds_what_has_all_labels_in_the_namespace(api: FakeAPI, clock: VirtualClock) -> None:
    informers = api.informers()
    pods = informers.informer("pods")
    by_labels(pods)
    await informers.start()
    for name, labels in {"a": {"app": "web", "tier": "x"}, "b": {"app": "web"}, "c": {"app": "db"}, "d": {}}.items():
        api.add("pods", {"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}})
    await clock.settle()
    assert names(having(pods, "default", {"app": "web"})) == ["a", "b"]
    assert names(having(pods, "default", {"app": "web", "tier": "x"})) == ["a"]
    assert having(pods, "other", {"app": "web"}) == [] == having(pods, "default", {"app": "none"})
    api.change("pods", "b", metadata={"labels": {"app": "db"}})
    await clock.settle()
    assert names(having(pods, "default", {"app": "web"})) == ["a"]
    assert names(having(pods, "default", {"app": "db"})) == ["b", "c"]
    await informers.stop()
