"""CEL rules (x-kubernetes-validations) over custom resources, on every way an object is written."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api
from tests.integration.apiserver.definitions import DEFINITIONS, begin, crd, define, seen, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]


def rule(text: str, **more: Any) -> JSON:
    return {"rule": text, **more}


def schema(*rules: JSON, spec_rules: tuple[JSON, ...] = (), status: JSON | None = None, **fields: JSON) -> JSON:
    spec: JSON = {"type": "object", "properties": fields}
    if spec_rules:
        spec["x-kubernetes-validations"] = list(spec_rules)
    made: JSON = {"type": "object", "properties": {"spec": spec, "status": status or {"type": "object"}}}
    if rules:
        made["x-kubernetes-validations"] = list(rules)
    return made


def gear(name: str, **spec: Any) -> JSON:
    return {"apiVersion": "rules.example.com/v1", "kind": "Gear", "metadata": {"name": name}, "spec": spec}


GEARS = "rules.example.com/v1/gears"
GEAR_SCHEMA = schema(
    rule("self.metadata.name.size() < 10", message="the name is too long"),
    rule("!has(self.status) || !has(self.status.turns) || self.status.turns <= self.spec.teeth"),
    status={
        "type": "object",
        "properties": {
            "turns": {
                "type": "integer",
                "x-kubernetes-validations": [rule("self >= oldSelf", message="turns only grow")],
            }
        },
    },
    spec_rules=(
        rule(
            "self.teeth <= self.most",
            messageExpression="'%d teeth where %d is the most'.format([self.teeth, self.most])",
            fieldPath=".teeth",
            reason="FieldValueForbidden",
        ),
    ),
    teeth={"type": "integer", "x-kubernetes-validations": [rule("self % 2 == 0", message="must be even")]},
    most={"type": "integer", "default": 100},
    maker={"type": "string", "x-kubernetes-validations": [rule("self == oldSelf", message="is immutable")]},
    born={
        "type": "string",
        "x-kubernetes-validations": [
            rule("oldSelf.hasValue() || self == 'new'", optionalOldSelf=True, message="must begin as new")
        ],
    },
    axles={
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "length": {"type": "integer"}},
            "x-kubernetes-validations": [rule("self.length >= oldSelf.length", message="an axle never shrinks")],
        },
    },
    port={"x-kubernetes-int-or-string": True, "x-kubernetes-validations": [rule("string(self) != 'none'")]},
    **{"top-speed": {"type": "number", "x-kubernetes-validations": [rule("self < 9.5")]}},
    load={
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "x-kubernetes-preserve-unknown-fields": True,
        "x-kubernetes-validations": [rule("self.kind == 'Load' && self.metadata.name.startsWith('l')")],
    },
    words={"type": "array", "items": {"type": "string"}},
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def gears(server: APIServer) -> None:
    api = Api(server.transport(username="admin", groups=["system:masters"]), "")
    served = version(schema=GEAR_SCHEMA, subresources={"status": {}})
    await define(api, crd("gears", "Gear", served, group="rules.example.com"))


def told(answer: tuple[int, JSON]) -> list[tuple[str, str, str]]:
    status, body = answer
    assert status == 422, body
    return [(cause["reason"], cause["field"], cause["message"]) for cause in body["details"]["causes"]]


def invalid(field: str, message: str) -> tuple[str, str, str]:
    return ("FieldValueInvalid", field, f"Invalid value: {message}")


async def made(api: Api, name: str, **spec: Any) -> JSON:
    status, answer = await api.create(GEARS, gear(name, **spec))
    assert status == 201, answer
    return answer


async def test_an_object_that_keeps_the_rules_is_stored(api: Api) -> None:
    stored = await made(api, "good", teeth=12, port=80, born="new")
    assert stored["spec"]["most"] == 100


async def test_a_broken_rule_is_told_with_its_message_and_value(api: Api) -> None:
    status, refused = await api.create(GEARS, gear("odd", teeth=3))
    assert (status, refused["reason"]) == (422, "Invalid")
    assert refused["message"] == ('Gear.rules.example.com "odd" is invalid: spec.teeth: Invalid value: 3: must be even')


async def test_defaults_are_there_before_the_rules(api: Api) -> None:
    assert told(await api.create(GEARS, gear("many", teeth=102))) == [
        ("FieldValueForbidden", "spec.teeth", "Forbidden: 102 teeth where 100 is the most")
    ]


async def test_a_rule_of_the_whole_object_has_no_field(api: Api) -> None:
    answer = await api.create(GEARS, gear("long-long-name", teeth=2))
    assert told(answer) == [invalid("<nil>", "the name is too long")]


async def test_an_error_of_a_rule_refuses_the_object(api: Api) -> None:
    assert told(await api.create(GEARS, gear("toothless"))) == [
        invalid("spec", '"object": no such key: teeth evaluating rule: self.teeth <= self.most')
    ]


async def test_rules_wait_until_the_types_are_right(api: Api) -> None:
    assert told(await api.create(GEARS, gear("mistyped", teeth="three"))) == [
        (
            "FieldValueTypeInvalid",
            "spec.teeth",
            'Invalid value: "string": spec.teeth in body must be of type integer: "string"',
        ),
        invalid(
            "<nil>",
            "null: some validation rules were not checked because the object was invalid; correct the existing "
            "errors to complete validation",
        ),
    ]


async def test_names_that_are_no_identifiers_are_escaped(api: Api) -> None:
    spec = {"teeth": 2, "top-speed": 10}
    assert told(await api.create(GEARS, gear("fast", **spec))) == [
        invalid("spec.top-speed", "10: failed rule: self < 9.5")
    ]


async def test_embedded_resources_have_metadata_for_rules(api: Api) -> None:
    load = {"apiVersion": "v1", "kind": "Load", "metadata": {"name": "load"}, "weight": 3}
    await made(api, "loaded", teeth=2, load=load)
    answer = await api.create(GEARS, gear("unloaded", teeth=2, load={**load, "metadata": {"name": "other"}}))
    assert told(answer) == [
        invalid("spec.load", "failed rule: self.kind == 'Load' && self.metadata.name.startsWith('l')")
    ]


async def test_numbers_and_texts_are_both_seen(api: Api) -> None:
    answer = await api.create(GEARS, gear("ported", teeth=2, port="none"))
    assert told(answer) == [invalid("spec.port", "\"none\": failed rule: string(self) != 'none'")]


async def test_transition_rules_compare_with_what_is_stored(api: Api) -> None:
    stored = await made(api, "sold", teeth=2, maker="me")
    stored["spec"]["maker"] = "you"
    wanted = [invalid("spec.maker", '"you": is immutable')]
    assert told(await api.update(GEARS, stored)) == wanted
    assert told(await api.patch(GEARS, "sold", {"spec": {"maker": "you"}})) == wanted
    operations = [{"op": "replace", "path": "/spec/maker", "value": "you"}]
    assert told(await api.patch(GEARS, "sold", operations, kind="json-patch")) == wanted
    path, kind = api.path(GEARS, "sold"), "application/apply-patch+yaml"
    assert (
        told(await api.call("PATCH", path, gear("sold", maker="you"), kind, fieldManager="a", force="true")) == wanted
    )
    assert (await api.patch(GEARS, "sold", {"spec": {"maker": None}}))[0] == 200
    assert (await api.patch(GEARS, "sold", {"spec": {"maker": "you"}}))[0] == 200


async def test_a_rule_may_ask_for_the_old_value_where_there_is_none(api: Api) -> None:
    assert told(await api.create(GEARS, gear("used", teeth=2, born="old"))) == [
        invalid("spec.born", '"old": must begin as new')
    ]
    await made(api, "aging", teeth=2, born="new")
    assert (await api.patch(GEARS, "aging", {"spec": {"born": "old"}}))[0] == 200


async def test_elements_of_a_map_list_are_known_by_their_keys(api: Api) -> None:
    await made(api, "axled", teeth=2, axles=[{"name": "a", "length": 3}, {"name": "b", "length": 5}])
    moved = [{"name": "new", "length": 1}, {"name": "b", "length": 4}, {"name": "a", "length": 3}]
    assert told(await api.patch(GEARS, "axled", {"spec": {"axles": moved}})) == [
        invalid("spec.axles[1]", "an axle never shrinks")
    ]
    moved[1]["length"] = 6
    assert (await api.patch(GEARS, "axled", {"spec": {"axles": moved}}))[0] == 200


async def test_rules_hold_for_the_status_and_its_subresource(api: Api) -> None:
    await made(api, "turning", teeth=10)
    assert (await api.patch(GEARS, "turning", {"status": {"turns": 5}}, subresource="status"))[0] == 200
    assert told(await api.patch(GEARS, "turning", {"status": {"turns": 4}}, subresource="status")) == [
        invalid("status.turns", "4: turns only grow")
    ]
    assert told(await api.patch(GEARS, "turning", {"status": {"turns": 11}}, subresource="status")) == [
        invalid(
            "<nil>",
            "failed rule: !has(self.status) || !has(self.status.turns) || self.status.turns <= self.spec.teeth",
        )
    ]


async def test_what_was_wrong_before_and_has_not_changed_is_forgiven(api: Api, cluster: Api) -> None:
    """KEP-4008, ratcheting: a rule that comes later does not keep objects from being written."""
    definition = crd(
        "pegs", "Peg", version(schema=schema(a={"type": "integer"}, b={"type": "integer"})), group="late.io"
    )
    await define(cluster, definition)
    pegs = "late.io/v1/pegs"
    peg = {"apiVersion": "late.io/v1", "kind": "Peg", "metadata": {"name": "peg"}, "spec": {"a": 1, "b": 1}}
    assert (await api.create(pegs, peg))[0] == 201
    late = {"type": "integer", "x-kubernetes-validations": [rule("self > 5", message="is too small")]}
    changed = {"spec": {"versions": [version(schema=schema(a=late, b={"type": "integer"}))]}}
    renewed = begin(seen(api, pegs, "ERROR"))
    assert (await cluster.patch(DEFINITIONS, "pegs.late.io", changed))[0] == 200
    await renewed
    assert told(await api.create(pegs, {**peg, "metadata": {"name": "next"}})) == [invalid("spec.a", "1: is too small")]
    assert (await api.patch(pegs, "peg", {"spec": {"b": 2}}))[0] == 200
    assert told(await api.patch(pegs, "peg", {"spec": {"a": 2}})) == [invalid("spec.a", "2: is too small")]


async def test_each_version_has_rules_of_its_own(api: Api, cluster: Api) -> None:
    small = {"type": "integer", "x-kubernetes-validations": [rule("self < 10")]}
    old = version("v1beta1", schema=schema(a={"type": "integer"}), storage=False)
    await define(cluster, crd("pairs", "Pair", version(schema=schema(a=small)), old, group="pairs.io"))
    pair = {"kind": "Pair", "metadata": {"name": "pair"}, "spec": {"a": 12}}
    refused = await api.create("pairs.io/v1/pairs", {"apiVersion": "pairs.io/v1", **pair})
    assert told(refused) == [invalid("spec.a", "12: failed rule: self < 10")]
    assert (await api.create("pairs.io/v1beta1/pairs", {"apiVersion": "pairs.io/v1beta1", **pair}))[0] == 201
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert (await api.patch("pairs.io/v1/pairs", "pair", labels))[0] == 200, "nothing that is judged has changed"
    assert told(await api.patch("pairs.io/v1/pairs", "pair", {"spec": {"a": 11}})) == [
        invalid("spec.a", "11: failed rule: self < 10")
    ]
    assert (await api.patch("pairs.io/v1beta1/pairs", "pair", {"spec": {"a": 11}}))[0] == 200


async def test_a_bomb_is_stopped_by_its_cost(api: Api, cluster: Api) -> None:
    """Bounds on the schema keep the estimate low enough for the definition; the objects' own budget is another."""
    nested = rule("self.all(a, self.all(b, self.all(c, a != 'x' || b != 'y' || c != 'z')))", message="bomb")
    words = {"type": "array", "maxItems": 90, "items": {"type": "string", "maxLength": 1}}
    served = version(schema=schema(words={**words, "x-kubernetes-validations": [nested]}))
    await define(cluster, crd("bombs", "Bomb", served, group="bombs.io"))
    bomb = {"apiVersion": "bombs.io/v1", "kind": "Bomb", "metadata": {"name": "bomb"}}
    assert (await api.create("bombs.io/v1/bombs", {**bomb, "spec": {"words": ["a"] * 9}}))[0] == 201
    answer = await api.create("bombs.io/v1/bombs", {**bomb, "spec": {"words": ["a"] * 90}})
    stopped = (
        "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost "
        "exceeds limit for rule: bomb"
    )
    assert told(answer) == [invalid("spec.words", f'"array": {stopped}')]


async def test_all_rules_of_an_object_share_a_budget(api: Api, cluster: Api) -> None:
    pairs = rule("self.all(x, self.all(y, x <= y || y <= x))")
    row = {"type": "array", "maxItems": 100, "items": {"type": "integer"}, "x-kubernetes-validations": [pairs, pairs]}
    served = version(schema=schema(rows={"type": "array", "maxItems": 100, "items": row}))
    await define(cluster, crd("tables", "Table", served, group="tables.io"))
    table = {"apiVersion": "tables.io/v1", "kind": "Table", "metadata": {"name": "table"}}
    assert (await api.create("tables.io/v1/tables", {**table, "spec": {"rows": [[1] * 100] * 70}}))[0] == 201
    table["metadata"] = {"name": "large"}
    spent = '"array": validation failed due to running out of cost budget, no further validation rules will be run'
    answer = await api.create("tables.io/v1/tables", {**table, "spec": {"rows": [[1] * 100] * 100}})
    assert told(answer) == [invalid("spec.rows[82]", spent)]
