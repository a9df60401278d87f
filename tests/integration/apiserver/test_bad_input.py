"""Bodies, patches and tokens made to do harm: each gets a clear Status in bounded time, and nothing is changed.

More of the kind: tests/e2e/test_bad_input.py, test_conversion_webhooks.py (webhooks that lie, redirect or do not
answer), test_custom_resources.py and tests/unit/apiserver/registry/test_definitions.py (definitions).
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from kubecore.apiserver.registry.validation.problems import MOST_CAUSES, MOST_TEXT
from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map, pod
from .definitions import DEFINITIONS, crd, define, version
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
MAPS = "v1/configmaps"
YAML, APPLY = "application/yaml", "application/apply-patch+yaml"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

BOMB = "\n".join(
    ["apiVersion: v1", "kind: ConfigMap", "metadata: {name: bomb}", f"a0: &a0 [{', '.join('x' * 10)}]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
).encode()
DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
MEBIBYTE = 1 << 20


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as made:
        yield made


@pytest.mark.parametrize(
    ("line", "header", "code"),
    [
        (b"GET /api/v1/namespaces?labelSelector=" + b"a" * (1 << 16), b"", 414),
        (b"GET /api/v1/namespaces/" + b"a" * (1 << 16), b"", 414),
        (b"GET /api/v1/namespaces", b"X-Long: " + b"a" * (9 << 17), 431),
        (b"GET /api/v1/namespaces", b"X: y\r\n" * 2000, 431),
        (b"GET /api/v1/namespaces", b"Expect: miracles\r\n", 417),
        (b"NONSENSE", b"", 400),
    ],
)
async def test_heads_that_nobody_can_read_get_a_status(
    server: APIServer, line: bytes, header: bytes, code: int
) -> None:
    address = urlsplit(server.url)
    context = ssl.create_default_context(cadata=server.authority.certificate.decode())
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
    writer.write(line + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" + header + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {code} ".encode()), head
    status = json.loads(body)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", code)


async def test_a_long_head_that_can_be_read_is_read(http: Http) -> None:
    answer = await http.call("GET", "/api/v1/namespaces/none", headers={"X-Long": "a" * 900_000})
    assert answer.status == 404


@pytest_asyncio.fixture(loop_scope="module")
async def path(api: Api) -> AsyncIterator[str]:
    """Of a ConfigMap that is the same afterwards."""
    _, before = await api.create(MAPS, config_map("kept", a="1"))
    yield api.path(MAPS, "kept")
    assert (await api.get(MAPS, "kept"))[1] == before


async def refused(http: Http, method: str, path: str, body: object, media: str) -> tuple[int, str, str]:
    """(code, reason, message) of the Status."""
    answer = await http.call(method, path, body, {"Content-Type": media})
    status = answer.json
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", answer.status)
    return answer.status, status.get("reason", ""), status["message"]


async def test_a_bomb_of_yaml_aliases_is_a_bad_request(http: Http, api: Api, path: str) -> None:
    code, reason, message = await refused(http, "POST", api.path(MAPS), BOMB, YAML)
    assert (code, reason) == (400, "BadRequest")
    assert "document contains excessive aliasing" in message
    code, reason, message = await refused(http, "PATCH", f"{path}?fieldManager=x", BOMB, APPLY)
    assert (code, reason) == (400, "BadRequest")
    assert "document contains excessive aliasing" in message


async def test_an_anchor_within_itself_is_a_bad_request(http: Http, api: Api) -> None:
    code, _, message = await refused(http, "POST", api.path(MAPS), b"a: &a [*a]", YAML)
    assert code == 400
    assert "yaml: anchor 'a' value contains itself" in message


@pytest.mark.parametrize("media", [MERGE, STRATEGIC, JSON_PATCH, APPLY])
async def test_ten_thousand_levels_are_a_bad_request(http: Http, path: str, media: str) -> None:
    body = b'[{"op":"add","path":"/data/x","value":' + DEEP + b"}]" if media == JSON_PATCH else DEEP
    code, reason, message = await refused(http, "PATCH", f"{path}?fieldManager=x", body, media)
    assert (code, reason) == (400, "BadRequest")
    assert "exceeded max depth" in message


@pytest.mark.parametrize("opening", [b"[", b"{a: "])
async def test_ten_thousand_levels_of_yaml_are_a_bad_request(http: Http, api: Api, opening: bytes) -> None:
    code, _, message = await refused(http, "POST", api.path(MAPS), opening * 10_000, YAML)
    assert code == 400
    assert "exceeded max depth" in message


async def test_a_patch_of_more_than_3_mebibytes_is_413(http: Http, path: str) -> None:
    body = b'{"data":{"b":"' + b"x" * (3 * MEBIBYTE) + b'"}}'
    assert await refused(http, "PATCH", path, body, MERGE) == (
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 3145728",
    )


async def test_10001_operations_are_413_and_10000_are_carried_out(http: Http, path: str) -> None:
    operations = [{"op": "test", "path": "/data/a", "value": "1"}] * 10_001
    assert await refused(http, "PATCH", path, operations, JSON_PATCH) == (
        413,
        "RequestEntityTooLarge",
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
    )
    answer = await http.call("PATCH", path, operations[:10_000], {"Content-Type": JSON_PATCH})
    assert answer.status == 200


async def test_copies_that_double_do_not_take_the_memory(http: Http, path: str) -> None:
    copies = [{"op": "copy", "from": "/data", "path": f"/data/b{number}"} for number in range(40)]
    code, reason, _ = await refused(http, "PATCH", path, copies, JSON_PATCH)
    assert (code, reason) == (422, "Invalid")


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" * 10_000, "1e400", "1.5"])
async def test_a_number_that_is_no_int64_is_a_bad_request(http: Http, api: Api, number: str) -> None:
    body = f'{{"metadata":{{"name":"h"}},"spec":{{"activeDeadlineSeconds":{number},"containers":[]}}}}'.encode()
    code, reason, message = await refused(http, "POST", api.path("v1/pods"), body, "application/json")
    assert (code, reason) == (400, "BadRequest")
    assert "cannot unmarshal number" in message


@pytest.mark.parametrize(
    ("grace", "why"),
    [("99999999999999999999", "value out of range"), ("9" * 5_000, "value out of range"), ("1e3", "invalid syntax")],
)
async def test_a_grace_period_that_is_no_number_is_a_bad_request(http: Http, path: str, grace: str, why: str) -> None:
    code, _, message = await refused(http, "DELETE", f"{path}?gracePeriodSeconds={grace}", None, "application/json")
    assert (code, message) == (400, f'strconv.ParseInt: parsing "{grace}": {why}')


async def test_a_limit_that_is_no_int64_is_a_bad_request(http: Http, api: Api) -> None:
    code, _, message = await refused(http, "GET", f"{api.path(MAPS)}?limit={2**63}", None, "application/json")
    assert (code, message) == (400, f'strconv.ParseInt: parsing "{2**63}": value out of range')


def many(count: int, **of_each: Any) -> list[JSON]:
    """Small objects; `{}` in a text is the number of its object."""
    return [
        {name: value.format(number) if isinstance(value, str) else value for name, value in of_each.items()}
        for number in range(count)
    ]


def with_volume(**source: object) -> JSON:
    return pod("a", volumes=[{"name": "v", **source}])


def with_owners(owners: list[JSON]) -> JSON:
    return {"metadata": {"name": "a", "ownerReferences": owners}}


HOST_PORTS = [{"containerPort": 80, "hostPort": number % 60_000 + 1} for number in range(40_000)]


@pytest.mark.parametrize(
    ("resource", "obj", "code"),
    [
        (MAPS, with_owners(many(30_000, apiVersion="v1", kind="A", name="a", uid="{}")), 201),
        (MAPS, with_owners(many(30_000, apiVersion="v1", kind="A", name="a", uid="{}", controller=True)), 422),
        (MAPS, {"metadata": {"name": "a", "labels": {f"_{number}": "" for number in range(100_000)}}}, 422),
        ("v1/pods", pod("a", containers=[{}] * 50_000), 422),
        ("v1/pods", pod("a", containers=[{}] * 200_000), 413),
        ("v1/pods", pod("a", containers=[{"name": "a", "image": "i", "ports": HOST_PORTS}]), 201),
        ("v1/pods", pod("a", containers=[{"name": "a", "image": "i", "ports": [{"containerPort": 1}] * 50_000}]), 201),
        ("v1/pods", with_volume(configMap={"name": "c", "items": many(60_000, key="a", path="p{}")}), 201),
        ("v1/pods", with_volume(configMap={"name": "c", "items": many(60_000, key="a", path="p")}), 201),
        ("v1/pods", with_volume(projected={"sources": [{"configMap": {"name": "c"}}] * 40_000}), 201),
    ],
    ids=[
        "owners",
        "controllers",
        "labels",
        "containers",
        "crowd",
        "host ports",
        "ports",
        "files",
        "one file",
        "sources",
    ],
)
async def test_a_great_number_of_small_things_is_judged(
    http: Http, api: Api, resource: str, obj: JSON, code: int
) -> None:
    """Within the test's time, which nothing that looks at each beside each of the others keeps to."""
    answer = await http.call("POST", f"{api.path(resource)}?dryRun=All", obj)
    assert answer.status == code, answer.body[:1000]
    if code == 422:
        told = answer.json
        assert 0 < len(told["details"]["causes"]) <= MOST_CAUSES
        assert len(answer.body) < 4 * MOST_TEXT


