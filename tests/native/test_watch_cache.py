"""Behaviour of the watch cache as Python sees it; numbers in names' comments are lines of API_SEMANTICS.md."""

from __future__ import annotations

import base64
import json
import select
from typing import Any

import pytest

from kubecore import _native
from tests.support.cache_harness import PUT, Harness, names, refusal, told


@pytest.fixture
def harness() -> Harness:
    return Harness()


# Reading


def test_a_published_object_is_read_back_with_its_revision_spliced_in(harness: Harness) -> None:
    revision = harness.put("a")
    stored = harness.cache.get(harness.pods, "default", "a")
    assert stored is not None
    assert stored[0] == revision
    assert json.loads(stored[1])["metadata"]["resourceVersion"] == str(revision)
    assert harness.cache.get(harness.pods, "other", "a") is None


def test_a_list_is_ordered_by_key_and_carries_the_newest_revision(harness: Harness) -> None:  # 1
    harness.put("b")
    harness.put("a")
    harness.put("a", namespace="another")
    listing = harness.cache.list(harness.pods)
    assert names(listing) == ["a", "a", "b"]
    assert listing.revision == 3
    assert names(harness.cache.list(harness.pods, "default")) == ["a", "b"]
    assert harness.cache.count(harness.pods, "default") == 2


def test_resource_version_zero_ignores_the_limit(harness: Harness) -> None:  # 1
    for number in range(3):
        harness.put(f"p{number}")
    assert len(harness.cache.query(harness.pods, "resourceVersion=0&limit=1").items) == 3
    assert len(harness.cache.query(harness.pods, "limit=1").items) == 1


def test_a_resource_version_of_the_future_is_504(harness: Harness) -> None:  # 1
    harness.put("a")
    with pytest.raises(_native.NativeStatus, match="Too large resource version: 99, current: 1") as error:
        harness.cache.query(harness.pods, "resourceVersion=99")
    assert refusal(error) == (504, "Timeout")


@pytest.mark.parametrize(
    "query",
    [
        "resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Exact&continue=abc",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "sendInitialEvents=true",
    ],
)
def test_list_options_that_do_not_go_together_are_422(harness: Harness, query: str) -> None:  # 2, 3
    with pytest.raises(_native.NativeStatus) as error:
        harness.cache.query(harness.pods, query)
    assert refusal(error) == (422, "Invalid")


def test_an_exact_older_revision_is_read_from_the_history(harness: Harness) -> None:
    harness.put("a", v="1")
    harness.put("b")
    then = harness.revision
    harness.put("a", v="2")
    harness.delete("b")
    harness.put("c")
    listing = harness.cache.list(harness.pods, at=then)
    assert listing.revision == then
    assert names(listing) == ["a", "b"]
    assert json.loads(listing.items[0])["metadata"]["labels"] == {"v": "1"}


def test_an_exact_revision_that_is_compacted_is_410(harness: Harness) -> None:
    for _ in range(5):
        harness.put("a")
    harness.cache.compacted(3)
    with pytest.raises(_native.NativeStatus) as error:
        harness.cache.list(harness.pods, at=2)
    assert refusal(error) == (410, "Expired")


# Pages


def test_all_pages_show_one_revision_whatever_happens_between(harness: Harness) -> None:  # 6
    for number in range(5):
        harness.put(f"p{number}")
    first = harness.cache.list(harness.pods, limit=2)
    assert (names(first), first.remaining) == (["p0", "p1"], 3)
    harness.delete("p3")
    harness.put("p2a")
    harness.put("p0")
    second = harness.cache.list(harness.pods, limit=2, start=first.next)
    assert (names(second), second.revision, second.remaining) == (["p2", "p3"], first.revision, 1)
    third = harness.cache.list(harness.pods, limit=2, start=second.next)
    assert (names(third), third.revision, third.next) == (["p4"], first.revision, None)


def test_remaining_item_count_is_absent_with_selectors(harness: Harness) -> None:  # 6
    for number in range(3):
        harness.put(f"p{number}", app="web")
    listing = harness.cache.list(harness.pods, label_selector="app=web", limit=1)
    assert (names(listing), listing.remaining) == (["p0"], None)
    assert listing.next is not None


