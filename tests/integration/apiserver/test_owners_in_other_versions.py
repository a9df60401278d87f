"""Who owns what of a custom resource whose clients speak several versions.

As upstream's structured-merge-diff has it: what a write changes is compared in the version that each owner has spoken.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.integration.apiserver.conftest import Api
from tests.integration.apiserver.definitions import DEFINITIONS, crd, define, version
from tests.integration.apiserver.extensions import until
from tests.integration.apiserver.test_conversion_webhooks import Converted, defined
from tests.support.conversion_webhook import ConversionWebhook, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
_numbers = itertools.count(1)


async def apply(api: Api, resource: str, obj: JSON, manager: str, *, force: bool = False) -> tuple[int, JSON]:
    query = {"fieldManager": manager, **({"force": "true"} if force else {})}
    path = api.path(resource, obj["metadata"]["name"], "")
    return await api.call("PATCH", path, obj, "application/apply-patch+yaml", **query)


def owners(obj: JSON) -> dict[str, tuple[str, JSON]]:
    """By manager: the version spoken and the fields of the spec."""
    return {
        entry["manager"]: (entry["apiVersion"].rpartition("/")[2], entry["fieldsV1"].get("f:spec", {}))
        for entry in obj["metadata"].get("managedFields", [])
    }


async def applied(api: Api, hosts: Converted, spoken: str, manager: str, *, force: bool = False, **spec: str) -> JSON:
    status, made = await apply(api, hosts.resource(spoken), hosts.obj(spoken, "a", **spec), manager, force=force)
    assert status in (200, 201), made
    return made


async def test_a_webhook_that_renames_fields_hides_no_conflict(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await applied(api, hosts, "v1beta1", "one", hostPort="here:80")
        wanted = hosts.obj("v1", "a", host="there")
        status, refused = await apply(api, hosts.resource("v1"), wanted, "two")
        assert (status, refused["reason"]) == (409, "Conflict"), refused
        assert [cause["field"] for cause in refused["details"]["causes"]] == [".spec.hostPort"]
        made = await applied(api, hosts, "v1", "two", force=True, host="there")
        assert made["spec"] == {"host": "there", "port": "80"}
        assert owners(made) == {"two": ("v1", {"f:host": {}})}


async def test_an_update_takes_fields_that_have_another_name_in_the_owners_version(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await applied(api, hosts, "v1beta1", "one", hostPort="here:80")
        change = {"spec": {"port": "81"}}
        status, made = await api.patch(hosts.resource("v1"), "a", change, fieldManager="two")
        assert status == 200, made
        assert owners(made) == {"two": ("v1", {"f:port": {}})}


async def test_what_others_own_in_their_words_stays_when_it_is_given_up(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await applied(api, hosts, "v1", "one", host="here", port="80")
        await applied(api, hosts, "v1beta1", "two", hostPort="here:80")
        made = await applied(api, hosts, "v1", "one", host="here")
        assert made["spec"] == {"host": "here", "port": "80"}


async def test_a_webhook_is_asked_about_owners_only_for_what_changes(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await applied(api, hosts, "v1", "one", host="here", port="80")
        await applied(api, hosts, "v1", "two", host="here")
        assert webhook.reviews == []
        await applied(api, hosts, "v1beta1", "three", hostPort="here:80")
        webhook.reviews.clear()
        await applied(api, hosts, "v1", "one", host="here", port="80")
        assert webhook.reviews == []
        await api.patch(hosts.resource("v1"), "a", {"metadata": {"labels": {"a": "b"}}}, fieldManager="four")
        asked = [review["request"]["desiredAPIVersion"] for review in webhook.reviews]
        assert asked == [f"{hosts.group}/v1beta1"] * 2
        assert {"managedFields" in obj["metadata"] for one in webhook.reviews for obj in one["request"]["objects"]} == {
            False
        }


async def test_a_webhook_that_fails_refuses_an_apply_and_leaves_an_update_without_owners(
    api: Api, cluster: Api
) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await applied(api, hosts, "v1beta1", "one", hostPort="here:80")
        failure = {"status": "Failure", "message": "not today"}
        webhook.answer = lambda review: {
            "apiVersion": review["apiVersion"],
            "kind": "ConversionReview",
            "response": {"uid": review["request"]["uid"], "result": failure},
        }
        wanted = hosts.obj("v1", "a", host="there")
        status, refused = await apply(api, hosts.resource("v1"), wanted, "two")
        assert (status, refused["message"]) == (
            500,
            f"conversion webhook for {hosts.group}/v1, Kind=Host failed: not today",
        )
        status, made = await api.patch(hosts.resource("v1"), "a", {"spec": {"host": "there"}})
        assert (status, made["spec"]["host"]) == (200, "there")
        assert "managedFields" not in made["metadata"]


FIRST: JSON = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
SECOND: JSON = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
    },
}


class Plain(Converted):
    """Versions v1beta1 and v1, stored, of which nothing but the name is converted."""


async def plain(api: Api, cluster: Api) -> Plain:
    made = Plain(api, cluster, f"plain{next(_numbers)}.example.com")
    versions = [version("v1", SECOND), version("v1beta1", FIRST, storage=False)]
    await define(cluster, crd("hosts", "Host", *versions, group=made.group))
    return made


async def test_without_a_webhook_a_field_of_one_name_is_one_field(api: Api, cluster: Api) -> None:
    hosts = await plain(api, cluster)
    await applied(api, hosts, "v1beta1", "one", a="1")
    status, refused = await apply(api, hosts.resource("v1"), hosts.obj("v1", "a", a="2"), "two")
    assert status == 409, refused
    made = await applied(api, hosts, "v1", "one", a="2")
    assert owners(made) == {"one": ("v1", {"f:a": {}})}


async def test_without_a_webhook_a_field_that_the_owners_version_has_not_refuses_an_apply(
    api: Api, cluster: Api
) -> None:
    hosts = await plain(api, cluster)
    await applied(api, hosts, "v1beta1", "one", a="1")
    status, refused = await apply(api, hosts.resource("v1"), hosts.obj("v1", "a", b="2"), "two")
    told = "failed to convert new object: .spec.b: field not declared in schema"
    assert (status, refused["message"]) == (500, told)
    status, made = await api.patch(hosts.resource("v1"), "a", {"spec": {"b": "2"}})
    assert (status, made["spec"]) == (200, {"a": "1", "b": "2"})
    assert "managedFields" not in made["metadata"]


async def test_an_owner_of_a_version_that_has_gone_refuses_an_apply(api: Api, cluster: Api) -> None:
    hosts = await plain(api, cluster)
    await applied(api, hosts, "v1beta1", "one", a="1")
    only = {"spec": {"versions": [version("v1", SECOND)]}}
    status, told = await cluster.patch(DEFINITIONS, hosts.name, only)
    assert status == 200, told

    async def old_version() -> int:
        return (await api.list(hosts.resource("v1beta1")))[0]

    await until(old_version, 404)
    status, refused = await apply(api, hosts.resource("v1"), hosts.obj("v1", "a", b="2"), "two")
    gone = f"request to convert CR to an invalid group/version: {hosts.group}/v1beta1"
    assert (status, refused["message"]) == (500, gone)
    status, made = await api.patch(hosts.resource("v1"), "a", {"spec": {"b": "2"}})
    assert (status, "managedFields" in made["metadata"]) == (200, False)


NUMBERS: JSON = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"count": {"type": "integer"}}}},
}


async def test_who_scales_takes_the_replicas_from_owners_that_speak_other_versions(api: Api, cluster: Api) -> None:
    scale = {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count"}
    hosts = Plain(api, cluster, f"plain{next(_numbers)}.example.com")
    versions = [
        version("v1", NUMBERS, subresources={"scale": scale}),
        version("v1beta1", NUMBERS, storage=False, subresources={"scale": scale}),
        version("v1alpha1", NUMBERS, storage=False),
    ]
    await define(cluster, crd("hosts", "Host", *versions, group=hosts.group))

    def counted(spoken: str, count: int) -> JSON:
        return {**hosts.obj(spoken, "a"), "spec": {"count": count}}

    for spoken, manager in (("v1beta1", "beta"), ("v1alpha1", "alpha")):
        status, made = await apply(api, hosts.resource(spoken), counted(spoken, 1), manager)
        assert status in (200, 201), made
    change = {"spec": {"replicas": 2}}
    await api.patch(hosts.resource("v1"), "a", change, subresource="scale", fieldManager="scaler")
    # As upstream: in a version without a scale nothing is known of replicas.
    _, made = await api.get(hosts.resource("v1"), "a")
    assert owners(made) == {"alpha": ("v1alpha1", {"f:count": {}}), "scaler": ("v1", {"f:count": {}})}
    status, refused = await apply(api, hosts.resource("v1beta1"), counted("v1beta1", 1), "beta")
    assert (status, refused["details"]["causes"][-1]["message"]) == (
        409,
        f'conflict with "scaler" with subresource "scale" using {hosts.group}/v1',
    )