async def test_a_crowd_of_structures_is_refused_of_whatever_kind_and_however_it_comes(
    cluster: Api, http: Http, api: Api
) -> None:
    part = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": {"type": "array", "items": part}}}
    await define(cluster, crd("crowds", "Crowd", version("v1", schema), group="crowds.com"))
    crowds = api.path("crowds.com/v1/crowds")
    made = {"apiVersion": "crowds.com/v1", "kind": "Crowd", "metadata": {"name": "a"}, "spec": [{}]}
    assert (await http.call("POST", crowds, made)).status == 201
    many = {**made, "spec": [{}] * 200_000}
    operations = [{"op": "replace", "path": "/spec", "value": many["spec"]}]
    crowded = pod("a", containers=[{"name": "a", "image": "i", "ports": [{"containerPort": 1}] * 200_000}])
    for answer in (
        await http.call("POST", crowds, {**many, "metadata": {"name": "b"}}),
        await http.call("PUT", f"{crowds}/a", many),
        await http.call("PATCH", f"{crowds}/a", {"spec": many["spec"]}, {"Content-Type": MERGE}),
        await http.call("PATCH", f"{crowds}/a", operations, {"Content-Type": JSON_PATCH}),
        await http.call("PATCH", f"{crowds}/a?fieldManager=m&force=true", many, {"Content-Type": APPLY}),
        await http.call("PATCH", f"{api.path('v1/pods', 'a')}?fieldManager=m", crowded, {"Content-Type": APPLY}),
    ):
        assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge"), answer.body[:1000]
    assert (await http.call("GET", f"{crowds}/a")).json["spec"] == [{}]