def test_a_continue_token_is_base64_json_of_version_revision_and_start(harness: Harness) -> None:  # 6
    harness.put("a")
    harness.put("b")
    token = harness.cache.list(harness.pods, "default", limit=1).next
    assert token is not None
    decoded = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    assert decoded == {"v": "meta.k8s.io/v1", "rv": 2, "start": "a\0"}


def test_a_forged_start_stays_inside_its_namespace(harness: Harness) -> None:  # 6
    harness.put("mine", namespace="team")
    harness.put("other", namespace="secret")
    for start in ["../secret/other", "x/../../secret/", "/../secret/"]:
        forged = base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v1", "rv": 2, "start": start}).encode())
        with pytest.raises(_native.NativeStatus) as error:
            harness.cache.list(harness.pods, "team", start=forged.decode().rstrip("="))
        assert refusal(error) == (400, "BadRequest")
    early = base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v1", "rv": 2, "start": "\0"}).encode())
    assert names(harness.cache.list(harness.pods, "team", start=early.decode().rstrip("="))) == ["mine"]


def test_an_expired_token_is_410_and_offers_a_fresh_inconsistent_one(harness: Harness) -> None:  # 5
    for number in range(4):
        harness.put(f"p{number}")
    token = harness.cache.list(harness.pods, limit=2).next
    harness.delete("p2")
    harness.cache.compacted(harness.revision)
    with pytest.raises(_native.NativeStatus, match="use the continue token in this response") as error:
        harness.cache.list(harness.pods, limit=2, start=token)
    assert refusal(error) == (410, "Expired")
    fresh = json.loads(error.value.body)["metadata"]["continue"]
    rest = harness.cache.list(harness.pods, limit=2, start=fresh)
    assert (names(rest), rest.revision) == (["p3"], harness.revision)


# Selectors


def test_lists_select_by_label_and_by_field(harness: Harness) -> None:
    harness.put("a", node="n1", app="web")
    harness.put("b", node="n2", app="web")
    harness.put("c", node="n1", app="db")
    assert names(harness.cache.list(harness.pods, label_selector="app=web")) == ["a", "b"]
    assert names(harness.cache.list(harness.pods, field_selector="spec.nodeName=n1")) == ["a", "c"]
    assert names(harness.cache.list(harness.pods, field_selector="spec.nodeName=n1,metadata.name!=a")) == ["c"]
    assert names(harness.cache.list(harness.pods, field_selector="status.phase=Pending", limit=1)) == ["a"]


def test_an_index_stays_true_while_objects_change(harness: Harness) -> None:
    for number in range(600):
        harness.put(f"p{number:03}", node=f"n{number % 10}", app=f"a{number % 7}")
    by_node = lambda node: names(harness.cache.list(harness.pods, field_selector=f"spec.nodeName={node}"))  # noqa: E731
    by_app = lambda app: names(harness.cache.list(harness.pods, label_selector=f"app in ({app},none)"))  # noqa: E731
    assert len(by_node("n3")) == 60
    assert "p007" in by_app("a0")
    harness.put("p007", node="n3", app="moved")
    harness.delete("p003")
    harness.put("new", node="n3")
    assert by_node("n3") == sorted([f"p{n:03}" for n in range(13, 600, 10)] + ["p007", "new"])
    assert "p007" not in by_app("a0")
    assert by_app("moved") == ["p007"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_selector": "a b"}, "unable to parse requirement"),
        ({"field_selector": "nothing"}, "invalid selector: 'nothing'; can't understand 'nothing'"),
        ({"field_selector": "spec.color=red"}, "field label not supported: spec.color"),
    ],
)
def test_a_bad_selector_is_400_and_an_unsupported_field_is_named(
    harness: Harness, options: dict[str, Any], message: str
) -> None:  # 11
    with pytest.raises(_native.NativeStatus, match=message) as error:
        harness.cache.list(harness.pods, **options)
    assert refusal(error) == (400, "BadRequest")


# Bodies


def test_a_list_body_is_a_typed_list_with_its_metadata(harness: Harness) -> None:
    for number in range(200):
        harness.put(f"p{number:03}")
    body = json.loads(harness.cache.list_body(harness.pods, "limit=150"))
    assert (body["kind"], body["apiVersion"], len(body["items"])) == ("PodList", "v1", 150)
    assert body["metadata"]["resourceVersion"] == "200"
    assert body["metadata"]["remainingItemCount"] == 50
    rest = json.loads(harness.cache.list_body(harness.pods, f"continue={body['metadata']['continue']}"))
    assert [item["metadata"]["name"] for item in rest["items"]] == [f"p{n:03}" for n in range(150, 200)]
    assert json.loads(harness.cache.list_body(harness.pods, "", "empty"))["items"] == []


