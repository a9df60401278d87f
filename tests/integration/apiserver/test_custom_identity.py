"""What custom resources say they are, in bodies and patches: refused in upstream's words (checked beside kube-apiserver
v1.35)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import pytest_asyncio

from .conftest import Api
from .definitions import crd, define, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
GROUP = "identity.example.com"
THINGS = f"{GROUP}/v1/things"
SCHEMA = {
    "type": "object",
    "x-kubernetes-validations": [{"rule": "self.metadata.name.size() < 9", "message": "name too long"}],
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "size": {"type": "integer", "default": 3}},
            "x-kubernetes-validations": [{"rule": "has(self.size)", "message": "no size"}],
        }
    },
}


def thing(name: str = "a", **more: Any) -> JSON:
    whole = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"text": "t"}}
    return {**whole, **more}


@pytest_asyncio.fixture(loop_scope="module")
async def things(api: Api, cluster: Api) -> Api:
    found = await cluster.get("apiextensions.k8s.io/v1/customresourcedefinitions", f"things.{GROUP}")
    if found[0] == 404:
        await define(cluster, crd("things", "Thing", version(schema=SCHEMA), group=GROUP))
    return api


def causes(refused: JSON) -> list[tuple[str, str]]:
    return [(one["field"], one["message"]) for one in refused["details"]["causes"]]


async def test_one_of_another_kind_is_judged_as_it_came(things: Api) -> None:
    status, refused = await things.create(THINGS, thing(kind="Other", bogus=1))
    assert (status, refused["details"]["kind"]) == (422, "Other")
    assert causes(refused) == [
        ("kind", 'Invalid value: "Other": must be Thing'),
        ("spec", "Invalid value: no size"),
    ]


@pytest.mark.parametrize("kind", ["merge-patch", "json-patch"])
async def test_a_patch_does_not_change_what_it_is(things: Api, kind: str) -> None:
    await things.create(THINGS, thing())
    for field, value, group in (
        ("kind", "Other", GROUP),
        ("apiVersion", f"{GROUP}/v9", GROUP),
        ("apiVersion", "v1", ""),
    ):
        merge = {field: value}
        patch = merge if kind == "merge-patch" else [{"op": "replace", "path": f"/{field}", "value": value}]
        status, refused = await things.patch(THINGS, "a", patch, kind)
        wanted = "Thing" if field == "kind" else f"{GROUP}/v1"
        assert (status, causes(refused)) == (422, [(field, f'Invalid value: "{value}": must be {wanted}')])
        assert refused["details"].get("group", "") == group


async def test_a_patch_to_another_version_leaves_metadata_what_it_is(things: Api) -> None:
    await things.create(THINGS, thing())
    patch = {"apiVersion": f"{GROUP}/v9", "metadata": {"labels": ["a"]}}
    status, refused = await things.patch(THINGS, "a", patch, "merge-patch")
    assert (status, refused["reason"]) == (422, "Invalid"), refused


async def test_an_update_is_of_the_object_before_it_is_of_the_kind(things: Api) -> None:
    await things.create(THINGS, thing())
    listed = {"apiVersion": f"{GROUP}/v1", "kind": "ThingList", "items": []}
    status, refused = await things.call("PUT", things.path(THINGS, "a"), listed)
    assert (status, refused["message"]) == (
        400,
        "the name of the object (a based on URL) was undeterminable: name must be provided",
    )


async def test_an_update_is_of_a_revision_before_it_is_of_the_kind(things: Api) -> None:
    _, made = await things.create(THINGS, thing())
    status, refused = await things.update(THINGS, thing(kind="Other"))
    assert causes(refused) == [("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")]
    status, refused = await things.update(THINGS, {**made, "kind": "Other"})
    assert (status, causes(refused)) == (422, [("kind", 'Invalid value: "Other": must be Thing')])


async def test_rules_are_not_asked_of_one_without_a_name(things: Api) -> None:
    status, refused = await things.create(THINGS, thing(metadata={}))
    unchecked = "some validation rules were not checked because the object was invalid; correct the existing errors"
    assert status == 422
    assert causes(refused) == [
        ("metadata.name", "Required value: name or generateName is required"),
        ("<nil>", f"Invalid value: null: {unchecked} to complete validation"),
    ]


_HEAD = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_UNKNOWN = "the object provided is unrecognized (must be of type Thing): "
_UNREAD = "couldn't get version/kind; json parse error: json: cannot unmarshal "


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"[]",
            f"{_UNKNOWN}{_UNREAD}array into Go value of type {_HEAD} (5b5d)",
        ),
        (b"null", f"{_UNKNOWN}Object 'Kind' is missing in 'null' (6e756c6c)"),
        (
            b'{"apiVersion":5,"kind":"Thing"}',
            f"{_UNKNOWN}{_UNREAD}number into Go struct field .apiVersion of type string "
            '({"apiVersion":5,"kind":"Thing" ...)',
        ),
        (
            b'{"kind":"Thing"}',
            f"the API version in the data () does not match the expected API version ({GROUP}/v1)",
        ),
    ],
)
async def test_what_is_no_object_of_any_kind_is_told(things: Api, body: bytes, message: str) -> None:
    status, refused = await things.call("POST", things.path(THINGS), body)
    assert (status, refused["message"]) == (400, message)


async def test_of_no_kind_nothing_else_is_told_where_unknown_fields_are_ignored(things: Api) -> None:
    body = f'{{"apiVersion":"{GROUP}/v1"}}'
    status, refused = await things.call("POST", things.path(THINGS), body.encode(), fieldValidation="Ignore")
    told = f"Thing in version \"v1\" cannot be handled as a Thing: Object 'Kind' is missing in '{body}'"
    assert (status, refused["message"]) == (400, told)


async def test_what_a_patch_has_made_is_shown_in_order(things: Api) -> None:
    """A custom resource is a map to Go, whose JSON has its members by name."""
    await things.create(THINGS, thing())
    patch = {"kind": 5, "metadata": {"managedFields": None, "uid": None, "resourceVersion": None}}
    status, refused = await things.patch(THINGS, "a", patch, "merge-patch")
    [(field, told)] = causes(refused)
    assert (status, field) == (422, "patch")
    shown = orjson.loads(orjson.loads(told.removeprefix("Invalid value: ").rpartition('": ')[0] + '"'))
    assert list(shown) == ["apiVersion", "kind", "metadata", "spec"]
    assert list(shown["metadata"]) == ["creationTimestamp", "generation", "name", "namespace"]
    assert list(shown["spec"]) == ["size", "text"]


async def test_times_within_embedded_metadata_are_judged_where_the_object_is(things: Api, cluster: Api) -> None:
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"inner": inner}}}}
    group = "inner.example.com"
    await define(cluster, crd("inners", "Inner", version(schema=schema), group=group))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "x"}}
    made = {"apiVersion": f"{group}/v1", "kind": "Inner", "metadata": {"name": "a"}, "spec": {"inner": pod}}
    path = things.path(f"{group}/v1/inners", "a")
    status, refused = await things.call("PATCH", path, made, "application/apply-patch+yaml", fieldManager="m")
    told = 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'
    assert (status, refused["details"]["kind"], refused["details"]["group"]) == (422, "Inner", group)
    assert causes(refused) == [("spec.inner.metadata", f'Invalid value: {{"creationTimestamp":"x"}}: {told}')]


async def test_nothing_in_yaml_is_of_no_kind(things: Api) -> None:
    status, refused = await things.call("POST", things.path(THINGS), b"", "application/yaml")
    assert (status, refused["message"]) == (400, f"{_UNKNOWN}Object 'Kind' is missing in '' (<empty>)")


async def test_a_deleted_collection_says_that_nothing_is_left(things: Api) -> None:
    """Upstream's untyped lists do in any case."""
    status, listed = await things.delete(THINGS)
    assert (status, listed["metadata"]["continue"]) == (200, "")
