"""The scale subresource by every verb, and who owns the replicas afterwards. As a real API server answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from .conftest import Api, deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
DEPLOY = "apps/v1/deployments"
SCALE = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}}


async def apply(api: Api, replicas: int | None, manager: str, **query: str) -> tuple[int, JSON]:
    config = {**SCALE, **({} if replicas is None else {"spec": {"replicas": replicas}})}
    path = api.path(DEPLOY, "d", "scale")
    return await api.call("PATCH", path, config, "application/apply-patch+yaml", fieldManager=manager, **query)


async def owners(api: Api) -> set[tuple[str, str, str]]:
    """Managers that own the Deployment's replicas: name, operation, subresource."""
    _, obj = await api.get(DEPLOY, "d")
    return {
        (one["manager"], one["operation"], one.get("subresource", ""))
        for one in obj["metadata"]["managedFields"]
        if "f:replicas" in one["fieldsV1"].get("f:spec", {})
    }


async def test_every_kind_of_patch_scales(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    patches: list[tuple[str, object]] = [
        ("merge-patch", {"spec": {"replicas": 2}}),
        ("strategic-merge-patch", {"spec": {"replicas": 3}}),
        ("json-patch", [{"op": "replace", "path": "/spec/replicas", "value": 4}]),
    ]
    for wanted, (kind, patch) in enumerate(patches, start=2):
        status, scale = await api.patch(DEPLOY, "d", patch, kind, "scale")
        assert (status, scale["spec"]["replicas"]) == (200, wanted)
    assert (await api.get(DEPLOY, "d"))[1]["spec"]["replicas"] == 4


async def test_who_scales_owns_the_replicas(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"), fieldManager="creator")
    assert await owners(api) == {("creator", "Update", "")}
    await api.patch(DEPLOY, "d", {"spec": {"replicas": 2}}, subresource="scale", fieldManager="scaler")
    assert await owners(api) == {("scaler", "Update", "scale")}


async def test_an_applier_of_the_scale_conflicts_with_the_owner_unless_it_insists(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"), fieldManager="creator")
    status, error = await apply(api, 3, "autoscaler")
    assert (status, error["reason"]) == (409, "Conflict")
    assert error["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "creator" using autoscaling/v1',
            "field": ".spec.replicas",
        }
    ]
    status, scale = await apply(api, 3, "autoscaler", force="true")
    assert (status, scale["spec"]) == (200, {"replicas": 3})
    assert await owners(api) == {("autoscaler", "Apply", "scale")}


async def test_appliers_that_agree_share_the_replicas_and_the_last_to_let_go_keeps_the_number(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"), fieldManager="creator")
    for manager in ("a", "b"):
        assert (await apply(api, 3, manager, force="true"))[0] == 200
    assert await owners(api) == {("a", "Apply", "scale"), ("b", "Apply", "scale")}
    assert (await apply(api, None, "a"))[0] == 200
    assert await owners(api) == {("b", "Apply", "scale")}
    assert (await api.get(DEPLOY, "d", "scale"))[1]["spec"] == {"replicas": 3}


async def test_an_applier_of_the_object_conflicts_with_the_applier_of_its_scale(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    await apply(api, 3, "autoscaler", force="true")
    config = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 9}}
    path = api.path(DEPLOY, "d")
    status, error = await api.call("PATCH", path, config, "application/apply-patch+yaml", fieldManager="gitops")
    assert (status, error["details"]["causes"][0]["message"]) == (
        409,
        'conflict with "autoscaler" with subresource "scale"',
    )


@pytest.mark.parametrize(
    ("scale", "status", "message"),
    [
        ({"spec": {"replicas": 1}}, 400, "the name of the object (d based on URL) was undeterminable"),
        (
            {**SCALE, "metadata": {"name": "x"}},
            400,
            "the name of the object (x) does not match the name on the URL (d)",
        ),
        ({**SCALE, "metadata": {"name": "d", "namespace": "x"}}, 400, "the namespace of the provided object does not"),
        (
            {**SCALE, "spec": {"replicas": -1}},
            422,
            'Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1',
        ),
        ({**SCALE, "metadata": {"name": "d", "uid": "other"}}, 409, "UID in precondition: other"),
        ({**SCALE, "metadata": {"name": "d", "resourceVersion": "1"}}, 409, "the object has been modified"),
        ({**SCALE, "spec": {"replicas": "many"}}, 400, "cannot unmarshal string into Go struct field ScaleSpec"),
    ],
)
async def test_a_scale_that_cannot_be_is_refused(api: Api, scale: JSON, status: int, message: str) -> None:
    await api.create(DEPLOY, deployment("d"))
    code, error = await api.call("PUT", api.path(DEPLOY, "d", "scale"), scale)
    assert code == status
    assert message in error["message"]
    assert (await api.get(DEPLOY, "d"))[1]["spec"]["replicas"] == 1


async def test_unknown_fields_of_a_scale_are_refused_where_asked(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    patch = {"spec": {"replicas": 2, "bogus": 1}}
    status, error = await api.patch(DEPLOY, "d", patch, subresource="scale", fieldValidation="Strict")
    assert (status, error["details"]["causes"][0]["field"]) == (422, "patch")
    assert 'unknown field "spec.bogus"' in error["message"]


async def test_a_dry_run_scales_nothing(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    status, scale = await api.patch(DEPLOY, "d", {"spec": {"replicas": 5}}, subresource="scale", dryRun="All")
    assert (status, scale["spec"]["replicas"]) == (200, 5)
    assert (await api.get(DEPLOY, "d"))[1]["spec"]["replicas"] == 1


async def test_nothing_is_below_a_scale(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    assert (await api.call("GET", api.path(DEPLOY, "d", "scale") + "/x"))[0] == 404


async def test_what_is_not_there_is_not_scaled_into_being(api: Api) -> None:
    status, error = await apply(api, 1, "m")
    assert (status, orjson.dumps(error["details"])) == (404, b'{"name":"d","group":"apps","kind":"deployments"}')