def test_a_list_body_shows_every_write_made_before_it(harness: Harness) -> None:
    for number in range(200):
        harness.put(f"p{number:03}")
    harness.cache.list_body(harness.pods, "")
    harness.put("p100", changed="yes")
    harness.delete("p150")
    items = json.loads(harness.cache.list_body(harness.pods, ""))["items"]
    assert len(items) == 199
    assert items[100]["metadata"]["labels"] == {"changed": "yes"}


def test_a_list_can_be_had_in_another_served_version_or_as_metadata_alone() -> None:
    cache = _native.WatchCache()
    group, versions = "example.com", ["v1", "v1beta1"]
    widgets = cache.register("widgets.example.com", group, "widgets", "v1", "Widget", False, versions, [], custom=True)
    body = b'{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}}'
    cache.publish(1, [(widgets, PUT, "w", 1, body)])
    old = json.loads(cache.list_body(widgets, "", version="v1beta1"))
    assert old["apiVersion"] == old["items"][0]["apiVersion"] == "example.com/v1beta1"
    partial = json.loads(cache.list_body(widgets, "", metadata_only=True))
    assert partial["kind"] == "PartialObjectMetadataList"
    assert partial["items"] == [
        {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "1", "name": "w"},
        }
    ]
    with pytest.raises(_native.NativeStatus, match=r"field label not supported: spec\.x"):
        cache.list(widgets, field_selector="spec.x=1")


# Watching


def test_a_watch_from_a_list_misses_nothing_and_sees_nothing_twice(harness: Harness) -> None:  # 37
    harness.put("a")
    listed = harness.cache.list(harness.pods)
    harness.put("b")
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, revision=listed.revision)
    assert told(subscriptions.drain()) == [("ADDED", "b", 2)]
    harness.put("a")
    harness.delete("b")
    assert told(subscriptions.drain()) == [("MODIFIED", "a", 3), ("DELETED", "b", 4)]
    assert subscriptions.drain() == []


def test_the_eventfd_is_readable_exactly_while_something_waits(harness: Harness) -> None:
    subscriptions = harness.cache.subscriptions()

    def readable() -> bool:
        return bool(select.select([subscriptions.fileno()], [], [], 0)[0])

    subscriptions.watch(harness.pods)
    subscriptions.drain()
    assert not readable()
    for number in range(3):
        harness.put(f"p{number}")
    assert readable()
    assert len(subscriptions.drain(2)) == 2
    assert readable()
    assert len(subscriptions.drain(2)) == 1
    subscriptions.drain()
    assert not readable()


def test_initial_events_end_with_the_annotated_bookmark(harness: Harness) -> None:  # 4
    harness.put("a")
    harness.put("b")
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, initial=True)
    events = subscriptions.drain()
    assert told(events) == [("ADDED", "a", 1), ("ADDED", "b", 2), ("BOOKMARK", "", 2)]
    assert json.loads(events[-1][3]) == {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "2", "annotations": {"k8s.io/initial-events-end": "true"}},
    }


def test_a_streaming_list_needs_not_older_than(harness: Harness) -> None:  # 3
    subscriptions = harness.cache.subscriptions()
    with pytest.raises(_native.NativeStatus) as error:
        subscriptions.watch_query(harness.pods, "watch=1&sendInitialEvents=true")
    assert refusal(error) == (422, "Invalid")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    subscriptions.watch_query(harness.pods, query)
    assert [kind for _, kind, _, _ in subscriptions.drain()] == ["BOOKMARK"]


def test_a_watch_without_resource_version_begins_with_the_state(harness: Harness) -> None:
    harness.put("a")
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch_query(harness.pods, "watch=1")
    assert told(subscriptions.drain()) == [("ADDED", "a", 1)]


def test_a_watch_from_a_compacted_revision_is_told_410_and_ends(harness: Harness) -> None:  # 5
    for _ in range(3):
        harness.put("a")
    harness.cache.compacted(2)
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, revision=1)
    ((_, kind, _, body),) = subscriptions.drain()
    status = json.loads(body)
    assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
    harness.put("a")
    assert subscriptions.drain() == []


