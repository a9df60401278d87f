"""ValidatingAdmissionPolicy: what policies see, and what becomes of what they find."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api, config_map, deployment, pod
from tests.integration.apiserver.definitions import DEFINITIONS, crd, define
from tests.integration.apiserver.hooks import SCALERS, bound, scaler, within

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
GROUP = "admissionregistration.k8s.io/v1"
CONFIGMAPS = "v1/configmaps"
_numbers = itertools.count(1)
MAPS: JSON = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


@asynccontextmanager
async def policed(
    api: Api,
    cluster: Api,
    *validations: JSON,
    rule: JSON = MAPS,
    actions: tuple[str, ...] = ("Deny",),
    params: JSON | None = None,
    binding: JSON | None = None,
    **spec: Any,
) -> AsyncIterator[str]:
    """A policy with one binding, for what happens in the namespace of `api`; its name."""
    name = f"policy-{next(_numbers)}"
    constraints = {"resourceRules": [rule], **spec.pop("constraints", {})}
    bindings = {
        "validationActions": list(actions),
        "matchResources": {"namespaceSelector": within(api)},
        **({"paramRef": params} if params else {}),
        **(binding or {}),
    }
    described = {"matchConstraints": constraints, "validations": list(validations), **spec}
    async with bound(cluster, f"{GROUP}/validatingadmissionpolicies", name, described, bindings):
        yield name


def check(expression: str, **more: str) -> JSON:
    return {"expression": expression, **more}


async def warnings_of(api: Api, obj: JSON) -> list[str]:
    answer = await api.transport.answer("POST", api.path(CONFIGMAPS), body=orjson.dumps(obj))
    assert answer.status == 201, answer.body
    return [value for name, value in answer.headers if name == "Warning"]


async def test_a_policy_that_is_bound_denies_in_its_own_words(api: Api, cluster: Api) -> None:
    async with policed(api, cluster, check("object.data.size() < 2", message="too much")) as name:
        assert (await api.create(CONFIGMAPS, config_map("a", k="1")))[0] == 201
        status, answer = await api.create(CONFIGMAPS, config_map("b", k="1", l="2"))
    assert (status, answer["reason"]) == (422, "Invalid")
    denied = f"ValidatingAdmissionPolicy '{name}' with binding '{name}-bound' denied request: too much"
    assert answer["message"] == f'configmaps "b" is forbidden: {denied}'
    assert answer["details"] == {"name": "b", "kind": "configmaps", "causes": [{"message": denied}]}
    assert (await api.create(CONFIGMAPS, config_map("b", k="1", l="2")))[0] == 201, "it is gone"


@pytest.mark.parametrize(
    ("validation", "code", "reason", "told"),
    [
        (check("false"), 422, "Invalid", "failed expression: false"),
        (check("false", reason="Forbidden"), 403, "Forbidden", "failed expression: false"),
        (check("false", messageExpression="'no ' + object.metadata.name"), 422, "Invalid", "no a"),
        (check("false", message="said", messageExpression="string(object.data.none)"), 422, "Invalid", "said"),
        (check("false", message="said", messageExpression="' '"), 422, "Invalid", "said"),
        (check("false", message="said", messageExpression="'a\\nb'"), 422, "Invalid", "said"),
        (check("false", reason="RequestEntityTooLarge"), 413, "RequestEntityTooLarge", "failed expression: false"),
        (
            check("object.none == 1"),
            422,
            "Invalid",
            "expression 'object.none == 1' resulted in error: no such key: none",
        ),
    ],
)
async def test_reasons_and_messages(
    api: Api, cluster: Api, validation: JSON, code: int, reason: str, told: str
) -> None:
    async with policed(api, cluster, validation):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert (status, answer["reason"]) == (code, reason)
    assert answer["message"].endswith(f"denied request: {told}")


async def test_errors_are_ignored_by_a_policy_that_says_so(api: Api, cluster: Api) -> None:
    async with policed(api, cluster, check("object.none == 1"), failurePolicy="Ignore"):
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201


async def test_warnings_and_audit_let_the_request_pass(api: Api, cluster: Api) -> None:
    async with policed(api, cluster, check("false", message="mind"), actions=("Warn", "Audit")) as name:
        [warning] = await warnings_of(api, config_map("a"))
    told = f"Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{name}-bound': mind"
    assert warning == f'299 - "{told}"'


async def test_a_policy_without_a_binding_does_nothing(api: Api, cluster: Api) -> None:
    async with policed(api, cluster, check("false")) as name:
        await cluster.delete(f"{GROUP}/validatingadmissionpolicybindings", f"{name}-bound")
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201


async def test_expressions_see_the_request_its_namespace_and_both_objects(api: Api, cluster: Api) -> None:
    await cluster.patch("v1/namespaces", api.namespace, {"metadata": {"labels": {"team": "blue"}}})
    checks = [
        check("request.operation == (oldObject == null ? 'CREATE' : object == null ? 'DELETE' : 'UPDATE')"),
        check("namespaceObject.metadata.labels.team == 'blue' && namespaceObject.status.phase == 'Active'"),
        check("request.userInfo.username == 'admin' && 'system:masters' in request.userInfo.groups"),
        check("request.kind.kind == 'ConfigMap' && request.namespace == namespaceObject.metadata.name"),
        check("authorizer.requestResource.check(request.operation.lowerAscii()).allowed()"),
        check("!has(request.subResource) && request.name == 'a' && !request.dryRun"),
    ]
    async with policed(api, cluster, *checks):
        assert (await api.create(CONFIGMAPS, config_map("a")))[1].get("message") is None
        assert (await api.patch(CONFIGMAPS, "a", {"data": {"k": "v"}}))[1].get("message") is None
        assert (await api.delete(CONFIGMAPS, "a"))[1].get("message") is None


async def test_variables_are_defined_in_order_and_only_looked_at_where_they_are_used(api: Api, cluster: Api) -> None:
    variables = [
        {"name": "keys", "expression": "object.data.map(k, k)"},
        {"name": "first", "expression": "variables.keys[0]"},
        {"name": "broken", "expression": "object.none"},
    ]
    validation = check("variables.first == 'k'", messageExpression="'first is ' + variables.first")
    async with policed(api, cluster, validation, variables=variables):
        assert (await api.create(CONFIGMAPS, config_map("a", k="1")))[0] == 201
        status, answer = await api.create(CONFIGMAPS, config_map("b", x="1"))
    assert status == 422
    assert answer["message"].endswith("first is x")


async def test_conditions_say_what_is_judged(api: Api, cluster: Api) -> None:
    conditions = [{"name": "only-b", "expression": "object.metadata.name == 'b'"}]
    async with policed(api, cluster, check("false"), matchConditions=conditions):
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201
        assert (await api.create(CONFIGMAPS, config_map("b")))[0] == 422


async def test_rules_name_objects_and_exclude_some(api: Api, cluster: Api) -> None:
    named = {**MAPS, "resourceNames": ["a", "b"]}
    excluded = {"excludeResourceRules": [{**MAPS, "resourceNames": ["b"]}]}
    async with policed(api, cluster, check("false"), rule=named, constraints=excluded):
        assert [(await api.create(CONFIGMAPS, config_map(name)))[0] for name in ("a", "b", "c")] == [422, 201, 201]


async def test_parameters_come_by_name_from_the_namespace_of_the_request(api: Api, cluster: Api) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    await api.create(CONFIGMAPS, config_map("limits", most="1"))
    validation = check("object.data.size() <= int(params.data.most)")
    reference = {"name": "limits", "parameterNotFoundAction": "Deny"}
    rule = {**MAPS, "operations": ["CREATE"]}
    async with policed(api, cluster, validation, paramKind=kind, params=reference, rule=rule) as name:
        assert (await api.create(CONFIGMAPS, config_map("a", k="1")))[0] == 201
        assert (await api.create(CONFIGMAPS, config_map("b", k="1", l="2")))[0] == 422
        await api.patch(CONFIGMAPS, "limits", {"data": {"most": "2"}})
        assert (await api.create(CONFIGMAPS, config_map("b", k="1", l="2")))[0] == 201
        await api.delete(CONFIGMAPS, "limits")
        status, answer = await api.create(CONFIGMAPS, config_map("c"))
    assert status == 422
    assert answer["message"].endswith(
        f"ValidatingAdmissionPolicy '{name}' with binding '{name}-bound' denied request: failed to configure binding: "
        "no params found for policy binding with `Deny` parameterNotFoundAction"
    )


async def test_each_selected_parameter_is_held_against_the_request(api: Api, cluster: Api) -> None:
    group = "limits.example.com"
    schema = {"type": "object", "properties": {"banned": {"type": "string"}}}
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    await define(cluster, crd("bans", "Ban", one, group=group))
    for name in ("x", "y"):
        ban = {"apiVersion": f"{group}/v1", "kind": "Ban", "metadata": {"name": name, "labels": {"on": "1"}}}
        assert (await api.create(f"{group}/v1/bans", {**ban, "banned": name}))[0] == 201
    reference = {
        "selector": {"matchLabels": {"on": "1"}},
        "namespace": api.namespace,
        "parameterNotFoundAction": "Allow",
    }
    kind = {"apiVersion": f"{group}/v1", "kind": "Ban"}
    validation = check("!(params.banned in object.data)", messageExpression="params.banned + ' is banned'")
    async with policed(api, cluster, validation, paramKind=kind, params=reference):
        assert (await api.create(CONFIGMAPS, config_map("a", k="1")))[0] == 201
        status, answer = await api.create(CONFIGMAPS, config_map("b", y="1"))
        assert status == 422
        assert answer["message"].endswith("y is banned")
        await api.delete(f"{group}/v1/bans")
        assert (await api.create(CONFIGMAPS, config_map("b", y="1")))[0] == 201, "there are none"
    await cluster.delete(DEFINITIONS, f"bans.{group}")


async def test_a_parameter_kind_that_nobody_serves_is_a_fault_of_the_policy(api: Api, cluster: Api) -> None:
    kind = {"apiVersion": "none.example.com/v1", "kind": "None"}
    async with policed(api, cluster, check("true"), paramKind=kind) as name:
        # Only bindings say which namespaces a policy is for, and this is found before they are looked at.
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert status == 422
    assert (
        f"ValidatingAdmissionPolicy '{name}' denied request: failed to configure policy: failed to find resource "
        in (answer["message"])
    )
    assert "referenced by paramKind: 'none.example.com/v1, Kind=None'" in answer["message"]


async def test_an_object_is_judged_in_the_version_of_the_rule(api: Api, cluster: Api) -> None:
    async with policed(api, cluster, check("object.spec.targetCPUUtilizationPercentage == 50"), rule=SCALERS):
        status, answer = await api.create("autoscaling/v2/horizontalpodautoscalers", scaler("h"))
        assert status == 201, answer


async def test_scaling_and_binding_are_judged_as_what_they_are(api: Api, cluster: Api) -> None:
    scale = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments/scale"]}
    await api.create("apps/v1/deployments", deployment("d"))
    async with policed(api, cluster, check("object.spec.replicas < 4 && oldObject.kind == 'Scale'"), rule=scale):
        grown = {"spec": {"replicas": 5}}
        assert (await api.patch("apps/v1/deployments", "d", grown, subresource="scale"))[0] == 422
        assert (await api.patch("apps/v1/deployments", "d", {"spec": {"replicas": 3}}, subresource="scale"))[0] == 200
    binding = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods/binding"]}
    await api.create("v1/pods", pod("x"))
    async with policed(api, cluster, check("object.target.name != 'bad'"), rule=binding):
        bound = {"metadata": {"name": "x"}, "target": {"kind": "Node", "name": "bad"}}
        assert (await api.call("POST", api.path("v1/pods", "x", "binding"), bound))[0] == 422


async def test_too_costly_expressions_are_errors(api: Api, cluster: Api) -> None:
    dear = "authorizer.group('').resource('pods').check('get').allowed()"
    three = " && ".join([dear] * 3)
    async with policed(api, cluster, check(three)):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert status == 422
    assert "operation cancelled: actual cost limit exceeded" in answer["message"]
    two = " && ".join([dear] * 2)
    async with policed(api, cluster, *[check(two)] * 15):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert status == 422
    assert (
        "validation failed due to running out of cost budget, no further validation rules will be run"
        in (answer["message"])
    )


async def test_audit_annotations_are_kept_and_their_faults_deny(
    api: Api, cluster: Api, server: APIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, str] = {}
    from kubecore.apiserver.registry.strategy import RequestContext

    monkeypatch.setattr(RequestContext, "annotate", lambda _, key, value: kept.setdefault(key, value))
    annotations = [
        {"key": "size", "valueExpression": "string(object.data.size())"},
        {"key": "nothing", "valueExpression": "object.metadata.name == 'a' ? ' ' : 'x'"},
    ]
    async with policed(api, cluster, auditAnnotations=annotations) as name:
        assert (await api.create(CONFIGMAPS, config_map("a", k="1")))[0] == 201
        assert kept == {f"{name}/size": "1"}
        status, answer = await api.create(CONFIGMAPS, {"metadata": {"name": "b"}})
    assert status == 422
    assert "no such key: data" in answer["message"]


async def test_reviews_of_access_are_no_matter_of_policies(cluster: Api, api: Api) -> None:
    rule = {"apiGroups": ["authorization.k8s.io"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    async with policed(api, cluster, check("false"), rule=rule, binding={"matchResources": None}):
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        status, _ = await cluster.create("authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert status == 201