FINALIZERS = [f"a.example/{number}" for number in range(40_000)]


@pytest.mark.parametrize(
    ("media", "metadata"),
    [
        (STRATEGIC, {"$setElementOrder/finalizers": FINALIZERS, "finalizers": FINALIZERS}),
        (STRATEGIC, {"$deleteFromPrimitiveList/finalizers": FINALIZERS[::-1]}),
        (STRATEGIC, {"annotations": dict.fromkeys(FINALIZERS)}),
        (STRATEGIC, {f"$setElementOrder/{number}": [] for number in range(40_000)}),
        (MERGE, {"annotations": dict.fromkeys(FINALIZERS)}),
    ],
    ids=["order", "delete", "nulls", "directives", "merge"],
)
async def test_a_patch_of_a_great_number_of_small_things_is_carried_out(
    http: Http, api: Api, media: str, metadata: JSON
) -> None:
    """Likewise; one was found to keep the server so busy that it lost its leases and ended."""
    # As much as may be stored.
    held, annotations = FINALIZERS[::3], dict.fromkeys(FINALIZERS[:8_000], "")
    status, _ = await api.create(MAPS, {"metadata": {"name": "a", "finalizers": held, "annotations": annotations}})
    assert status == 201
    answer = await http.call(
        "PATCH", f"{api.path(MAPS, 'a')}?dryRun=All", {"metadata": metadata}, {"Content-Type": media}
    )
    assert answer.status == 200, answer.body[:1000]


