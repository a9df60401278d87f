"""Discovery documents, as kubectl and client-go ask for them."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
import yaml

from kubecore.api import protobuf, scheme
from kubecore.apiserver.discovery.accepting import media_ranges
from kubecore.apiserver.discovery.serving import Discovery

KUBECTL = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@pytest.fixture(scope="module")
def discovery() -> Discovery:
    return Discovery(scheme.default(), server_address="127.0.0.1:6443")


def document(discovery: Discovery, path: str, accept: str = "") -> dict[str, Any]:
    answer = discovery.respond(path, accept)
    assert answer is not None
    assert answer.status == 200
    parsed: dict[str, Any] = orjson.loads(answer.body)
    return parsed


def test_legacy_roots_name_versions_and_groups(discovery: Discovery) -> None:
    assert document(discovery, "/api")["versions"] == ["v1"]
    groups = document(discovery, "/apis")["groups"]
    assert "" not in [group["name"] for group in groups]
    apps = next(group for group in groups if group["name"] == "apps")
    assert apps["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert document(discovery, "/apis/apps")["kind"] == "APIGroup"


@pytest.mark.parametrize(
    ("path", "name", "told"),
    [
        ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "jfWCUB31mvA="),
        ("/apis/storage.k8s.io/v1", "volumeattributesclasses", "Bl3MtjZ/n/s="),
    ],
)
def test_the_hash_of_the_storage_version_is_upstreams(discovery: Discovery, path: str, name: str, told: str) -> None:
    (found,) = [one for one in document(discovery, path)["resources"] if one["name"] == name]
    assert found["storageVersionHash"] == told


def test_a_resource_list_has_resources_and_subresources(discovery: Discovery) -> None:
    entries = {entry["name"]: entry for entry in document(discovery, "/api/v1")["resources"]}
    assert list(entries) == sorted(entries)
    assert entries["pods"] == {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["po"],
        "categories": ["all"],
        # As every real cluster shows it.
        "storageVersionHash": "xPOwRZ+Yhw8=",
    }
    assert entries["pods/eviction"]["group"] == "policy"
    assert entries["pods/exec"]["verbs"] == ["create", "get"]
    assert "group" not in entries["pods/status"]


def test_kubectl_gets_the_aggregated_form_in_its_newest_version(discovery: Discovery) -> None:
    answer = discovery.respond("/apis", KUBECTL)
    assert answer is not None
    assert answer.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    items = orjson.loads(answer.body)["items"]
    apps = next(item for item in items if item["metadata"]["name"] == "apps")
    deployments = next(entry for entry in apps["versions"][0]["resources"] if entry["resource"] == "deployments")
    # As upstream: of the version that it is listed in, where nothing else is said.
    assert deployments["responseKind"] == {"group": "", "version": "", "kind": "Deployment"}
    assert deployments["scope"] == "Namespaced"
    scale = next(entry for entry in deployments["subresources"] if entry["subresource"] == "scale")
    assert scale["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def test_custom_kinds_say_their_version_in_the_aggregated_form() -> None:
    deployments = scheme.default().resource("deployments.apps")
    widgets = replace(deployments, group="example.com", kind="Widget", plural="widgets", storage_version="v1")
    [group] = document(Discovery(scheme.Scheme([widgets])), "/apis", KUBECTL)["items"]
    told = group["versions"][0]["resources"][0]["responseKind"]
    assert told == {"group": "example.com", "version": "v1", "kind": "Widget"}


def test_the_older_aggregated_form_is_gone_and_its_clients_get_the_legacy_one(discovery: Discovery) -> None:
    older = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    answer = discovery.respond("/apis", older)
    assert answer is not None
    assert answer.status == 406
    assert document(discovery, "/apis", f"{older},application/json")["kind"] == "APIGroupList"


def test_the_aggregated_document_comes_in_yaml_too(discovery: Discovery) -> None:
    form = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer, in_json = (discovery.respond("/apis", f"application/{kind};{form}") for kind in ("yaml", "json"))
    assert answer is not None
    assert in_json is not None
    assert (answer.status, answer.content_type) == (200, f"application/yaml;{form}")
    assert yaml.safe_load(answer.body) == orjson.loads(in_json.body)


def test_legacy_documents_come_in_yaml(discovery: Discovery) -> None:
    answer = discovery.respond("/apis/apps", "application/yaml")
    assert answer is not None
    assert answer.content_type == "application/yaml"
    assert b"name: apps" in answer.body


def test_the_list_of_a_version_cannot_be_had_by_a_range_of_types(discovery: Discovery) -> None:
    for path, status in (("/api", 406), ("/apis/apps/v1", 406), ("/apis", 200), ("/apis/apps", 200)):
        answer = discovery.respond(path, "application/*")
        assert answer is not None
        assert answer.status == status, path


def test_the_core_group_is_aggregated_below_api(discovery: Discovery) -> None:
    [core] = document(discovery, "/api", KUBECTL)["items"]
    assert core["metadata"] == {}


def test_a_known_etag_is_answered_304(discovery: Discovery) -> None:
    first = discovery.respond("/apis", KUBECTL)
    assert first is not None
    etag = dict(first.headers)["ETag"]
    again = discovery.respond("/apis", KUBECTL, etag)
    assert again is not None
    assert (again.status, again.body, again.content_type) == (304, b"", "")
    legacy = discovery.respond("/apis", "application/json", etag)
    assert legacy is not None
    assert legacy.status == 200


def test_only_the_whole_of_if_none_match_is_a_known_etag(discovery: Discovery) -> None:
    first = discovery.respond("/apis", KUBECTL)
    assert first is not None
    etag = dict(first.headers)["ETag"]
    for sent in (f'"other", {etag}', f"W/{etag}", "*"):
        again = discovery.respond("/apis", KUBECTL, sent)
        assert again is not None
        assert (again.status, again.body) == (200, first.body), sent


@pytest.mark.parametrize("path", ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1"])
def test_legacy_documents_have_no_etag(discovery: Discovery, path: str) -> None:
    answer = discovery.respond(path, "application/json")
    assert answer is not None
    assert (answer.status, answer.headers) == (200, ())


def test_an_accept_that_cannot_be_met_is_406(discovery: Discovery) -> None:
    answer = discovery.respond("/apis", "text/html")
    assert answer is not None
    assert answer.status == 406


@pytest.mark.parametrize("path", ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1"])
@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json;stream=watch", 200),
        ("*/*;stream=watch", 200),
        ("application/yaml;stream=watch", 406),
        ("application/json;stream=x", 406),
        ("application/json;sv=1", 406),
        ("application/json;g=x", 406),
        ("application/json;v=v2", 406),
        ("application/json;pretty=1", 200),
    ],
)
def test_parameters_ask_for_what_upstreams_negotiation_takes_them_for(
    discovery: Discovery, path: str, accept: str, status: int
) -> None:
    answer = discovery.respond(path, accept)
    assert answer is not None
    assert answer.status == status


@pytest.mark.parametrize(
    "path", ["/apis/nothing.io", "/apis/apps/v9", "/api/v2", "/apis/apps/v1/deployments", "/apis//v1"]
)
def test_other_paths_are_not_discovery(discovery: Discovery, path: str) -> None:
    assert discovery.respond(path) is None


def test_another_scheme_takes_effect_at_once() -> None:
    changing = Discovery(scheme.Scheme([]))
    assert document(changing, "/apis")["groups"] == []
    changing.replace(scheme.default())
    assert document(changing, "/apis")["groups"] != []


def test_accept_headers_are_read_best_first() -> None:
    ranges = [entry.media for entry in media_ranges("*/*;q=x, text/html;q=0.2, application/json;q=0.9, a/b;q=0, odd")]
    assert ranges == ["application/json", "text/html", "a/b", "*/*"]
    assert [entry.media for entry in media_ranges("*/*, application/yaml;q=0.1")] == ["application/yaml", "*/*"]
    assert [entry.media for entry in media_ranges("")] == ["*/*"]


@pytest.mark.parametrize("path", ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1"])
def test_documents_come_in_protobuf(discovery: Discovery, path: str) -> None:
    answer = discovery.respond(path, protobuf.MEDIA)
    assert answer is not None
    assert answer.content_type == protobuf.MEDIA
    plain = document(discovery, path)
    read = orjson.loads(protobuf.decode(answer.body))
    assert read["kind"] == plain["kind"]
    for name in ("versions", "groups", "resources", "name"):
        assert len(read.get(name, "")) == len(plain.get(name, ""))


@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_the_aggregated_form_comes_in_protobuf(discovery: Discovery, path: str) -> None:
    form = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = discovery.respond(path, f"{protobuf.MEDIA};{form},{KUBECTL}")
    assert answer is not None
    assert answer.content_type == f"{protobuf.MEDIA};{form}"
    items = orjson.loads(protobuf.decode(answer.body))["items"]
    plain = document(discovery, path, KUBECTL)["items"]
    assert [item["versions"] for item in items] == [item["versions"] for item in plain]
