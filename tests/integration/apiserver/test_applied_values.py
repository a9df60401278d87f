"""Values that are applied: of which type they must be, in which order faults are told, when an apply leaves its time.

Words and order of structured-merge-diff and apimachinery's `managedfields`.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from .conftest import Api, config_map, deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
CM, DEPLOY = "v1/configmaps", "apps/v1/deployments"
APPLY = "application/apply-patch+yaml"


async def apply(api: Api, resource: str, body: JSON | bytes, manager: str = "alice", **query: str) -> tuple[int, JSON]:
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    return await api.call("PATCH", api.path(resource, "a"), sent, APPLY, fieldManager=manager, **query)


def times(obj: JSON) -> dict[str, bool]:
    """Which managers have left a time."""
    return {entry["manager"]: "time" in entry for entry in obj["metadata"]["managedFields"]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": {"k": True}}, ".data.k: expected string, got &value.valueUnstructured{Value:true}"),
        (
            {"data": {"k": [1, "x"]}},
            '.data.k: expected string, got &value.valueUnstructured{Value:[]interface {}{1, "x"}}',
        ),
        ({"data": []}, ".data: expected map, got &{[]}"),
        ({"immutable": "x"}, ".immutable: expected boolean, got &{x}"),
        (
            {"metadata": {"name": "a", "generation": "x"}},
            ".metadata.generation: expected numeric (int or float), got string",
        ),
        ({"metadata": {"name": "a", "finalizers": "x"}}, ".metadata.finalizers: expected list, got &{x}"),
    ],
)
async def test_a_value_of_another_type_is_told_with_its_path(api: Api, change: JSON, told: str) -> None:
    status, error = await apply(api, CM, config_map("a") | change)
    assert (status, error.get("reason")) == (500, None)
    assert error["message"] == f"failed to create typed patch object (/a; /v1, Kind=ConfigMap): {told}"


async def test_a_conflict_is_told_before_a_value_that_does_not_parse(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1") | {"binaryData": {"b": "AAAA"}})
    given = config_map("a", k="2") | {"binaryData": {"b": "!"}}
    status, error = await apply(api, CM, given, "bob")
    assert (status, error["reason"]) == (409, "Conflict")
    status, error = await apply(api, CM, given, "bob", force="true")
    assert (status, error["message"]) == (
        500,
        "failed to convert new object (/a; /v1, Kind=ConfigMap) to proper version: unable to convert unstructured "
        "object to /v1, Kind=ConfigMap: error decoding from json: illegal base64 data at input byte 0",
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"metadata": {"name": "a", "creationTimestamp": 1}},
            "json: cannot unmarshal number into Go value of type string",
        ),
        ({"binaryData": {"b": "!"}}, "error decoding from json: illegal base64 data at input byte 0"),
    ],
)
async def test_a_value_that_has_a_decoder_of_its_own_is_told_by_that(api: Api, change: JSON, told: str) -> None:
    status, error = await apply(api, CM, config_map("a") | change)
    assert status == 500
    assert error["message"] == (
        "failed to convert new object (/a; /v1, Kind=ConfigMap) to proper version: unable to convert unstructured "
        f"object to /v1, Kind=ConfigMap: {told}"
    )


async def test_a_number_that_is_too_great_keeps_its_lowest_bits(api: Api) -> None:
    given = deployment("a")
    given["spec"]["replicas"] = 2**32 + 2
    status, obj = await apply(api, DEPLOY, given)
    assert (status, obj["spec"]["replicas"]) == (201, 2)


async def test_a_key_that_has_a_default_may_be_left_out(api: Api) -> None:
    given = deployment("a")
    given["spec"]["template"]["spec"]["containers"][0]["env"] = [{"value": "x"}]
    status, error = await apply(api, DEPLOY, given)
    assert (status, error["reason"]) == (422, "Invalid")
    assert error["details"]["causes"][0]["field"] == "spec.template.spec.containers[0].env[0].name"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "invalid object type: /, Kind="),
        (b"null", "invalid object type: /, Kind="),
        (b"apiVersion: a/b/c\nkind: ConfigMap", "invalid object type: /, Kind="),
        (
            b"[]",
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go",
        ),
    ],
)
async def test_what_is_no_object_is_refused(api: Api, body: bytes, told: str) -> None:
    status, error = await apply(api, CM, body)
    assert status == 400
    assert error["message"].startswith(told)


async def test_who_writes_a_value_otherwise_leaves_a_time_once(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1"))
    given = config_map("a", k="1") | {"binaryData": None}
    _, first = await apply(api, CM, given, "bob")
    assert times(first) == {"alice": True, "bob": True}
    _, again = await apply(api, CM, given, "bob")
    assert again == first, "a time alone is no change"


async def test_who_takes_a_field_by_force_leaves_a_time(api: Api) -> None:
    def limited(cpu: object) -> JSON:
        given = deployment("a")
        given["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": cpu}}
        return given

    await apply(api, DEPLOY, limited("1"))
    _, obj = await apply(api, DEPLOY, limited(1), "bob", force="true")
    assert times(obj)["bob"]
