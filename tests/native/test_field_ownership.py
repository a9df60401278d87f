"""Whose which field is after a write (managedFields), as the schema engine keeps it."""

from typing import Any

import orjson
import pytest

from kubecore.api import schemas
from kubecore.api.schemas import Schemas

T0, T1 = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.fixture(scope="module")
def engine() -> Schemas:
    return schemas.default()


def managed(body: bytes) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = orjson.loads(body)["metadata"].get("managedFields", [])
    return entries


def test_a_created_object_belongs_to_its_creator(engine: Schemas) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}'
    [entry] = managed(engine.track("v1/ConfigMap", None, body, manager="kubectl", time=T0))
    assert entry == {
        "manager": "kubectl",
        "operation": "Update",
        "apiVersion": "v1",
        "time": T0,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}},
    }


def test_a_changed_field_passes_to_who_changed_it(engine: Schemas) -> None:
    first = engine.track("v1/ConfigMap", None, b'{"metadata":{},"data":{"a":"1","b":"1"}}', manager="one", time=T0)
    changed = orjson.loads(first)
    changed["data"]["b"] = "2"
    entries = managed(engine.track("v1/ConfigMap", first, orjson.dumps(changed), manager="two", time=T1))
    assert [(e["manager"], e["time"], e["fieldsV1"]) for e in entries] == [
        ("one", T0, {"f:data": {".": {}, "f:a": {}}}),
        ("two", T1, {"f:data": {"f:b": {}}}),
    ]


def test_an_update_that_changes_nothing_keeps_the_entries_and_their_times(engine: Schemas) -> None:
    first = engine.track("v1/ConfigMap", None, b'{"metadata":{},"data":{"a":"1"}}', manager="one", time=T0)
    assert managed(engine.track("v1/ConfigMap", first, first, manager="two", time=T1)) == managed(first)


def test_removed_fields_belong_to_nobody(engine: Schemas) -> None:
    first = engine.track("v1/ConfigMap", None, b'{"metadata":{},"data":{"a":"1"}}', manager="one", time=T0)
    assert managed(engine.track("v1/ConfigMap", first, b'{"metadata":{}}', manager="two", time=T1)) == []


def test_list_elements_are_known_by_their_keys(engine: Schemas) -> None:
    body = b'{"metadata":{},"spec":{"ports":[{"port":80}]}}'
    [entry] = managed(engine.track("v1/Service", None, body, manager="m", time=T0))
    assert 'k:{"port":80,"protocol":"TCP"}' in entry["fieldsV1"]["f:spec"]["f:ports"]


def test_a_subresource_has_an_entry_of_its_own(engine: Schemas) -> None:
    first = engine.track("v1/Pod", None, b'{"metadata":{},"spec":{"nodeName":"n"}}', manager="m", time=T0)
    changed = {**orjson.loads(first), "status": {"phase": "Running"}}
    entries = managed(engine.track("v1/Pod", first, orjson.dumps(changed), manager="m", time=T1, subresource="status"))
    assert [entry.get("subresource", "") for entry in entries] == ["", "status"]


def test_what_a_write_of_the_status_does_not_carry_keeps_its_owner(engine: Schemas) -> None:
    body = b'{"metadata":{"labels":{"a":"b"}},"spec":{"nodeName":"n"}}'
    first = engine.track("v1/Pod", None, body, manager="m", time=T0)
    [owner] = managed(first)
    sent = b'{"metadata":{"labels":{"a":"b"}},"status":{"phase":"Running"}}'
    entries = managed(engine.track("v1/Pod", first, sent, manager="k", time=T1, subresource="status"))
    assert [(entry["manager"], entry["fieldsV1"]) for entry in entries] == [
        ("m", owner["fieldsV1"]),
        ("k", {"f:status": {"f:phase": {}}}),
    ]


def test_metadata_that_a_write_of_the_status_changes_passes_to_its_writer(engine: Schemas) -> None:
    body = b'{"metadata":{"labels":{"a":"b","c":"d"}},"spec":{"nodeName":"n"}}'
    first = engine.track("v1/Pod", None, body, manager="m", time=T0)
    sent = b'{"metadata":{"labels":{"a":"b","c":"e"}}}'
    entries = managed(engine.track("v1/Pod", first, sent, manager="k", time=T1, subresource="status"))
    assert [(entry["manager"], entry["fieldsV1"]) for entry in entries] == [
        ("m", {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:nodeName": {}}}),
        ("k", {"f:metadata": {"f:labels": {"f:c": {}}}}),
    ]


def test_more_than_ten_managers_are_merged_with_all_that_they_own(engine: Schemas) -> None:
    body = b'{"metadata":{},"data":{"k0":"v"}}'
    body = engine.track("v1/ConfigMap", None, body, manager="m0", time="2026-01-01T00:00:00Z")
    for number in range(1, 11):
        changed = orjson.loads(body)
        changed["data"][f"k{number}"] = "v"
        time = f"2026-01-01T00:00:{number:02}Z"
        body = engine.track("v1/ConfigMap", body, orjson.dumps(changed), manager=f"m{number}", time=time)
    entries = managed(body)
    assert [entry["manager"] for entry in entries] == ["ancient-changes", *(f"m{number}" for number in range(2, 11))]
    assert entries[0]["fieldsV1"] == {"f:data": {".": {}, "f:k0": {}, "f:k1": {}}}


def test_one_empty_entry_resets_ownership(engine: Schemas) -> None:
    first = engine.track("v1/ConfigMap", None, b'{"metadata":{},"data":{"a":"1"}}', manager="one", time=T0)
    reset = orjson.loads(first)
    reset["metadata"]["managedFields"] = [{}]
    assert managed(engine.track("v1/ConfigMap", first, orjson.dumps(reset), manager="two", time=T1)) == []
