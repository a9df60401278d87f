"""Which paths and methods lead anywhere: as kube-apiserver v1.35 answers them, for built-in and for custom kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map, deployment, pod
from .definitions import crd, define, version
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_PATH = "the server could not find the requested resource"
NO_METHOD = "the server does not allow this method on the requested resource"
PAGE = b"404 page not found\n"


def custom(kind: str) -> dict[str, Any]:
    return {"apiVersion": "paths.com/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {"size": 1}}


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/bindings/a",
        "/apis/authentication.k8s.io/v1/tokenreviews/a",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/a",
        "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews/a",
    ],
)
async def test_what_can_only_be_created_has_no_names(http: Http, method: str, path: str) -> None:
    answer = await http.call(method, path, {})
    assert (answer.status, answer.json["message"]) == (404, NO_PATH)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/api/v1/pods/a", "/api/v1/pods/a/status", "/api/v1/pods/a/proxy/b", "/apis/apps/v1/deployments/a/scale"]
)
async def test_what_is_in_namespaces_has_no_name_outside_of_them(http: Http, method: str, path: str) -> None:
    answer = await http.call(method, path, {})
    assert (answer.status, answer.json["message"]) == (404, NO_PATH)


async def test_who_may_not_ask_for_it_is_not_told_that_there_is_no_such_path(server: APIServer, tmp_path: Path) -> None:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("nobody")) as nobody:
        assert (await nobody.call("GET", "/api/v1/pods/a")).status == 403


async def test_a_subresource_is_one_of_a_name(http: Http, api: Api) -> None:
    for path in ("pods//status", "pods//log", "pods//exec", "serviceaccounts//status"):
        answer = await http.call("GET", f"/api/v1/namespaces/{api.namespace}/{path}")
        known = path != "serviceaccounts//status"
        assert (answer.status, answer.json["message"]) == ((400, "name must be provided") if known else (404, NO_PATH))
    answer = await http.call("GET", "/api/v1/namespaces//status")
    assert (answer.status, answer.json["message"]) == (400, "name must be provided")
    # It has no GET, whatever its name.
    assert (await http.call("GET", f"/api/v1/namespaces/{api.namespace}/pods//eviction")).status == 405


async def test_options_are_for_what_is_behind_a_proxy(http: Http, api: Api) -> None:
    pods = f"/api/v1/namespaces/{api.namespace}/pods"
    answer = await http.call("OPTIONS", f"{pods}/none/proxy")
    assert (answer.status, answer.json["message"]) == (404, 'pods "none" not found')
    answer = await http.call("OPTIONS", f"{pods}/none")
    assert (answer.status, answer.json["message"]) == (405, NO_METHOD)


async def test_the_node_that_is_missing_is_told_as_a_pod(http: Http, api: Api) -> None:
    """As upstream, whose NodeGetter's error is made into one of the resource that was asked for."""
    await api.create("v1/pods", pod("p", nodeName="nowhere"))
    for subresource in ("log", "exec?command=a", "attach"):
        answer = await http.call("GET", f"/api/v1/namespaces/{api.namespace}/pods/p/{subresource}")
        if answer.status != 400:  # Not asked to switch protocols, some are refused before.
            assert (answer.status, answer.json["message"]) == (404, 'pods "nowhere" not found')


async def test_custom_resources_are_not_where_their_scope_is_not(http: Http, cluster: Api, api: Api) -> None:
    await define(cluster, crd("scoped", "Scoped", group="paths.com"))
    await define(cluster, crd("wides", "Wide", group="paths.com", scope="Cluster"))
    for method, path in (
        ("GET", "/apis/paths.com/v1/scoped/a"),
        ("POST", "/apis/paths.com/v1/scoped"),
        ("DELETE", "/apis/paths.com/v1/scoped"),
        ("GET", f"/apis/paths.com/v1/namespaces/{api.namespace}/wides"),
    ):
        answer = await http.call(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.body) == (404, PAGE), path
    # Across all namespaces they are listed.
    assert (await http.call("GET", "/apis/paths.com/v1/scoped")).status == 200


async def test_a_subresource_that_a_definition_has_not_is_an_object_that_is_not_there(
    http: Http, cluster: Api, api: Api
) -> None:
    await define(cluster, crd("bares", "Bare", group="paths.com"))
    path = f"/apis/paths.com/v1/namespaces/{api.namespace}/bares"
    await http.call("POST", path, custom("Bare"))
    for subresource in ("status", "scale", "other"):
        answer = await http.call("GET", f"{path}/a/{subresource}")
        assert (answer.status, answer.json["message"]) == (404, 'bares.paths.com "a" not found')


async def test_methods_that_custom_resources_have_not_are_told_with_their_kind(
    http: Http, cluster: Api, api: Api
) -> None:
    definition = crd("verbs", "Verb", version(subresources={"status": {}}), group="paths.com")
    await define(cluster, definition)
    path = f"/apis/paths.com/v1/namespaces/{api.namespace}/verbs"
    for method, below, verb in (
        ("OPTIONS", "", ""),
        ("DELETE", "/a/status", "delete"),
        ("POST", "/a/status", "create"),
    ):
        answer = await http.call(method, path + below)
        message = f'{verb} is not supported on resources of kind "verbs.paths.com"'
        assert (answer.status, answer.json["message"]) == (405, message)
        assert answer.json["details"] == {"group": "paths.com", "kind": "verbs"}
    answer = await http.call("PUT", path, {})
    assert (answer.status, answer.json["message"]) == (400, "name must be provided")


