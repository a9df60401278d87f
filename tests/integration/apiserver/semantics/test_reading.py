"""../shared/API_SEMANTICS.md, lines 1 to 13: each test is named after its line. Line 8 is in test_duration.py, what
line 11 says of custom resources in test_custom_resources.py.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import config_map, pod
from tests.integration.apiserver.semantics.conftest import MERGE, Rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAPS = "{ns}/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def some_maps(rest: Rest, *names: str) -> int:
    """Creates ConfigMaps labelled with their name; the revision of the last."""
    revision = 0
    for name in names:
        made = config_map(name, k="v")
        made["metadata"]["labels"] = {"name": name}
        revision = int((await rest.made(MAPS, made))["metadata"]["resourceVersion"])
    return revision


def names(listing: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


async def test_01_a_list_without_resource_version_is_the_most_recent(rest: Rest) -> None:
    revision = await some_maps(rest, "a", "b")
    listing = (await rest.get(MAPS)).json
    assert names(listing) == ["a", "b"]
    assert int(listing["metadata"]["resourceVersion"]) >= revision


async def test_01_resource_version_zero_ignores_the_limit(rest: Rest) -> None:
    await some_maps(rest, "a", "b", "c")
    listing = (await rest.get(f"{MAPS}?resourceVersion=0&limit=1")).json
    assert names(listing) == ["a", "b", "c"]
    assert "continue" not in listing["metadata"]


async def test_01_a_list_at_n_is_not_older_than_n(rest: Rest) -> None:
    revision = await some_maps(rest, "a")
    await some_maps(rest, "b")
    listing = (await rest.get(f"{MAPS}?resourceVersion={revision}")).json
    assert int(listing["metadata"]["resourceVersion"]) > revision
    assert names(listing) == ["a", "b"]


async def test_01_pages_of_a_revision_show_that_revision(rest: Rest) -> None:
    await some_maps(rest, "a")
    revision = await some_maps(rest, "b")
    await some_maps(rest, "c")
    listing = (await rest.get(f"{MAPS}?resourceVersion={revision}&limit=5")).json
    assert int(listing["metadata"]["resourceVersion"]) == revision
    assert names(listing) == ["a", "b"]


async def test_01_a_list_at_a_revision_that_is_yet_to_come_times_out(rest: Rest) -> None:
    future = await some_maps(rest, "a") + 1_000_000
    answer = await rest.get(f"{MAPS}?resourceVersion={future}")
    assert (answer.status, answer.json["reason"]) == (504, "Timeout")
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(
    "query",
    [
        "resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
    ],
)
async def test_02_a_match_without_its_resource_version_is_422(rest: Rest, query: str) -> None:
    answer = await rest.get(f"{MAPS}?{query}")
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["details"]["causes"][0]["field"] == "resourceVersionMatch"


async def test_03_send_initial_events_is_for_watches(rest: Rest) -> None:
    answer = await rest.get(f"{MAPS}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")


async def test_03_send_initial_events_needs_not_older_than(rest: Rest) -> None:
    answer = await rest.get(f"{MAPS}?watch=true&sendInitialEvents=true")
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" in answer.json["message"]


async def test_04_a_streaming_list_ends_with_an_annotated_bookmark(rest: Rest) -> None:
    revision = await some_maps(rest, "a", "b")
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with rest.watch(f"{MAPS}?{query}") as events:
        seen = [await events.next() for _ in range(3)]
    assert [event["type"] for event in seen] == ["ADDED", "ADDED", "BOOKMARK"]
    assert seen[2]["object"]["kind"] == "ConfigMap"
    assert seen[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(seen[2]["object"]["metadata"]["resourceVersion"]) >= revision


Empty = dict[str, Any]
METADATA = "as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
EMPTY_DEPLOYMENT = {
    "spec": {
        "replicas": 0,
        "selector": None,
        "strategy": {},
        "template": {"metadata": {}, "spec": {"containers": None}},
    },
    "status": {},
}


@pytest.mark.parametrize(
    ("form", "kind", "empty"),
    [
        ("", "Deployment", EMPTY_DEPLOYMENT),
        (";as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "PartialObjectMetadata", {}),
    ],
)
async def test_04_a_bookmark_is_an_empty_object_with_a_revision(
    rest: Rest, form: str, kind: str, empty: dict[str, Any]
) -> None:
    path = "/apis/apps/v1/namespaces/nothing-is-here/deployments?watch=true&allowWatchBookmarks=true"
    async with rest.watch(path, Accept=f"application/json{form}") as events:
        told = (await events.next())["object"]
    assert told.pop("kind") == kind
    assert told.pop("metadata").keys() == {"resourceVersion", "annotations"}
    assert {name: value for name, value in told.items() if name != "apiVersion"} == empty


@pytest.mark.parametrize("start", ["", "&resourceVersion=0"])
async def test_04_so_does_a_watch_that_begins_with_what_there_is(rest: Rest, start: str) -> None:
    await some_maps(rest, "a", "b")
    async with rest.watch(f"{MAPS}?watch=true&allowWatchBookmarks=true{start}") as events:
        seen = [await events.next() for _ in range(3)]
    assert [event["type"] for event in seen] == ["ADDED", "ADDED", "BOOKMARK"]
    assert seen[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_04_a_state_of_the_future_is_one_error_event(rest: Rest) -> None:
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=999999999"
    async with rest.watch(f"{MAPS}?{query}") as events:
        told = await events.next()
    assert (told["type"], told["object"]["code"], told["object"]["reason"]) == ("ERROR", 504, "Timeout")


async def test_05_a_watch_from_a_compacted_revision_is_200_and_one_error_event(rest: Rest, server: APIServer) -> None:
    revision = await some_maps(rest, "a", "b")
    await server.storage.compact(revision)
    async with rest.watch(f"{MAPS}?watch=true&resourceVersion=1") as events:
        assert events.status == 200
        event = await events.next()
        assert await events.next_or_end() is None
    assert event["type"] == "ERROR"
    assert (event["object"]["kind"], event["object"]["code"], event["object"]["reason"]) == ("Status", 410, "Expired")


async def test_05_an_expired_continue_is_410_with_a_fresh_inconsistent_token(rest: Rest, server: APIServer) -> None:
    await some_maps(rest, "a", "b", "c")
    token = (await rest.get(f"{MAPS}?limit=1")).json["metadata"]["continue"]
    await server.storage.compact(await some_maps(rest, "bb"))
    answer = await rest.get(f"{MAPS}?limit=1&continue={token}")
    assert (answer.status, answer.json["reason"]) == (410, "Expired")
    assert "use the continue token in this response to retrieve the remainder" in answer.json["message"]
    fresh = answer.json["metadata"]["continue"]
    rest_of_it = (await rest.get(f"{MAPS}?continue={fresh}")).json
    assert names(rest_of_it) == ["b", "bb", "c"]


async def test_06_a_continue_token_is_base64_json_and_its_pages_show_one_revision(rest: Rest) -> None:
    await some_maps(rest, "a", "b", "c")
    first = (await rest.get(f"{MAPS}?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 1
    token = first["metadata"]["continue"]
    decoded = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    assert decoded["rv"] == int(first["metadata"]["resourceVersion"])
    assert set(decoded) == {"v", "rv", "start"}
    await some_maps(rest, "bb", "d")
    second = (await rest.get(f"{MAPS}?limit=2&continue={token}")).json
    assert names(first) + names(second) == ["a", "b", "c"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]


async def test_06_a_forged_start_stays_inside_the_prefix(rest: Rest) -> None:
    forged = {"v": "meta.k8s.io/v1", "rv": -1, "start": "../../secrets/kube-system/x"}
    token = base64.urlsafe_b64encode(orjson.dumps(forged)).decode().rstrip("=")
    answer = await rest.get(f"{MAPS}?limit=2&continue={token}")
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")


async def test_06_remaining_items_are_not_counted_with_selectors(rest: Rest) -> None:
    await some_maps(rest, "a", "b", "c")
    listing = (await rest.get(f"{MAPS}?limit=1&labelSelector=name%20in%20(a,b)")).json
    assert "continue" in listing["metadata"]
    assert "remainingItemCount" not in listing["metadata"]


async def test_07_a_json_watch_is_json_lines_and_not_stream_watch(rest: Rest) -> None:
    await some_maps(rest, "a")
    async with rest.watch(f"{MAPS}?watch=true&resourceVersion=0") as events:
        assert events.headers["Content-Type"] == "application/json"
        assert events.headers["Transfer-Encoding"] == "chunked"
        assert (await events.next())["type"] == "ADDED"


async def test_07_a_protobuf_watch_says_that_it_is_a_stream(rest: Rest) -> None:
    protobuf = "application/vnd.kubernetes.protobuf"
    async with rest.watch(f"{MAPS}?watch=true&timeoutSeconds=1", Accept=f"{protobuf};stream=watch") as events:
        assert events.headers["Content-Type"] == f"{protobuf};stream=watch"
    async with rest.watch(f"{MAPS}?watch=true&timeoutSeconds=1", Accept=protobuf) as events:
        assert events.headers["Content-Type"] == f"{protobuf};stream=watch"


async def test_08_a_watch_ends_when_its_timeout_is_over(rest: Rest) -> None:
    async with rest.watch(f"{MAPS}?watch=true&timeoutSeconds=1") as events:
        assert await events.next_or_end() is None


async def test_09_what_stops_matching_is_deleted_and_what_starts_matching_is_added(rest: Rest) -> None:
    revision = await some_maps(rest, "a", "b")
    query = f"watch=true&resourceVersion={revision}&labelSelector=name%3Da"
    async with rest.watch(f"{MAPS}?{query}") as events:
        changed = (await rest.patch(f"{MAPS}/a", {"metadata": {"labels": {"name": "z"}}, "data": {"k": "new"}})).json
        left = await events.next()
        added = (await rest.patch(f"{MAPS}/b", {"metadata": {"labels": {"name": "a"}}})).json
        came = await events.next()
    assert left["type"] == "DELETED"
    assert left["object"]["data"] == {"k": "v"}
    assert left["object"]["metadata"]["labels"] == {"name": "a"}
    assert left["object"]["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert (came["type"], came["object"]) == ("ADDED", added)


async def test_10_bookmarks_come_only_where_they_are_allowed(rest: Rest) -> None:
    await some_maps(rest, "a")
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    async with rest.watch(f"{MAPS}?{query}") as events:
        seen = [await events.next()]
        await some_maps(rest, "b")
        seen.append(await events.next())
    assert [(one["type"], one["object"]["metadata"]["name"]) for one in seen] == [("ADDED", "a"), ("ADDED", "b")]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("labelSelector=a%3D%3D%3Db", "unable to parse requirement"),
        ("labelSelector=a%20in", "unable to parse requirement"),
        ("fieldSelector=nonsense", "invalid"),
        ("fieldSelector=spec.colour%3Da", "field label not supported: spec.colour"),
    ],
)
async def test_11_a_bad_selector_is_400_and_names_what_is_wrong(rest: Rest, query: str, words: str) -> None:
    answer = await rest.get(f"{{ns}}/pods?{query}")
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    assert words in answer.json["message"]


async def test_12_an_accept_that_cannot_be_met_is_406(rest: Rest) -> None:
    for path in (MAPS, f"{MAPS}/absent", "/api", "/apis", "/version"):
        answer = await rest.get(path, Accept="image/png")
        assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable"), path
    answer = await rest.get("/openapi/v2", Accept="image/png")
    assert (answer.status, answer.body) == (406, b"")


async def test_12_a_bad_content_type_is_415(rest: Rest) -> None:
    answer = await rest.post(MAPS, b"x", "text/plain")
    assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")


async def test_12_a_table_is_for_objects_only(rest: Rest) -> None:
    for path in ("/api/v1", "/version"):
        answer = await rest.get(path, Accept=TABLE)
        if path == "/version":
            assert answer.status == 200, "/version is no object and does not negotiate"
        else:
            assert answer.status == 406, path


@pytest.mark.parametrize(
    ("include", "kind"), [("None", None), ("Metadata", "PartialObjectMetadata"), ("Object", "ConfigMap")]
)
async def test_12_a_table_includes_the_objects_as_asked(rest: Rest, include: str, kind: str | None) -> None:
    await some_maps(rest, "a")
    table = (await rest.get(f"{MAPS}?includeObject={include}", Accept=TABLE)).json
    assert table["kind"] == "Table"
    (row,) = table["rows"]
    assert row["cells"][0] == "a"
    assert (row.get("object") or {}).get("kind") == kind


async def test_13_discovery_is_aggregated_when_asked(rest: Rest) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = await rest.get("/apis", Accept=f"{accept},application/json")
    assert answer.json["kind"] == "APIGroupDiscoveryList"
    assert answer.headers["Content-Type"] == accept
    assert (await rest.get("/apis")).json["kind"] == "APIGroupList"


async def test_13_openapi_v3_names_its_documents_by_hash_and_lets_them_be_cached(rest: Rest) -> None:
    paths = (await rest.get("/openapi/v3")).json["paths"]
    url = paths["apis/apps/v1"]["serverRelativeURL"]
    assert "?hash=" in url
    answer = await rest.get(url)
    assert answer.json["openapi"].startswith("3.0")
    assert "immutable" in answer.headers["Cache-Control"]
    again = await rest.get(url, **{"If-Modified-Since": answer.headers["Last-Modified"]})
    assert (again.status, again.body) == (304, b"")


async def test_13_openapi_v2_is_there_in_gnostic_protobuf(rest: Rest) -> None:
    kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    answer = await rest.get("/openapi/v2", Accept=kind)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert b"io.k8s.api.core.v1.Pod" in answer.body


async def test_13_who_am_i_may_be_asked_in_protobuf(rest: Rest) -> None:
    media = "application/vnd.kubernetes.protobuf"
    # The envelope's four bytes, then runtime.Unknown: its TypeMeta, and an empty message.
    kinds = b"\n\x18authentication.k8s.io/v1\x12\x11SelfSubjectReview"
    body = b"k8s\x00\n" + bytes([len(kinds)]) + kinds + b"\x12\x00"
    answer = await rest.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body, media)
    assert answer.status == 201, answer.body
    assert answer.json["status"]["userInfo"]["username"] == "root"


async def test_11_pods_select_on_their_fields(rest: Rest) -> None:
    await rest.made("{ns}/pods", pod("a"))
    found = (await rest.get("{ns}/pods?fieldSelector=status.phase%3DPending,metadata.name%3Da")).json
    assert names(found) == ["a"]
    assert names((await rest.get("{ns}/pods?fieldSelector=spec.nodeName%21%3D")).json) == []


async def test_11_pods_select_on_what_old_clients_call_their_fields(rest: Rest) -> None:
    await rest.made("{ns}/pods", pod("a"))
    await rest.made("{ns}/pods", pod("b", nodeName="n1"))
    for query, found in (
        ("spec.host%3Dn1", ["b"]),
        ("spec.host%21%3Dn1", ["a"]),
        # A label that upstream takes, of a field that it knows nothing of.
        ("status.podIPs%3D10.0.0.1", []),
        ("status.podIPs%3D", ["a", "b"]),
        ("status.podIPs%21%3D10.0.0.1", ["a", "b"]),
    ):
        assert names((await rest.get(f"{{ns}}/pods?fieldSelector={query}")).json) == found, query
    async with rest.watch("{ns}/pods?watch=true&fieldSelector=spec.host%3Dn1") as events:
        assert (await events.next())["object"]["metadata"]["name"] == "b"


async def test_11_events_select_on_fields_as_their_group_calls_them(rest: Rest) -> None:
    involved = {"kind": "Pod", "name": "p", "namespace": rest.namespace, "uid": "u"}
    for name, kind, component in (("a", "Pod", "x"), ("b", "Service", "y")):
        event = {"metadata": {"name": name}, "involvedObject": {**involved, "kind": kind}}
        await rest.made("{ns}/events", {**event, "reportingComponent": component, "reason": "R", "type": "Normal"})
    theirs = f"/apis/events.k8s.io/v1/namespaces/{rest.namespace}/events"
    for query in ("regarding.kind%3DPod", "reportingController%3Dx", "regarding.kind%21%3DService,regarding.uid%3Du"):
        assert names((await rest.get(f"{theirs}?fieldSelector={query}")).json) == ["a"], query
    assert names((await rest.get("{ns}/events?fieldSelector=involvedObject.kind%3DPod")).json) == ["a"]
    async with rest.watch(f"{theirs}?watch=true&fieldSelector=regarding.kind%3DService") as events:
        assert (await events.next())["object"]["metadata"]["name"] == "b"
    deleted = await rest.delete(f"{theirs}?fieldSelector=reportingController%3Dy")
    assert names(deleted.json) == ["b"]


@pytest.mark.parametrize("watched", ["", "watch=true&"])
async def test_11_events_are_not_selected_by_what_the_other_group_calls_their_fields(rest: Rest, watched: str) -> None:
    theirs = f"/apis/events.k8s.io/v1/namespaces/{rest.namespace}/events"
    refused = (
        ("{ns}/events", ("regarding.kind", "reportingController")),
        (theirs, ("involvedObject.kind", "reportingComponent", "source", "regarding.colour")),
    )
    for path, fields in refused:
        for field in fields:
            answer = await rest.get(f"{path}?{watched}fieldSelector={field}%3Dx")
            assert (answer.status, answer.json["message"]) == (400, f"field label not supported: {field}")
    assert (await rest.delete(f"{theirs}?fieldSelector=source%3Dx")).status == 400


async def test_09_a_watch_of_all_sees_the_change_as_modified(rest: Rest) -> None:
    revision = await some_maps(rest, "a")
    async with rest.watch(f"{MAPS}?watch=true&resourceVersion={revision}") as events:
        changed = (await rest.patch(f"{MAPS}/a", {"data": {"k": "new"}}, MERGE)).json
        assert await events.next() == {"type": "MODIFIED", "object": changed}
