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


def test_of_managers_of_one_moment_those_are_merged_first_whose_names_come_first(engine: Schemas) -> None:
    body = engine.track("v1/ConfigMap", None, b'{"metadata":{},"data":{"k11":"v"}}', manager="m11", time=T0)
    for number in range(10, 0, -1):
        changed = orjson.loads(body)
        changed["data"][f"k{number:02}"] = "v"
        body = engine.track("v1/ConfigMap", body, orjson.dumps(changed), manager=f"m{number:02}", time=T0)
    entries = {entry["manager"]: entry["fieldsV1"]["f:data"] for entry in managed(body)}
    assert sorted(entries) == ["ancient-changes", *(f"m{number:02}" for number in range(3, 12))]
    assert entries["ancient-changes"] == {"f:k01": {}, "f:k02": {}}


def test_entries_that_do_not_say_how_their_fields_are_written_do_not_count(engine: Schemas) -> None:
    first = engine.track("v1/ConfigMap", None, b'{"metadata":{},"data":{"a":"1"}}', manager="one", time=T0)
    sent = orjson.loads(first)
    [entry] = sent["metadata"]["managedFields"]
    entry["manager"] = "forger"
    assert managed(engine.track("v1/ConfigMap", first, orjson.dumps(sent), manager="two", time=T1)) == [entry]
    del entry["fieldsType"]
    assert managed(engine.track("v1/ConfigMap", first, orjson.dumps(sent), manager="two", time=T1)) == managed(first)


# --- a schema that changes


def thing(**more: object) -> schemas.CustomSchema:
    """Of things with a list and a map, merged by their parts unless `more` says otherwise."""
    text = {"type": "string"}
    item = {"type": "object", "required": ["name"], "properties": {"name": text, "value": text}}
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    keyed = {"x-kubernetes-list-type": more["list"]} if "list" in more else keyed
    parts = {"type": "array", "items": item, **keyed}
    kind = {"x-kubernetes-map-type": more.get("map", "granular")}
    whole = {"type": "object", "properties": {"a": text, "b": text}, **kind}
    spec = {"type": "object", "properties": {"parts": parts, "whole": whole, "other": text}}
    schema = {"type": "object", "properties": {"spec": spec}}
    return schemas.custom(orjson.dumps(schema), api_version="ex.com/v1", kind="Thing")


def of_thing(**spec: object) -> bytes:
    return orjson.dumps({"apiVersion": "ex.com/v1", "kind": "Thing", "metadata": {"name": "o"}, "spec": spec})


WHOLES = {"parts": [{"name": "p", "value": "1"}], "whole": {"a": "1"}}


def test_whoever_owned_a_part_of_what_has_become_atomic_owns_the_whole() -> None:
    before, after = thing(), thing(list="atomic", map="atomic")
    body = before.track(None, of_thing(**WHOLES, other="x"), manager="one", time=T0)
    changed = orjson.loads(body)
    changed["spec"]["other"] = "y"
    entries = managed(after.track(body, orjson.dumps(changed), manager="two", time=T1))
    assert [(entry["manager"], entry["fieldsV1"]["f:spec"]) for entry in entries] == [
        ("one", {".": {}, "f:parts": {}, "f:whole": {}}),
        ("two", {"f:other": {}}),
    ]


def test_who_applies_otherwise_what_has_become_atomic_is_in_the_owners_way() -> None:
    before, after = thing(), thing(list="atomic", map="atomic")
    body = before.track(None, of_thing(**WHOLES), manager="one", time=T0)
    config = of_thing(parts=[{"name": "q"}], whole={"b": "1"})
    with pytest.raises(schemas.PatchError) as refused:
        after.apply(body, config, manager="two", time=T1)
    assert [field for _, field in refused.value.conflicts] == [".spec.parts", ".spec.whole"]
    entries = orjson.loads(after.apply(body, config, manager="two", time=T1, force=True).managed)
    assert [entry["manager"] for entry in entries] == ["two", "one"]
    assert entries[1]["fieldsV1"] == {"f:spec": {}}


# --- what a custom kind may hold


ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}
SET = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}


def kind_of(**properties: object) -> schemas.CustomSchema:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    return schemas.custom(orjson.dumps(schema), api_version="ex.com/v1", kind="Thing")


def applied(
    kind: schemas.CustomSchema, live: bytes | None, config: bytes, manager: str, *, force: bool = False
) -> bytes:
    outcome = kind.apply(live, config, manager=manager, time=T0, force=force)
    obj = orjson.loads(outcome.body)
    obj["metadata"]["managedFields"] = orjson.loads(outcome.managed)
    return orjson.dumps(obj)


def owned(body: bytes) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in managed(body)}


@pytest.mark.parametrize("other", [3, "x", [1, 2], True])
def test_free_json_that_is_an_object_no_more_belongs_to_who_made_it_so(other: object) -> None:
    kind = kind_of(free=ANYTHING)
    body = applied(kind, None, of_thing(free={"a": {"b": "1"}}), "one")
    body = kind.track(body, orjson.dumps({**orjson.loads(body), "spec": {"free": other}}), manager="two", time=T1)
    assert owned(body) == {"two": {"f:spec": {"f:free": {}}}}
    body = kind.track(body, orjson.dumps({**orjson.loads(body), "spec": {"free": {"c": 1}}}), manager="three", time=T1)
    assert owned(body) == {"three": {"f:spec": {"f:free": {".": {}, "f:c": {}}}}}


def test_a_null_is_to_its_owner_what_an_empty_map_is() -> None:
    kind = kind_of(some={"type": "object", "nullable": True, "properties": {"a": {"type": "string"}}})
    body = kind.track(None, of_thing(some=None), manager="one", time=T0)
    assert owned(applied(kind, body, of_thing(some={"a": "1"}), "two")) == {
        "one": {"f:spec": {".": {}, "f:some": {}}},
        "two": {"f:spec": {"f:some": {"f:a": {}}}},
    }
    # Where nothing is in it, the null is another value.
    body = kind.track(None, of_thing(some={}), manager="one", time=T0)
    with pytest.raises(schemas.PatchError) as refused:
        kind.apply(body, of_thing(some=None), manager="two", time=T1)
    assert [field for _, field in refused.value.conflicts] == [".spec.some"]


def test_a_list_in_which_nothing_is_stays_where_it_is_wanted() -> None:
    kind = kind_of(some={"type": "object", "properties": {"set": SET}})
    body = applied(kind, None, of_thing(some={}), "one")
    assert orjson.loads(applied(kind, body, of_thing(some={"set": []}), "one"))["spec"] == {"some": {"set": []}}


def test_a_map_that_is_left_with_such_lists_alone_goes_with_what_it_held_whoever_owned_it() -> None:
    kind = kind_of(some={"type": "object", "properties": {"set": SET, "a": {"type": "string"}}}, other=SET)
    body = applied(kind, None, of_thing(some={}), "two")
    body = applied(kind, body, of_thing(some={"set": [], "a": "1"}), "one")
    body = applied(kind, body, of_thing(other=["x"]), "one")
    assert orjson.loads(body)["spec"] == {"other": ["x"]}
    assert owned(body) == {"one": {"f:spec": {"f:other": {'v:"x"': {}}}}}


def test_a_list_within_what_is_owned_as_a_whole_has_each_element_once() -> None:
    kind = kind_of(lists={"type": "array", "items": SET})
    with pytest.raises(schemas.PatchError, match=r'\.spec\.lists\[0\]: duplicate entries for key \[="a"\]$'):
        applied(kind, None, of_thing(lists=[["a", "b", "a"]]), "one")
