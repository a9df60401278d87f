"""Numbers without a fraction: however they are written, a custom object has them as Go writes them, and rules of its
schema are about what was sent.
"""

from __future__ import annotations

from json import loads
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer

from .conftest import Api, deployment
from .definitions import crd, define, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
NUMBERS = "numbers.example.com/v1/numbers"
YAML = "application/yaml"
SCHEMA: JSON = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "whole": {"type": "integer"},
                "any": {"type": "number"},
                "text": {"type": "string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "set": {"type": "array", "items": {"type": "number"}, "x-kubernetes-list-type": "set"},
            },
        }
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def defined(server: APIServer) -> None:
    api = Api(server.transport(username="admin", groups=["system:masters"]), "")
    await define(api, crd("numbers", "Number", version(schema=SCHEMA), group="numbers.example.com"))


async def create(api: Api, name: str, spec: str) -> tuple[int, JSON]:
    body = f'{{"apiVersion":"numbers.example.com/v1","kind":"Number","metadata":{{"name":"{name}"}},"spec":{spec}}}'
    return await api.call("POST", api.path(NUMBERS), body.encode())


async def applied(api: Api, body: bytes, manager: str) -> tuple[int, JSON]:
    return await api.call("PATCH", api.path(NUMBERS, "a"), body, "application/apply-patch+yaml", fieldManager=manager)


@pytest.mark.parametrize("written", ["2.0", "2e0", "20e-1", "0.2e1"])
async def test_a_whole_number_is_stored_without_a_fraction(api: Api, written: str) -> None:
    status, made = await create(api, "a", f'{{"whole":{written},"any":{written},"free":{{"x":[{written}]}}}}')
    assert status == 201, made
    for obj in (made, (await api.get(NUMBERS, "a"))[1]):
        numbers = [obj["spec"]["whole"], obj["spec"]["any"], obj["spec"]["free"]["x"][0]]
        assert numbers == [2, 2, 2]
        assert all(type(number) is int for number in numbers)


async def test_a_whole_number_owns_its_place_in_a_set_as_such(api: Api) -> None:
    _, made = await create(api, "a", '{"set":[2.0,2.5]}')
    assert made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:set"] == {".": {}, "v:2": {}, "v:2.5": {}}


async def test_a_fraction_is_no_integer_and_stays_a_number(api: Api) -> None:
    assert (await create(api, "a", '{"whole":2.5}'))[0] == 422
    _, made = await create(api, "a", '{"any":2.5}')
    assert made["spec"]["any"] == 2.5


async def test_what_is_too_great_for_an_integer_of_64_bits_is_none(api: Api) -> None:
    assert (await create(api, "a", '{"whole":9223372036854775807}'))[1]["spec"] == {"whole": 2**63 - 1}
    assert (await create(api, "b", '{"whole":9223372036854775808}'))[0] == 422
    assert (await create(api, "c", '{"whole":1e400}'))[0] == 400


async def test_a_refusal_is_about_the_number_that_was_sent(api: Api) -> None:
    _, refused = await create(api, "a", '{"text":2.0}')
    assert 'spec.text in body must be of type string: "number"' in refused["message"]


@pytest.mark.parametrize("changed", ['{"whole":2.0}', '{"whole":2,"free":{"x":true}}', '{"whole":2,"free":{"x":1.0}}'])
async def test_a_number_of_another_type_is_another_spec(api: Api, changed: str) -> None:
    _, made = await create(api, "a", '{"whole":2,"free":{"x":1}}')
    _, patched = await api.patch(NUMBERS, "a", {"spec": loads(changed)})
    assert patched["metadata"]["generation"] == made["metadata"]["generation"] + 1


async def test_a_truth_that_was_a_number_is_stored_as_one(api: Api) -> None:
    await create(api, "a", '{"free":{"x":1,"y":false}}')
    await api.patch(NUMBERS, "a", {"spec": {"free": {"x": True, "y": 0}}})
    free = (await api.get(NUMBERS, "a"))[1]["spec"]["free"]
    assert free["x"] is True
    assert type(free["y"]) is int


async def test_the_same_numbers_in_another_order_change_nothing(api: Api) -> None:
    _, made = await create(api, "a", '{"whole":2,"any":0.5}')
    _, patched = await api.patch(NUMBERS, "a", {"spec": {"any": 0.5, "whole": 2}})
    assert patched == made


async def test_an_apply_of_the_same_number_changes_nothing(api: Api) -> None:
    given = '{"apiVersion":"numbers.example.com/v1","kind":"Number","metadata":{"name":"a"},"spec":{"whole":%s}}'
    answers = [await applied(api, (given % number).encode(), "me") for number in ("2", "2.0")]
    assert answers[0][1] == answers[1][1]


async def test_yaml_writes_numbers_anew_before_they_are_read(api: Api) -> None:
    text = str(deployment("a")).replace("'replicas': 1", "'replicas': 2.0").encode()
    status, made = await api.call("POST", api.path("apps/v1/deployments"), text, YAML)
    assert status == 201, made
    assert made["spec"]["replicas"] == 2
    json = text.replace(b"'", b'"').replace(b'"name": "a"', b'"name": "b"')
    assert (await api.call("POST", api.path("apps/v1/deployments"), json))[0] == 400


@pytest.mark.parametrize(
    ("sent", "edge"),
    [("1e-7", "v:1e-07"), ("0.000001", "v:0.000001"), ("1e20", f"v:{10**20}"), ("1e21", "v:1e+21"), ("2.0", "v:2")],
)
async def test_a_float_is_owned_as_json_iterator_writes_it(api: Api, sent: str, edge: str) -> None:
    given = (
        f'{{"apiVersion":"numbers.example.com/v1","kind":"Number","metadata":{{"name":"a"}},"spec":{{"set":[{sent}]}}}}'
    )
    status, made = await applied(api, given.encode(), "me")
    assert (status, made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:set"]) == (201, {edge: {}})
    assert await applied(api, given.encode(), "me") == (200, made)


async def test_an_integer_and_a_float_of_one_value_are_two_elements_of_a_set(api: Api) -> None:
    assert (await create(api, "a", '{"set":[1,1.0]}'))[0] == 201
    assert (await create(api, "b", '{"set":[1,1]}'))[0] == 422
    assert (await create(api, "c", '{"set":[0.5,5e-1]}'))[0] == 422


async def test_an_applied_float_is_stored_to_its_last_bit(api: Api) -> None:
    given = b'{"apiVersion":"numbers.example.com/v1","kind":"Number","metadata":{"name":"a"},"spec":{"any":%b}}'
    _, made = await applied(api, given % b"3.4028234663852886e38", "me")
    assert made["spec"]["any"] == 3.4028234663852886e38


@pytest.mark.parametrize(
    ("sent", "stored"), [("1e20", b"100000000000000000000"), ("9223372036854775808", b"9223372036854776000")]
)
async def test_a_number_beyond_64_bits_is_stored_as_the_float_that_go_reads(api: Api, sent: str, stored: bytes) -> None:
    status, _ = await create(api, "a", f'{{"any":{sent}}}')
    assert status == 201
    answer = await api.transport.answer("GET", api.path(NUMBERS, "a"))
    assert b'"any":' + stored + b"}" in answer.body


async def test_a_number_beyond_64_bits_that_is_applied_again_is_the_same(api: Api) -> None:
    given = b'{"apiVersion":"numbers.example.com/v1","kind":"Number","metadata":{"name":"a"},"spec":{"any":%d}}'
    for manager in ("one", "two"):
        status, answer = await applied(api, given % 12345678901234567890, manager)
        assert status in (200, 201), answer
