"""MutatingAdmissionPolicy: apply configurations and JSON patches written in CEL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock
from tests.integration.apiserver.conftest import Api, config_map, pod
from tests.integration.apiserver.hooks import bound, hooking, within
from tests.support.admission_webhook import annotate

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
GROUP = "admissionregistration.k8s.io/v1beta1"
CONFIGMAPS = "v1/configmaps"
_numbers = itertools.count(1)
MAPS: JSON = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
PODS: JSON = {**MAPS, "resources": ["pods"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    """One that serves the beta version that these policies are of."""
    directory: Path = tmp_path_factory.mktemp("apiserver")
    config = APIServerConfig(
        data_dir=directory,
        secure_port=0,
        storage=LMDBConfig(sync=False),
        runtime_config=((GROUP, "true"),),
    )
    made = APIServer(config, RealClock())
    await made.start()
    yield made
    await made.stop()


def configure(expression: str) -> JSON:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patch(expression: str) -> JSON:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


@asynccontextmanager
async def changing(
    api: Api, cluster: Api, *mutations: JSON, rule: JSON = MAPS, params: JSON | None = None, name: str = "", **spec: Any
) -> AsyncIterator[str]:
    name = name or f"policy-{next(_numbers):04}"
    described = {
        "matchConstraints": {"resourceRules": [rule]},
        "mutations": list(mutations),
        "reinvocationPolicy": "Never",
        **spec,
    }
    binding = {"matchResources": {"namespaceSelector": within(api)}, **({"paramRef": params} if params else {})}
    async with bound(cluster, f"{GROUP}/mutatingadmissionpolicies", name, described, binding):
        yield name


async def test_a_configuration_is_merged_by_the_keys_of_lists_and_owned_by_nobody(api: Api, cluster: Api) -> None:
    side = "Object.spec.containers{name: 'side', image: 'proxy:' + object.metadata.name}"
    main = "Object.spec.containers{name: 'main', env: [Object.spec.containers.env{name: 'A', value: 'b'}]}"
    expression = f"Object{{spec: Object.spec{{containers: [{main}, {side}]}}}}"
    async with changing(api, cluster, configure(expression), rule=PODS):
        status, made = await api.create("v1/pods", pod("x"))
    assert status == 201, made
    first, second = made["spec"]["containers"]
    assert (first["name"], first["image"], first["env"]) == ("main", "none", [{"name": "A", "value": "b"}])
    assert (second["image"], second["imagePullPolicy"]) == ("proxy:x", "IfNotPresent")
    assert second["volumeMounts"], "built-in plugins look once more"
    owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]
    assert owned.keys() == {'k:{"name":"main"}'}


async def test_what_is_owned_as_a_whole_cannot_be_set_in_part(api: Api, cluster: Api) -> None:
    expression = "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'main', command: ['sh']}]}}"
    async with changing(api, cluster, configure(expression), rule=PODS) as name:
        status, answer = await api.create("v1/pods", pod("x"))
    assert (status, answer["reason"]) == (403, "Invalid")
    assert answer["message"] == (
        f"policy '{name}' with binding '{name}-bound' denied request: error applying patch: "
        "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].command"
    )


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("Object{metadata: Object.wrong{}}", 'type mismatch: unexpected type name "Object.wrong"'),
        (
            "Object{colour: 'red'}",
            "patch: failed to convert patch object to typed object: .colour: field not",
        ),
        ("Object{data: {'k': object.none}}", "resulted in error: no such key: none"),
    ],
)
async def test_bad_configurations_refuse_unless_failures_are_ignored(
    api: Api, cluster: Api, expression: str, told: str
) -> None:
    async with changing(api, cluster, configure(expression)):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert status == 403
    assert told in answer["message"]
    async with changing(api, cluster, configure(expression), failurePolicy="Ignore"):
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201


async def test_json_patches_are_applied_in_order_each_seeing_the_one_before(api: Api, cluster: Api) -> None:
    first = patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a/b': string(object.data.size())}}]")
    second = patch(
        "[JSONPatch{op: 'copy', from: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), path: '/metadata/labels/c'}]"
    )
    async with changing(api, cluster, first, second):
        status, made = await api.create(CONFIGMAPS, config_map("m", k="1"))
    assert status == 201, made
    assert made["metadata"]["labels"] == {"a/b": "1", "c": "1"}


async def test_a_patch_whose_test_fails_changes_nothing(api: Api, cluster: Api) -> None:
    tested = patch(
        "[JSONPatch{op: 'test', path: '/data/k', value: '2'}, JSONPatch{op: 'replace', path: '/data/k', value: '3'}]"
    )
    async with changing(api, cluster, tested):
        assert (await api.create(CONFIGMAPS, config_map("a", k="1")))[1]["data"] == {"k": "1"}
        assert (await api.create(CONFIGMAPS, config_map("b", k="2")))[1]["data"] == {"k": "3"}


async def test_a_patch_that_cannot_be_applied_refuses(api: Api, cluster: Api) -> None:
    async with changing(api, cluster, patch("[JSONPatch{op: 'remove', path: '/data/none'}]")):
        status, answer = await api.create(CONFIGMAPS, config_map("a", k="1"))
    told = "error in remove for path: '/data/none': Unable to remove nonexistent key: none: missing value"
    assert (status, answer["message"].partition(" denied request: ")[2]) == (403, f"JSON Patch: {told}")


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (
            "path: '/data/k', value: 1",
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        ("path: '/foo', value: 'x'", 'strict decoding error: unknown field "foo"'),
        ("path: '/kind', value: 'Other'", 'no kind "Other" is registered for version "v1" in scheme '),
        ("path: '', value: [1]", "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go "),
    ],
)
async def test_a_patch_that_leaves_no_object_is_an_error_whatever_failures_are_to_mean(
    api: Api, cluster: Api, operation: str, told: str
) -> None:
    wrong = patch(f"[JSONPatch{{op: 'replace', {operation}}}]")
    async with changing(api, cluster, wrong, failurePolicy="Ignore"):
        status, answer = await api.create(CONFIGMAPS, config_map("a", k="1"))
    assert (status, answer["reason"]) == (500, "InternalError"), answer
    assert answer["message"].removeprefix("Internal error occurred: ").startswith(told), answer["message"]


async def test_variables_conditions_and_parameters(api: Api, cluster: Api) -> None:
    await api.create(CONFIGMAPS, config_map("params", value="blue"))
    async with changing(
        api,
        cluster,
        configure("Object{metadata: Object.metadata{labels: {'colour': variables.colour}}}"),
        variables=[{"name": "colour", "expression": "params.data.value"}],
        matchConditions=[{"name": "new", "expression": "object.metadata.name != 'plain'"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        params={"name": "params", "parameterNotFoundAction": "Deny"},
    ):
        assert (await api.create(CONFIGMAPS, config_map("a")))[1]["metadata"]["labels"] == {"colour": "blue"}
        assert "labels" not in (await api.create(CONFIGMAPS, config_map("plain")))[1]["metadata"]
        _, changed = await api.patch(CONFIGMAPS, "plain", {"metadata": {"labels": {"own": "1"}}})
        assert changed["metadata"]["labels"] == {"own": "1"}


async def test_policies_come_before_webhooks_and_again_when_those_changed_something(api: Api, cluster: Api) -> None:
    counted = "Object{metadata: Object.metadata{annotations: {'seen': string(object.?metadata.?annotations"
    counted += ".orValue({}).size())}}}"
    async with (
        changing(api, cluster, configure(counted), reinvocationPolicy="IfNeeded"),
        hooking(api, cluster, "Mutating", annotate("hook", "1")) as hook,
    ):
        _, made = await api.create(CONFIGMAPS, config_map("m"))
    assert hook.requests[0]["object"]["metadata"]["annotations"] == {"seen": "0"}
    assert made["metadata"]["annotations"] == {"hook": "1", "seen": "2"}


async def test_a_deletion_is_no_matter_of_mutating_policies(api: Api, cluster: Api) -> None:
    await api.create(CONFIGMAPS, config_map("a"))
    async with changing(api, cluster, patch("[JSONPatch{op: 'add', path: '/data', value: {}}]")):
        assert (await api.delete(CONFIGMAPS, "a"))[0] == 200


async def test_a_parameter_that_must_be_there_and_is_not_forbids_and_a_mutation_that_fails_is_invalid(
    api: Api, cluster: Api
) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    reference = {"name": "limits", "parameterNotFoundAction": "Deny"}
    mutation = configure("Object{metadata: Object.metadata{labels: {'a': params.data.a}}}")
    async with changing(api, cluster, mutation, paramKind=kind, params=reference) as name:
        whose = f"policy '{name}' with binding '{name}-bound' denied request"
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
        assert (status, answer["reason"]) == (403, "Forbidden")
        assert answer["message"] == (
            f"{whose}: failed to configure binding: no params found for policy binding with `Deny` "
            "parameterNotFoundAction"
        )
    broken = configure("Object{metadata: Object.metadata{labels: {'a': object.data.none}}}")
    async with changing(api, cluster, broken) as name:
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert (status, answer["reason"]) == (403, "Invalid")
    assert answer["message"].startswith(f"policy '{name}' with binding '{name}-bound' denied request: ")
