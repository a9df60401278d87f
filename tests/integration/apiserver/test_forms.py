"""Answers in the shape and encoding a client asks for: Table, PartialObjectMetadata, indented, compressed."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
import yaml

from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
CM = "v1/configmaps"


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as made:
        yield made


async def some_maps(api: Api, *names: str, **data: str) -> str:
    """The revision of the last."""
    revision = ""
    for name in names:
        _, made = await api.create(CM, config_map(name, **data))
        revision = made["metadata"]["resourceVersion"]
    return revision


async def events(http: Http, path: str, count: int, accept: str) -> list[dict[str, Any]]:
    async with http.stream(path, {"Accept": accept}) as stream, asyncio.timeout(60):
        return [orjson.loads(await stream.content.readline()) for _ in range(count)]


# --- tables


@pytest.mark.parametrize(
    "path",
    [
        "apis/certificates.k8s.io/v1/certificatesigningrequests/a/approval",
        "apis/apiregistration.k8s.io/v1/apiservices/v1.apps/status",
        "apis/apiextensions.k8s.io/v1/customresourcedefinitions/a/status",
        "apis/resource.k8s.io/v1/namespaces/default/resourceclaims/a/status",
        "api/v1/namespaces/default/pods/a/ephemeralcontainers",
        "api/v1/namespaces/default/pods/a/resize",
    ],
)
async def test_some_parts_of_objects_have_no_table(http: Http, path: str) -> None:
    """Upstream's handlers of these make none."""
    answer = await http.call("GET", f"/{path}", headers={"Accept": TABLE})
    assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")


async def test_only_the_first_table_of_a_watch_has_columns(http: Http, api: Api) -> None:
    revision = await some_maps(api, "a")
    await some_maps(api, "b", "c")
    first, second = await events(http, f"{api.path(CM)}?watch=true&resourceVersion={revision}", 2, TABLE)
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["object"]["columnDefinitions"] is None
    assert [event["object"]["rows"][0]["cells"][0] for event in (first, second)] == ["b", "c"]


async def test_the_bookmark_that_ends_the_initial_events_keeps_its_annotation_in_a_table(http: Http, api: Api) -> None:
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    (bookmark,) = await events(http, f"{api.path(CM)}?{query}&includeObject=None", 1, TABLE)
    row = bookmark["object"]["rows"][0]
    assert (bookmark["type"], row["cells"]) == ("BOOKMARK", ["", 0, "<unknown>"])
    assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize(
    ("include", "kind"), [("None", None), ("Metadata", "PartialObjectMetadata"), ("Object", "HPA")]
)
async def test_rows_carry_what_the_client_wants_in_the_version_it_speaks(
    http: Http, api: Api, include: str, kind: str | None
) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}}
    await api.create("autoscaling/v2/horizontalpodautoscalers", scaler)
    path = api.path("autoscaling/v1/horizontalpodautoscalers")
    for where in (path, f"{path}/h"):
        table = (await http.call("GET", f"{where}?includeObject={include}", headers={"Accept": TABLE})).json
        shown = table["rows"][0]["object"]
        if kind == "HPA":
            assert (shown["apiVersion"], shown["kind"]) == ("autoscaling/v1", "HorizontalPodAutoscaler")
        else:
            assert (shown and shown["kind"]) == kind


async def test_an_unknown_include_object_is_a_bad_request_before_anything_is_written(http: Http, api: Api) -> None:
    for method, path, body in (("GET", api.path(CM), None), ("POST", api.path(CM), config_map("a"))):
        answer = await http.call(method, f"{path}?includeObject=All", body, {"Accept": TABLE})
        assert (answer.status, answer.json["message"]) == (
            400,
            'Unable to convert to Table as requested: includeObject: Invalid value: "All": '
            "must be 'Metadata', 'Object', 'None', or empty",
        )
    assert (await api.get(CM, "a"))[0] == 404