def token(**fields: object) -> str:
    made = json.dumps({"v": "meta.k8s.io/v1", "rv": 1, "start": "a", **fields}).encode()
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("forged", "code"),
    [
        ("%ff%fe", 400),
        ("e30", 400),
        (token(v="v9"), 400),
        (token(rv=0), 400),
        (token(rv=9e18), 400),
        (token(start=""), 400),
        (token(start="../../secrets/default/a"), 400),
        (token(start="a//b"), 400),
        (token(rv=2**63 - 1), 504),
    ],
)
async def test_a_forged_continue_token_is_refused(http: Http, api: Api, forged: str, code: int) -> None:
    answered, _, message = await refused(
        http, "GET", f"{api.path(MAPS)}?limit=1&continue={forged}", None, "application/json"
    )
    assert answered == code
    assert "continue key is not valid" in message or "Too large resource version" in message


async def test_a_forged_start_stays_within_the_list(http: Http, api: Api) -> None:
    await api.create(MAPS, config_map("mine"))
    other = Api(api.transport, "kube-system")
    await other.create(MAPS, config_map("zzz"))
    answer = await http.call("GET", f"{api.path(MAPS)}?limit=500&continue={token(rv=-1, start='kube-system/a')}")
    names = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in answer.json["items"]}
    assert names <= {(api.namespace, "mine")}
    await other.delete(MAPS, "zzz")


def entry(**fields: object) -> JSON:
    good = {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}
    return {**good, **fields}


@pytest.mark.parametrize(
    "forged",
    [
        {"manager": "x"},
        entry(operation="Fly"),
        entry(fieldsType="FieldsV2"),
        entry(fieldsV1={"nonsense": {}}),
        entry(fieldsV1={"k:{bad": {}}),
        entry(fieldsV1={"f:data": {"v:{": {}}}),
    ],
)
async def test_forged_field_sets_are_ignored(api: Api, forged: JSON) -> None:
    """As upstream: what cannot be decoded is as if it had not been sent."""
    await api.create(MAPS, config_map("a", k="1"), fieldManager="maker")
    sent = config_map("a", k="2")
    sent["metadata"]["managedFields"] = [forged]
    status, written = await api.update(MAPS, sent, fieldManager="changer")
    assert status == 200, written
    fields = {one["manager"]: one["fieldsV1"] for one in written["metadata"]["managedFields"]}
    assert fields == {"maker": {"f:data": {}}, "changer": {"f:data": {"f:k": {}}}}


async def test_a_field_set_of_ten_thousand_levels_is_a_bad_request(http: Http, path: str) -> None:
    fields = b'{"f:x":' * 10_000 + b"{}" + b"}" * 10_000
    body = b'{"metadata":{"name":"kept","managedFields":[{"manager":"x","fieldsV1":' + fields + b"}]}}"
    code, _, message = await refused(http, "PUT", path, body, "application/json")
    assert code == 400
    assert "exceeded max depth" in message


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"$patch": "fly"}, 500),
        ({"$patch": 7}, 500),
        ({"spec": {"containers": [{"$patch": "delete"}]}}, 500),
        ({"spec": {"containers": [{"image": "nameless"}]}}, 500),
        ({"spec": {"containers": [None]}}, 500),
        ({"spec": {"containers": ["text"]}}, 500),
        ({"spec": {"containers": [["text"]]}}, 500),
        ({"spec": {"containers": {"name": "main"}}}, 422),
        ({"spec": {"$setElementOrder/containers": [{"name": "x"}], "containers": [{"name": "main"}]}}, 500),
        ({"spec": {"$setElementOrder/containers": "main"}}, 500),
        ({"spec": {"$retainKeys": ["containers"], "nodeName": "n"}}, 400),
        ({"spec": {"$retainKeys": "containers"}}, 400),
        ({"$retainKeys": ["metadata"]}, 422),
        ({"spec": None}, 422),
    ],
    ids=str,
)
async def test_directives_that_contradict_each_other_are_refused(http: Http, api: Api, patch: JSON, code: int) -> None:
    _, before = await api.create("v1/pods", pod("a"))
    answered, _, message = await refused(http, "PATCH", api.path("v1/pods", "a"), patch, STRATEGIC)
    assert answered == code, message
    assert (await api.get("v1/pods", "a"))[1] == before


