"""Who writes admission policies may read what these read for them."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
RBAC = "rbac.authorization.k8s.io/v1"
GROUP = "admissionregistration.k8s.io"
POLICIES, BINDINGS = (f"{GROUP}/v1/validatingadmissionpolic{end}" for end in ("ies", "ybindings"))
SECRETS = {"apiVersion": "v1", "kind": "Secret"}


async def someone(server: APIServer, cluster: Api, name: str, *rules: JSON) -> Api:
    """A user who may write policies and their bindings, and what the rules allow."""
    own = {"apiGroups": [GROUP], "resources": ["*"], "verbs": ["*"]}
    role = {"metadata": {"name": name}, "rules": [own, *rules]}
    assert (await cluster.create(f"{RBAC}/clusterroles", role))[0] == 201
    subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    assert (await cluster.create(f"{RBAC}/clusterrolebindings", binding))[0] == 201
    return Api(server.transport(username=name, groups=["dev"]), "")


def policy(name: str, kind: JSON | None) -> JSON:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}]}
    return {"metadata": {"name": name}, "spec": spec | ({"paramKind": kind} if kind else {})}


def binding(called: str, of: str, **reference: Any) -> JSON:
    spec = {"policyName": of, "validationActions": ["Deny"]}
    reference["parameterNotFoundAction"] = "Allow"
    return {"metadata": {"name": called}, "spec": spec | {"paramRef": reference}}


async def refused(api: Api, path: str, obj: JSON) -> str:
    """Why, in the words for the field."""
    status, error = await api.create(path, obj)
    assert (status, error["reason"]) == (422, "Invalid"), error
    [cause] = error["details"]["causes"]
    field = "spec.paramKind" if path == POLICIES else "spec.paramRef"
    assert (cause["reason"], cause["field"]) == ("FieldValueForbidden", field)
    return str(cause["message"]).removeprefix("Forbidden: ")


async def test_a_policy_is_of_kinds_that_its_writer_may_read(server: APIServer, cluster: Api) -> None:
    readers = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    jane = await someone(server, cluster, "policy-jane", readers)
    who = "user &{policy-jane  [dev system:authenticated] map[]}"
    whose = f'{who} must have "get" permission on all objects of the referenced paramKind'
    assert await refused(jane, POLICIES, policy("secrets", SECRETS)) == f"{whose} (kind=Secret, apiVersion=v1)"
    nobodys = {"apiVersion": "none.example.com/v1", "kind": "None"}
    told = await refused(jane, POLICIES, policy("nobodys", nobodys))
    assert told == f"{whose} (kind=None, apiVersion=none.example.com/v1)"
    maps = {"apiVersion": "v1", "kind": "ConfigMap"}
    status, made = await jane.create(POLICIES, policy("policy-maps", maps))
    assert status == 201, made
    changed = {**made, "spec": {**made["spec"], "paramKind": SECRETS}}
    assert (await jane.update(POLICIES, changed))[0] == 422
    assert (await jane.update(POLICIES, {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}))[0] == 200
    for one in (policy("policy-none", None), policy("policy-of-secrets", SECRETS)):
        writer = jane if one["metadata"]["name"] == "policy-none" else cluster
        assert (await writer.create(POLICIES, one))[0] == 201


async def test_a_binding_refers_to_what_its_writer_may_read(server: APIServer, cluster: Api) -> None:
    one = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["open"]}
    john = await someone(server, cluster, "policy-john", one)
    assert (await cluster.create(POLICIES, policy("policy-bound", SECRETS)))[0] == 201
    lacking = 'user &{policy-john  [dev system:authenticated] map[]} does not have "{}" permission'
    rest = " on the object referenced by paramRef"
    closed = binding("closed", "policy-bound", name="closed", namespace="default")
    assert await refused(john, BINDINGS, closed) == lacking.replace("{}", "get") + rest
    several = binding("several", "policy-bound", selector={})
    assert await refused(john, BINDINGS, several) == lacking.replace("{}", "list") + rest
    unknown = binding("unknown", "policy-unknown", name="open")
    assert await refused(john, BINDINGS, unknown) == (
        "unable to get policy policy-unknown to determine minimum required permissions and "
        f"{lacking.replace('{}', 'get')} for all groups, versions and resources"
    )
    open_one = binding("policy-open", "policy-bound", name="open", namespace="default")
    status, made = await john.create(BINDINGS, open_one)
    assert status == 201, made
    assert (await cluster.create(BINDINGS, closed))[0] == 201