async def test_tables_come_in_pages_across_all_namespaces(http: Http, api: Api) -> None:
    await some_maps(api, "a", "b", "c")
    path, seen, token = "/api/v1/configmaps?limit=2&fieldSelector=metadata.namespace%3D" + api.namespace, [], ""
    while True:
        page = (await http.call("GET", f"{path}&continue={token}" if token else path, headers={"Accept": TABLE})).json
        assert len(page["rows"]) <= 2
        seen += [row["cells"][0] for row in page["rows"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert seen == ["a", "b", "c"]


async def test_a_table_of_a_revision_that_is_yet_to_come_times_out_as_any_list(http: Http, api: Api) -> None:
    answer = await http.call("GET", f"{api.path(CM)}?resourceVersion=99999999", headers={"Accept": TABLE})
    assert (answer.status, answer.json["reason"]) == (504, "Timeout")


async def test_deleting_a_collection_answers_what_was_there_in_the_form_asked_for(http: Http, api: Api) -> None:
    await some_maps(api, "a", "b", "c")
    page = (await http.call("DELETE", f"{api.path(CM)}?limit=1", headers={"Accept": TABLE})).json
    assert [row["cells"][0] for row in page["rows"]] == ["a"]
    assert (page["metadata"]["remainingItemCount"], "continue" in page["metadata"]) == (2, True)
    rest = (await http.call("DELETE", api.path(CM), headers={"Accept": PARTIALS})).json
    assert [item["metadata"]["name"] for item in rest["items"]] == ["b", "c"]
    assert (await api.list(CM))[1]["items"] == []


# --- metadata


@pytest.mark.parametrize(
    ("name", "accept", "what"),
    [
        ("", PARTIAL, "PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"),
        ("/a", PARTIALS, "PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)"),
    ],
)
async def test_one_object_is_no_list_and_a_list_no_object(
    http: Http, api: Api, name: str, accept: str, what: str
) -> None:
    await some_maps(api, "a")
    answer = await http.call("GET", api.path(CM) + name, headers={"Accept": accept})
    assert (answer.status, answer.json["message"]) == (406, f"you requested {what}")


async def test_an_empty_list_of_metadata_is_null_as_in_kubernetes(http: Http, api: Api) -> None:
    assert (await http.call("GET", api.path(CM), headers={"Accept": PARTIALS})).json["items"] is None


async def test_writes_and_watches_answer_with_metadata_alone_when_asked(http: Http, api: Api) -> None:
    made = (await http.call("POST", api.path(CM), config_map("a", k="v"), {"Accept": PARTIAL})).json
    assert (made["kind"], "data" in made) == ("PartialObjectMetadata", False)
    (event,) = await events(http, f"{api.path(CM)}?watch=true", 1, PARTIAL)
    assert event["object"] == made


async def test_reviews_have_no_table(http: Http) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert (await http.call("POST", path, {}, {"Accept": TABLE})).status == 406
    answer = await http.call("POST", path, {}, {"Accept": f"{TABLE},application/json"})
    assert (answer.status, answer.json["kind"]) == (201, "SelfSubjectReview")
    assert (await http.call("POST", path, {}, {"Accept": PARTIAL})).json["kind"] == "PartialObjectMetadata"


async def test_a_form_that_cannot_be_had_is_refused_before_anything_is_written(http: Http, api: Api) -> None:
    for accept, message in (
        ("text/html", "406: Not Acceptable\n\nAvailable representations: application/json, "),
        (TABLE.replace("v1", "v9"), "only the following media types are accepted: application/json, "),
    ):
        answer = await http.call("POST", api.path(CM), config_map("a"), {"Accept": accept})
        assert answer.status == 406
        assert answer.json["message"].startswith(message)
    assert (await api.get(CM, "a"))[0] == 404


@pytest.mark.parametrize(
    ("accept", "status", "form"),
    [
        ("application/*", 406, ""),
        ("application/JSON", 406, ""),
        ("application/json;as=Table", 406, ""),
        ("application/json;g=meta.k8s.io", 406, ""),
        ("application/json;q=0", 201, "application/json"),
        ("application/json;q=much,application/yaml;q=0.1", 201, "application/yaml"),
        ("*/*,application/yaml;q=0.1", 201, "application/yaml"),
        ("application/*,application/yaml;q=0.1", 201, "application/yaml"),
    ],
)
async def test_what_is_accepted_is_read_as_upstreams_router_and_goautoneg_read_it(
    http: Http, api: Api, accept: str, status: int, form: str
) -> None:
    answer = await http.call("POST", f"{api.path(CM)}?dryRun=All", config_map("b"), {"Accept": accept})
    assert (answer.status, answer.headers["Content-Type"] if form else "") == (status, form)
    await some_maps(api, "a")
    read = await http.call("GET", f"{api.path(CM)}/a", headers={"Accept": accept})
    assert (read.status, read.headers["Content-Type"] if form else "") == (status and 200 if form else 406, form)


@pytest.mark.parametrize("accept", ["application/json", TABLE])
async def test_a_watch_of_less_than_no_time_is_over_at_once(http: Http, api: Api, accept: str) -> None:
    """As upstream, where one that has an event to send may have sent it."""
    await some_maps(api, "a")
    answer = await http.call("GET", f"{api.path(CM)}?watch=true&timeoutSeconds=-1", headers={"Accept": accept})
    assert (answer.status, answer.body.count(b"\n") <= 1) == (200, True)


@pytest.mark.parametrize("seconds", ["-1", "1"])
async def test_a_watch_in_process_and_by_grpc_lasts_as_long_as_was_asked(api: Api, seconds: str) -> None:
    """As by HTTP; one that is over at once may have sent what there was."""
    await some_maps(api, "a")
    told: list[str] = []
    async with asyncio.timeout(60):
        async for batch in api.transport.watch(api.path(CM), query={"timeoutSeconds": seconds}):
            told += [event.type for event in batch]
    assert told == ["ADDED"] or (seconds == "-1" and told == [])


@pytest.mark.parametrize("accept", ["application/json", TABLE])
async def test_a_parameter_with_a_semicolon_does_not_count(http: Http, api: Api, accept: str) -> None:
    await some_maps(api, "a", "b")
    answer = await http.call("GET", f"{api.path(CM)}?limit=1;x&labelSelector=a;b", headers={"Accept": accept})
    assert len(answer.json["rows" if accept == TABLE else "items"]) == 2


# --- indented, compressed


async def test_only_what_go_takes_for_true_is_a_wish_for_indentation(http: Http, api: Api) -> None:
    await some_maps(api, "a")
    for given, indented in (("true", True), ("T", True), ("1", True), ("yes", False), ("tRUE", False), ("0", False)):
        answer = await http.call("GET", f"{api.path(CM)}/a?pretty={given}")
        assert (b"\n  " in answer.body) == indented, given


async def test_a_parameter_of_the_media_type_is_a_wish_for_indentation_too(http: Http, api: Api) -> None:
    await some_maps(api, "a")
    for accept, indented in (("application/json;pretty=1", True), ("application/json; pretty=0", False)):
        for path in (f"{api.path(CM)}/a", api.path(CM), f"{api.path(CM)}/missing"):
            answer = await http.call("GET", path, headers={"Accept": accept})
            assert (b"\n  " in answer.body) == indented, (accept, path)


@pytest.mark.parametrize("headers", [{"User-Agent": "curl/8.0"}, {"User-Agent": "kubectl"}])
@pytest.mark.parametrize("query", ["", "?pretty=true", "?pretty=false", "?pretty="])
async def test_people_get_indented_json_and_programs_when_they_ask(
    http: Http, api: Api, headers: dict[str, str], query: str
) -> None:
    pretty = query == "?pretty=true" or (headers["User-Agent"].startswith("curl") and query != "?pretty=false")
    paths = [api.path(CM), f"{api.path(CM)}/missing", "/apis", "/apis/apps/v1/nothing"]
    answers = [await http.call("GET", path + query, headers=headers) for path in paths]
    answers.append(await http.call("POST", api.path(CM) + query, config_map("a"), headers))
    answers.append(await http.call("GET", api.path(CM) + query, headers={**headers, "Accept": TABLE}))
    for answer in answers:
        assert answer.body.startswith(b'{\n  "') == pretty, answer.body[:80]
        assert answer.json


@pytest.mark.parametrize("path", ["/", "/metrics", "/nosuch", "/version", "/readyz", "/api/v1/pods"])
@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_who_is_refused_reads_it_indented_everywhere(
    server: APIServer, tmp_path: Path, token: str, path: str
) -> None:
    async with Http(server, tmp_path, token=token) as http:
        for agent in ("curl/8.0", "Wget/1.21", "kubectl"):
            answer = await http.call("GET", path, headers={"User-Agent": agent})
            if not token and path in ("/version", "/readyz"):
                assert answer.status == 200
            else:
                begins = b'{"kind":' if agent == "kubectl" else b'{\n  "kind": "Status",\n'
                assert (answer.status, answer.body[: len(begins)]) == (401 if token else 403, begins)


@pytest.mark.parametrize("accept", ["application/json", TABLE, "application/yaml"])
async def test_large_answers_are_compressed_for_those_who_take_it(
    server: APIServer, tmp_path: Path, api: Api, accept: str
) -> None:
    noise = "".join(f"{n:08x}" for n in range(20_000))
    _, made = await api.create(CM, config_map("a", k=noise))
    pair = server.issue_client_certificate("root", ["system:masters"])
    async with Http(server, tmp_path, pair=pair) as http:
        session: aiohttp.ClientSession = http._session
        path = f"{server.url}{api.path(CM)}/a?includeObject=Object"
        for encoding, expected in (("gzip", "gzip"), ("identity", None), ("gzip;q=0", None)):
            headers = {"Accept": accept, "Accept-Encoding": encoding}
            async with session.get(path, headers=headers, auto_decompress=False) as answer:
                body = await answer.read()
                assert answer.headers.get("Content-Encoding") == expected
        async with session.get(path, headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as answer:
            body = await answer.read()
    assert orjson.loads(gzip.decompress(body)) == made
    assert len(body) < len(zlib.compress(noise.encode(), 0))


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_openapi_v2_says_once_that_it_may_be_compressed(http: Http, encoding: str) -> None:
    answer = await http.call("GET", "/openapi/v2", headers={"Accept-Encoding": encoding})
    told = answer.headers.getall("Vary")  # type: ignore[attr-defined]
    assert sorted(told) == ["Accept", "Accept-Encoding"]


async def test_small_answers_are_not_compressed(http: Http, api: Api) -> None:
    answer = await http.call("GET", api.path(CM), headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers


# --- methods


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE"])
async def test_resources_answer_no_other_methods(http: Http, api: Api, method: str) -> None:
    for path in (api.path(CM), api.path(CM, "a")):
        answer = await http.call(method, path)
        assert answer.status == 405
        if method != "HEAD":
            assert (answer.json["reason"], answer.json["details"]) == ("MethodNotAllowed", {})


# --- items of lists


def without_type(obj: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}


@pytest.mark.parametrize("accept", ["application/json", "application/yaml"])
async def test_items_of_a_typed_list_leave_their_kind_to_the_list(http: Http, api: Api, accept: str) -> None:
    _, made = await api.create(CM, config_map("a", k="v"))
    await some_maps(api, "b")
    for query in ("", "?limit=1", "?labelSelector=!x", "?fieldSelector=metadata.name=a"):
        answer = await http.call("GET", api.path(CM) + query, headers={"Accept": accept})
        listed = yaml.safe_load(answer.body)
        assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
        assert listed["items"][0] == without_type(made)


async def test_items_in_another_version_than_the_stored_one_leave_their_kind_to_the_list(http: Http, api: Api) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}}
    await api.create("autoscaling/v2/horizontalpodautoscalers", scaler)
    for served in ("v1", "v2"):
        listed = (await http.call("GET", api.path(f"autoscaling/{served}/horizontalpodautoscalers"))).json
        assert listed["apiVersion"] == f"autoscaling/{served}"
        assert [item.keys() for item in listed["items"]] == [{"metadata", "spec", "status"}]


async def test_events_and_items_of_partial_metadata_say_their_kind(http: Http, api: Api) -> None:
    await some_maps(api, "a")
    (event,) = await events(http, f"{api.path(CM)}?watch=true", 1, "application/json")
    assert (event["object"]["kind"], event["object"]["apiVersion"]) == ("ConfigMap", "v1")
    listed = (await http.call("GET", api.path(CM), headers={"Accept": PARTIALS})).json
    assert [(item["kind"], item["apiVersion"]) for item in listed["items"]] == [
        ("PartialObjectMetadata", "meta.k8s.io/v1")
    ]


async def test_the_list_that_answers_a_collections_deletion_has_items_without_kind(http: Http, api: Api) -> None:
    _, made = await api.create(CM, config_map("a"))
    deleted = (await http.call("DELETE", api.path(CM))).json
    assert (deleted["kind"], deleted["items"]) == ("ConfigMapList", [without_type(made)])