@pytest.mark.parametrize(
    ("group", "plural", "words"),
    [
        ("apps", "deployments", "should be a domain with at least one dot"),
        ("batch", "widgets", "should be a domain with at least one dot"),
        ("rbac.authorization.k8s.io", "roles", "protected groups must have approval annotation"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "protected groups must have approval annotation"),
        ("metrics.k8s.io", "pods", "protected groups must have approval annotation"),
    ],
)
async def test_a_definition_does_not_shadow_a_builtin_group(
    cluster: Api, http: Http, group: str, plural: str, words: str
) -> None:
    status, answer = await cluster.create(DEFINITIONS, crd(plural, "Thing", group=group))
    assert (status, answer["reason"]) == (422, "Invalid")
    assert words in answer["message"]
    assert (await http.call("GET", "/apis/apps/v1/deployments")).json["kind"] == "DeploymentList"


async def test_defaults_within_defaults_do_not_take_the_memory(cluster: Api, http: Http, api: Api) -> None:
    """A short object would be completed to a gigabyte."""
    innermost = {"type": "object", "properties": {"text": {"type": "string", "default": "x" * 100}}}
    inner = {"type": "array", "default": [{}] * 1_000, "items": innermost}
    outer = {"type": "array", "default": [{}] * 1_000, "items": {"type": "object", "properties": {"inner": inner}}}
    element = {"type": "object", "properties": {"outer": outer}}
    schema = {"type": "object", "properties": {"spec": {"type": "array", "items": element}}}
    other = version("v1beta1", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, storage=False)
    await define(cluster, crd("bombs", "Bomb", version("v1", schema), other, group="bombs.com"))
    told = "rpc error: code = ResourceExhausted desc = trying to send message larger than max "
    for spoken in ("v1", "v1beta1"):
        made = {"apiVersion": f"bombs.com/{spoken}", "kind": "Bomb", "metadata": {"name": "a"}, "spec": [{}] * 10}
        answer = await http.call("POST", api.path(f"bombs.com/{spoken}/bombs"), made)
        assert (answer.status, answer.json["message"][: len(told)]) == (500, told)
    assert (await http.call("GET", api.path("bombs.com/v1/bombs"))).json["items"] == []


@pytest.mark.parametrize("media", ["application/cbor", "application/cbor-seq"])
async def test_cbor_is_refused_as_where_its_feature_is_off(http: Http, api: Api, path: str, media: str) -> None:
    """CBORServingAndStorage is alpha and off in v1.35."""
    for query in ("", "?watch=true"):
        answer = await http.call("GET", api.path(MAPS) + query, headers={"Accept": media})
        assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")
    assert (await refused(http, "POST", api.path(MAPS), b"\xa0", media))[:2] == (415, "UnsupportedMediaType")
    patched = await refused(http, "PATCH", f"{path}?fieldManager=x", b"\xa0", "application/apply-patch+cbor")
    assert patched[:2] == (415, "UnsupportedMediaType")
    both = await http.call("GET", path, headers={"Accept": f"{media}, application/json"})
    assert (both.status, both.headers["Content-Type"]) == (200, "application/json")
