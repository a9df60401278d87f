"""What an update or patch may say of an object's identity and owners, and whose the fields are afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.interface import RevisionConflict

from .conftest import Api, config_map, deployment, pod
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
APPLY = "application/apply-patch+yaml"
CM = "v1/configmaps"
DEPLOY = "apps/v1/deployments"


async def test_an_update_names_its_object(api: Api) -> None:
    await api.create(CM, config_map("a"))
    for metadata in ({}, {"name": ""}):
        status, error = await api.call("PUT", api.path(CM, "a"), {"metadata": metadata})
        assert (status, error["message"]) == (
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        )
    status, _ = await api.patch(CM, "a", {"metadata": {"name": None}})
    assert status == 400


async def test_a_put_makes_the_object_where_its_kind_has_it_so(api: Api, cluster: Api) -> None:
    status, made = await cluster.call(
        "PUT", cluster.path("node.k8s.io/v1/runtimeclasses", "put"), {"metadata": {"name": "put"}, "handler": "h"}
    )
    assert (status, made["handler"]) == (201, "h")
    await cluster.delete("node.k8s.io/v1/runtimeclasses", "put")
    status, _ = await cluster.call(
        "PUT", cluster.path("scheduling.k8s.io/v1/priorityclasses", "put"), {"metadata": {"name": "put"}, "value": 1}
    )
    assert status == 404
    status, _ = await api.call("PUT", api.path("v1/podtemplates", "put"), {"metadata": {"name": "put"}})
    assert status == 404


async def test_a_patch_does_not_change_the_uid_and_nobody_sets_a_deletion_timestamp(api: Api) -> None:
    await api.create(CM, config_map("a"))
    for metadata in ({"uid": "other"}, {"deletionTimestamp": "2020-01-01T00:00:00Z"}):
        status, error = await api.patch(CM, "a", {"metadata": metadata})
        (field,) = metadata
        assert (status, error["details"]["causes"][0]["field"]) == (422, f"metadata.{field}")
        assert "field is immutable" in error["message"]


@pytest.mark.parametrize("sent", [{"uid": "other"}, {"deletionTimestamp": "2020-01-01T00:00:00Z"}])
async def test_all_that_is_wrong_with_an_update_is_told_at_once(api: Api, sent: JSON) -> None:
    await api.create(CM, config_map("a"))
    _, error = await api.patch(CM, "a", {"metadata": {"labels": {"-": "x"}, **sent}})
    (field,) = sent
    fields = [cause["field"] for cause in error["details"]["causes"]]
    assert list(dict.fromkeys(fields)) == ["metadata.labels", f"metadata.{field}"]


async def test_nobody_says_how_gracefully_an_object_is_to_go_that_is_not_to_go(api: Api) -> None:
    _, made = await api.create(CM, config_map("a"))
    made["metadata"]["deletionGracePeriodSeconds"] = 5
    for status, error in (
        await api.update(CM, made),
        await api.patch(CM, "a", {"metadata": {"deletionGracePeriodSeconds": 5}}),
    ):
        assert (status, error["details"]["causes"][0]["field"]) == (422, "metadata.deletionGracePeriodSeconds")


async def test_the_deletion_timestamp_of_an_object_that_is_to_go_is_kept(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(CM, given)
    _, going = await api.delete(CM, "a")
    moved = {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z", "finalizers": []}}
    status, gone = await api.patch(CM, "a", moved)
    assert (status, gone["metadata"]["deletionTimestamp"]) == (200, going["metadata"]["deletionTimestamp"])


async def test_a_write_of_a_pods_status_says_nothing_of_its_deletion(api: Api) -> None:
    await api.create("v1/pods", pod("a"))
    forged = {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}, "status": {"message": "m"}}
    status, patched = await api.patch("v1/pods", "a", forged, subresource="status")
    assert (status, patched["status"]["message"]) == (200, "m")
    assert "deletionTimestamp" not in patched["metadata"]


async def test_the_namespace_that_a_patch_gives_an_object_of_the_cluster_is_dropped(api: Api, cluster: Api) -> None:
    status, patched = await cluster.patch("v1/namespaces", api.namespace, {"metadata": {"namespace": "other"}})
    assert (status, "namespace" in patched["metadata"]) == (200, False)


async def test_a_generation_that_its_kind_does_not_count_is_the_clients(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["generation"] = 7
    _, made = await api.create(CM, given)
    assert made["metadata"]["generation"] == 7
    _, patched = await api.patch(CM, "a", {"metadata": {"generation": 9}, "data": {"k": "v"}})
    assert patched["metadata"]["generation"] == 7
    given["metadata"].update(name="b", generation=-1)
    _, error = await api.create(CM, given)
    assert "metadata.generation: Invalid value: -1: must be greater than or equal to 0" in error["message"]


async def test_an_owner_named_twice_is_there_once_and_the_client_is_told(
    server: APIServer, api: Api, tmp_path: Any
) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u-1"}
    pair = server.issue_client_certificate("root", ["system:masters"])
    async with Http(server, tmp_path, pair=pair) as http:
        made = config_map("a")
        made["metadata"]["ownerReferences"] = [owner, owner]
        answer = await http.call("POST", api.path(CM), made)
        assert answer.json["metadata"]["ownerReferences"] == [owner]
        assert answer.headers["Warning"].startswith('299 - ".metadata.ownerReferences contains duplicate entries; API')
        merge = {"Content-Type": "application/merge-patch+json"}
        patch = {"metadata": {"ownerReferences": [owner, owner]}}
        answer = await http.call("PATCH", api.path(CM, "a"), patch, merge)
        assert answer.json["metadata"]["ownerReferences"] == [owner]
        assert "duplicate entries after mutating admission happens" in answer.headers["Warning"]


async def test_what_admission_and_the_kind_add_is_nobodys(api: Api) -> None:
    _, obj = await api.create("v1/pods", pod("p"))
    assert obj["spec"]["serviceAccountName"] == "default" and obj["spec"]["volumes"] and obj["status"]["phase"]
    (own,) = obj["metadata"]["managedFields"]
    assert "f:status" not in own["fieldsV1"]
    assert {"f:serviceAccountName", "f:volumes", "f:tolerations", "f:priority"} & own["fieldsV1"][
        "f:spec"
    ].keys() == set()
    _, service = await api.create("v1/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    assert service["spec"]["clusterIP"]
    (own,) = service["metadata"]["managedFields"]
    assert {"f:clusterIP", "f:clusterIPs"} & own["fieldsV1"]["f:spec"].keys() == set()


async def test_structures_within_what_is_new_are_owned_themselves(api: Api) -> None:
    _, obj = await api.create("v1/pods", pod("p"))
    container = obj["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"main"}']
    assert (container["f:resources"], "." in container) == ({}, True)


async def test_the_status_of_a_deployment_leaves_its_labels(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    patch = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "status": {"replicas": 1}}
    _, obj = await api.patch(DEPLOY, "d", patch, subresource="status")
    assert ("labels" in obj["metadata"], obj["metadata"]["annotations"]) == (False, {"c": "d"})
    config = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}}}
    path = api.path(DEPLOY, "d", "status")
    status, obj = await api.call("PATCH", path, config, "application/apply-patch+yaml", fieldManager="m")
    assert (status, "labels" in obj["metadata"]) == (200, False)
    assert [one for one in obj["metadata"]["managedFields"] if one["manager"] == "m"] == []


@pytest.mark.parametrize("left_out", [(), ("spec",), ("spec", "managedFields")])
async def test_a_status_needs_neither_the_spec_nor_the_owners(api: Api, left_out: tuple[str, ...]) -> None:
    _, before = await api.create(DEPLOY, deployment("d"))
    sent = {name: part for name, part in before.items() if name not in left_out} | {"status": {"replicas": 1}}
    sent["metadata"] = {name: part for name, part in before["metadata"].items() if name not in left_out}
    status, after = await api.call("PUT", api.path(DEPLOY, "d", "status"), sent, fieldManager="m")
    assert (status, after["spec"], after["status"]) == (200, before["spec"], {"replicas": 1})
    (spec,) = (one for one in after["metadata"]["managedFields"] if "subresource" not in one)
    (own,) = (one for one in after["metadata"]["managedFields"] if "subresource" in one)
    assert spec == before["metadata"]["managedFields"][0]
    assert (own["manager"], own["fieldsV1"]) == ("m", {"f:status": {"f:replicas": {}}})
    status, again = await api.call("PUT", api.path(DEPLOY, "d", "status"), after, fieldManager="other")
    assert (status, again) == (200, after)


async def test_an_element_a_strategic_patch_adds_comes_first(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    container = {"name": "added", "image": "i"}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    _, obj = await api.patch(DEPLOY, "d", patch, "strategic-merge-patch")
    assert [one["name"] for one in obj["spec"]["template"]["spec"]["containers"]] == ["added", "main"]


@pytest.mark.parametrize(("query", "value"), [({"dryRun": ""}, '[""]'), ({"dryRun": "x"}, '["x"]')])
async def test_only_one_kind_of_dry_run_is_known(api: Api, query: dict[str, str], value: str) -> None:
    for method, path in (("POST", api.path(CM)), ("PUT", api.path(CM, "a"))):
        status, error = await api.call(method, path, config_map("a"), **query)
        assert status == 422
        assert f'dryRun: Unsupported value: {value}: supported values: "All"' in error["message"]
    assert (await api.delete(CM, "a", **query))[0] == 422


async def test_a_deletion_has_no_field_manager(api: Api) -> None:
    await api.create(CM, config_map("a"))
    assert (await api.delete(CM, "a", fieldManager="x" * 200, fieldValidation="x"))[0] == 200


async def test_metadata_that_is_wrong_is_refused_though_it_was_stored_so(server: APIServer, api: Api) -> None:
    await api.create(CM, config_map("a"))
    await label_in_storage(server, api.namespace, "a", wrong="not a label")
    for metadata in ({"annotations": {"more": "yes"}}, {"labels": {"more": "yes"}}):
        status, error = await api.patch(CM, "a", {"metadata": metadata})
        assert (status, error["details"]["causes"][0]["field"]) == (422, "metadata.labels")
    assert (await api.patch(CM, "a", {"metadata": {"labels": {"wrong": "right"}}}))[0] == 200


async def label_in_storage(server: APIServer, namespace: str, name: str, **labels: str) -> None:
    """As a server with other rules may have left it."""
    store = server.registry.store("configmaps")
    assert store is not None
    stored = await store.read(namespace, name)
    obj = orjson.loads(stored.value)
    obj["metadata"]["labels"] = labels
    template = store.codec.template(store.codec.encode(obj))
    await server.storage.update(store.key(namespace, name), template, expected=stored.revision)


@pytest.mark.parametrize(
    ("resource", "spec", "subresource", "labels", "uid"),
    [
        (CM, {}, "", 4, 2),
        (DEPLOY, deployment("a")["spec"], "", 3, 2),
        (DEPLOY, deployment("a")["spec"], "status", 0, 2),
        ("v1/limitranges", {"limits": [{"type": "Container"}]}, "", 3, 1),
        ("policy/v1/poddisruptionbudgets", {"minAvailable": 1}, "", 2, 1),
    ],
)
async def test_what_is_wrong_with_metadata_is_in_details_as_often_as_a_kind_looks_at_it(
    api: Api, resource: str, spec: JSON, subresource: str, labels: int, uid: int
) -> None:
    """As counted beside kube-apiserver v1.35, whose messages say it once."""
    given = {"metadata": {"name": "a"}, "spec": spec} if spec else config_map("a")
    assert (await api.create(resource, given))[0] == 201
    for metadata, field, times in (({"labels": {"a b": "c"}}, "labels", labels), ({"uid": "x"}, "uid", uid)):
        status, answer = await api.patch(resource, "a", {"metadata": metadata}, subresource=subresource)
        if not times:
            assert status == 200, "a write of the status leaves it as it is"
            continue
        assert status == 422
        assert [one["field"] for one in answer["details"]["causes"]] == [f"metadata.{field}"] * times
        assert answer["message"].count(f"metadata.{field}: ") == 1


async def test_patches_of_one_object_at_once_all_succeed(api: Api) -> None:
    """However many there are: none of them has said which revision it is about."""
    await api.create(CM, config_map("a"))
    answers = await asyncio.gather(*(api.patch(CM, "a", {"data": {f"k{n}": "1"}}) for n in range(150)))
    assert {status for status, _ in answers} == {200}
    assert len((await api.get(CM, "a"))[1]["data"]) == 150


async def test_of_applies_at_once_one_creates_the_object_and_the_others_change_it(api: Api) -> None:
    def apply(number: int) -> Awaitable[tuple[int, JSON]]:
        wanted = orjson.dumps(config_map("a", **{f"k{number}": "1"}))
        return api.call("PATCH", api.path(CM, "a"), wanted, APPLY, fieldManager=f"m{number}")

    answers = await asyncio.gather(*(apply(number) for number in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    assert len((await api.get(CM, "a"))[1]["data"]) == 20


async def test_a_patch_that_others_always_outrun_ends_with_its_time(
    server: APIServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.create(CM, config_map("a"))
    storage, update = server.registry.storage, server.registry.storage.update

    async def outrun(key: str, *given: Any, **options: Any) -> Any:
        if key.endswith(f"/{api.namespace}/a"):
            raise RevisionConflict(key, 1, 2)
        return await update(key, *given, **options)

    monkeypatch.setattr(storage, "update", outrun)
    status, error = await api.patch(CM, "a", {"data": {"k": "1"}}, timeout="20ms")
    assert (status, error["reason"]) == (504, "Timeout")
    assert error["message"] == "Timeout: request did not complete within requested timeout - context deadline exceeded"