def test_a_watch_goes_on_from_a_hundred_events_ago_however_large_they_are(harness: Harness) -> None:
    """As upstream's watch cache, which never keeps fewer."""
    large = "x" * 2**20
    for _ in range(101):
        harness.put("a", large=large)
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, revision=1)
    assert [kind for _, kind, _, _ in subscriptions.drain()] == ["MODIFIED"] * 100


def test_a_watcher_that_falls_out_of_the_history_is_ended_not_awaited() -> None:
    harness = Harness(history=4)
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods)
    subscriptions.drain()
    for _ in range(10):
        harness.put("a")
    ((_, kind, _, body),) = subscriptions.drain()
    assert (kind, json.loads(body)["reason"]) == ("ERROR", "Expired")


def test_a_watcher_whom_nothing_concerned_does_not_fall_out_of_the_history() -> None:
    harness = Harness(history=4)
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, field_selector="spec.nodeName=n1")
    subscriptions.drain()
    for _ in range(10):
        harness.put("a", node="n2")
    harness.put("b", node="n1")
    assert told(subscriptions.drain()) == [("ADDED", "b", 11)]


def test_an_object_that_stops_matching_is_deleted_with_its_last_matching_content(harness: Harness) -> None:  # 9
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, label_selector="app=web")
    subscriptions.drain()
    harness.put("a", app="web")
    harness.put("a", app="db")
    harness.put("a", app="web")
    harness.put("b", app="db")
    events = subscriptions.drain()
    assert told(events) == [("ADDED", "a", 1), ("DELETED", "a", 2), ("ADDED", "a", 3)]
    left = json.loads(events[1][3])["metadata"]
    assert (left["labels"], left["resourceVersion"]) == ({"app": "web"}, "2")


def test_a_watch_by_node_sees_pods_come_and_go(harness: Harness) -> None:
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods, field_selector="spec.nodeName=n1")
    subscriptions.drain()
    harness.put("a")
    harness.put("a", node="n1")
    harness.delete("a")
    assert told(subscriptions.drain()) == [("ADDED", "a", 2), ("DELETED", "a", 3)]


def test_bookmarks_come_only_to_those_that_allow_them(harness: Harness) -> None:  # 10
    harness.put("a")
    subscriptions = harness.cache.subscriptions()
    allowed = subscriptions.watch(harness.pods, revision=1, bookmarks=True)
    subscriptions.watch(harness.pods, revision=1)
    subscriptions.drain()
    harness.cache.progress(7)
    subscriptions.bookmark()
    ((watch, kind, revision, body),) = subscriptions.drain()
    assert (watch, kind, revision) == (allowed, "BOOKMARK", 7)
    assert json.loads(body)["metadata"] == {"resourceVersion": "7"}
    subscriptions.bookmark()
    assert subscriptions.drain() == []


def test_a_cancelled_watch_says_nothing_more(harness: Harness) -> None:
    subscriptions = harness.cache.subscriptions()
    watch = subscriptions.watch(harness.pods)
    harness.put("a")
    subscriptions.cancel(watch)
    assert subscriptions.drain() == []
    with pytest.raises(KeyError):
        subscriptions.cancel(watch)


def test_the_watches_of_an_unregistered_resource_end(harness: Harness) -> None:
    subscriptions = harness.cache.subscriptions()
    subscriptions.watch(harness.pods)
    subscriptions.drain()
    harness.cache.unregister(harness.pods)
    ((_, kind, _, _),) = subscriptions.drain()
    assert kind == "ERROR"
    with pytest.raises(KeyError):
        harness.cache.list(harness.pods)


# Bad input


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":1}', b'{"metadata":{}', b'{"metadata":"x"}'])
def test_bytes_that_are_no_object_are_refused_and_nothing_is_written(harness: Harness, body: bytes) -> None:
    good = b'{"metadata":{"name":"a"}}'
    with pytest.raises(ValueError):
        harness.cache.publish(2, [(harness.pods, PUT, "default/a", 1, good), (harness.pods, PUT, "default/b", 2, body)])
    assert harness.cache.count(harness.pods) == 0
    assert harness.cache.revision == 0


def test_a_resource_that_does_not_exist_is_a_key_error(harness: Harness) -> None:
    with pytest.raises(KeyError):
        harness.cache.get(99, "", "a")
    with pytest.raises(KeyError):
        harness.cache.publish(1, [(99, PUT, "a", 1, b"{}")])