async def test_a_patch_of_all_custom_resources_is_first_one_of_a_type(http: Http, cluster: Api, api: Api) -> None:
    await define(cluster, crd("patched", "Patched", group="paths.com"))
    path = f"/apis/paths.com/v1/namespaces/{api.namespace}/patched"
    for kind in ("application/json", "application/strategic-merge-patch+json"):
        answer = await http.call("PATCH", path, {}, {"Content-Type": kind})
        assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")
    answer = await http.call("PATCH", path, {}, {"Content-Type": "application/merge-patch+json"})
    assert (answer.status, answer.json["message"]) == (400, "name must be provided")


async def test_custom_resources_have_heads(http: Http, cluster: Api, api: Api) -> None:
    """Upstream's handler of custom resources looks at the verb and not at the method; others have routes by method."""
    await define(cluster, crd("heads", "Head", group="paths.com"))
    path = f"/apis/paths.com/v1/namespaces/{api.namespace}/heads"
    answer = await http.call("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")
    assert (await http.call("HEAD", f"{path}/none")).status == 404
    assert (await http.call("HEAD", f"/api/v1/namespaces/{api.namespace}/pods")).status == 405


async def test_an_update_without_a_version_is_told_of_the_resource(http: Http, api: Api, cluster: Api) -> None:
    """apiserver pkg/registry/generic/registry/store.go: "leave the Kind field empty ... see #18526"."""
    await define(cluster, crd("olds", "Old", group="paths.com"))
    path = f"/apis/paths.com/v1/namespaces/{api.namespace}/olds"
    made = (await http.call("POST", path, custom("Old"))).json
    del made["metadata"]["resourceVersion"]
    answer = await http.call("PUT", f"{path}/a", made)
    wrong = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    assert (answer.status, answer.json["message"]) == (422, f'olds.paths.com "a" is invalid: {wrong}')
    assert answer.json["details"]["kind"] == "olds"


async def test_a_name_that_is_about_to_be_free_is_told_as_such(api: Api) -> None:
    """apiserver store.go, Create: "object is being deleted: "."""
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/held"]
    await api.create("v1/configmaps", held)
    await api.delete("v1/configmaps", "held")
    for query in ({}, {"dryRun": "All"}):
        status, error = await api.create("v1/configmaps", config_map("held"), **query)
        expected = 'object is being deleted: configmaps "held" already exists'
        assert (status, error["message"]) == (409, expected)


async def test_everything_of_a_cluster_is_in_no_namespace(cluster: Api, api: Api) -> None:
    """apimachinery pkg/runtime/conversion.go: kinds without selectable fields take metadata.namespace, all of them."""
    for resource, code in (("v1/persistentvolumes", 200), ("storage.k8s.io/v1/storageclasses", 200), ("v1/nodes", 400)):
        status, listed = await cluster.list(resource, fieldSelector="metadata.namespace=a")
        assert status == code
        assert code != 200 or listed["items"] == []
    for resource, message in (
        ("apps/v1/replicasets", '"a" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("batch/v1/jobs", 'field label "a" not supported for Job'),
        ("v1/pods", "field label not supported: a"),
        (
            "resource.k8s.io/v1/resourceclaims",
            '"a" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
    ):
        assert (await api.list(resource, fieldSelector="a=b"))[1]["message"] == message
    status, error = await cluster.list("resource.k8s.io/v1/resourceslices", fieldSelector="a=b")
    assert error["message"] == "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: a"


async def test_scaling_a_custom_resource_is_judged_by_its_own_rules(cluster: Api, api: Api) -> None:
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    await define(cluster, crd("scales", "Scaled", version(subresources={"scale": scale}), group="paths.com"))
    resource = "paths.com/v1/scales"
    await api.create(resource, custom("Scaled"))
    wanted = {"metadata": {"name": "a"}, "spec": {"replicas": -1}}
    status, error = await api.call("PUT", api.path(resource, "a", "scale"), wanted)
    wrong = ".spec.replicas: Invalid value: -1: should be a non-negative integer"
    assert (status, error["message"]) == (422, f'Scaled.paths.com "a" is invalid: {wrong}')
    await api.create("apps/v1/deployments", deployment("d"))
    status, error = await api.call(
        "PUT", api.path("apps/v1/deployments", "d", "scale"), {**wanted, "metadata": {"name": "d"}}
    )
    assert error["message"].startswith('Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1')


async def test_events_are_told_by_the_group_they_were_asked_for_in(api: Api) -> None:
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "namespace": api.namespace, "name": "p"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "action": "A",
        "reason": "R",
        "type": "Normal",
    }
    for resource, name in (("events.k8s.io/v1/events", "events.events.k8s.io"), ("v1/events", "events")):
        status, error = await api.get(resource, "none")
        assert (status, error["message"]) == (404, f'{name} "none" not found')
        status, error = await api.delete(resource, "none")
        assert (status, error["message"]) == (404, f'{name} "none" not found')
    assert (await api.create("events.k8s.io/v1/events", event))[0] == 201
    status, error = await api.create("events.k8s.io/v1/events", event)
    assert (status, error["message"]) == (409, 'events.events.k8s.io "e" already exists')
    _, gone = await api.delete("events.k8s.io/v1/events", "e")
    assert gone["details"]["group"] == "events.k8s.io"
