"""Expressions of policies and webhooks that ask what users may do, where an authorization webhook has to be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubecore.apiserver.authorization.options import AuthorizationOptions, WebhookOptions
from kubecore.apiserver.server import APIServer
from tests.support.admission_webhook import MAPS
from tests.support.review_webhook import Decide, ReviewWebhook, reviewing

from .conftest import Api, config_map, pod
from .hooks import bound, hooking, within
from .serving import served

JSON = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
AUDIENCES = "request-serviceaccounts-token-audience"


def decided(spec: JSON) -> Any:
    """Everybody may do all but what expressions ask about: reading pods is for jane, and of logs there is no word."""
    asked = spec.get("resourceAttributes") or {}
    if asked.get("resource") != "pods":
        return {"allowed": True}
    if asked.get("subresource") == "log":
        return web.Response(status=403)
    return {"allowed": spec["user"] == "jane", "reason": f"{spec['user']} was asked about"}


@asynccontextmanager
async def asking(
    folder: Path, decide: Decide = decided, **webhook: Any
) -> AsyncIterator[tuple[ReviewWebhook, APIServer, Api]]:
    async with reviewing(folder, decide) as (reviewer, file):
        options = AuthorizationOptions(webhook=WebhookOptions(config_file=file, version="v1", **webhook))
        alone = {"authorization_modes": ("RBAC", "Webhook"), "authorization": options}
        async with served(folder, runtime_config=((f"{GROUP}/v1beta1", "true"),), **alone) as server:
            cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
            assert (await cluster.create("v1/namespaces", {"metadata": {"name": "asking"}}))[0] == 201
            yield reviewer, server, cluster


def of(server: APIServer, user: str) -> Api:
    return Api(server.transport(username=user), "asking")


def policy(*expressions: str, **spec: Any) -> JSON:
    validations = [{"expression": one} for one in expressions]
    return {"matchConstraints": {"resourceRules": [MAPS]}, "validations": validations, **spec}


def about_pods(reviewer: ReviewWebhook) -> list[str]:
    asked = [spec for spec in reviewer.specs if (spec.get("resourceAttributes") or {}).get("resource") == "pods"]
    return [spec["user"] for spec in asked]


BINDING = {"validationActions": ["Deny"], "matchResources": {"namespaceSelector": {}}}
MAY = "authorizer.group('').resource('pods').namespace('asking').check('get').allowed()"


@pytest.mark.parametrize("seconds", [60.0, 0.0])
async def test_a_policy_hears_what_the_webhook_says(tmp_path: Path, seconds: float) -> None:
    """Whether its word is remembered or not."""
    async with asking(tmp_path, authorized_ttl=seconds, unauthorized_ttl=seconds) as (reviewer, server, cluster):
        async with bound(cluster, f"{GROUP}/v1/validatingadmissionpolicies", "may", policy(MAY), BINDING):
            for user, code in (("jane", 201), ("joe", 422)):
                status, answer = await of(server, user).create("v1/configmaps", config_map(user))
                assert status == code, answer
        assert set(about_pods(reviewer)) == {"jane", "joe"}


async def test_each_question_is_asked_once_for_a_request(tmp_path: Path) -> None:
    async with asking(tmp_path, authorized_ttl=0.0, unauthorized_ttl=0.0) as (reviewer, server, cluster):
        other = MAY.replace("'get'", "'list'")
        async with bound(cluster, f"{GROUP}/v1/validatingadmissionpolicies", "may", policy(MAY, other, MAY), BINDING):
            assert (await of(server, "jane").create("v1/configmaps", config_map("a")))[0] == 201
        assert about_pods(reviewer) == ["jane", "jane"]


async def test_reasons_and_errors_come_to_expressions(tmp_path: Path) -> None:
    log = "authorizer.group('').resource('pods').subresource('log').check('get')"
    said = f"{MAY.removesuffix('.allowed()')}.reason() == 'jane was asked about'"
    expressions = (f"{log}.errored() && {log}.error().contains('status code 403')", f"!{log}.allowed()", said)
    async with asking(tmp_path) as (_, server, cluster):
        spec = policy(*expressions)
        async with bound(cluster, f"{GROUP}/v1/validatingadmissionpolicies", "told", spec, BINDING):
            status, answer = await of(server, "jane").create("v1/configmaps", config_map("a"))
            assert status == 201, answer


async def test_match_conditions_of_policies_and_webhooks_hear_it_too(tmp_path: Path) -> None:
    conditions = [{"name": "may", "expression": MAY}]
    async with asking(tmp_path) as (_, server, cluster):
        spec = policy("false", matchConditions=conditions)
        async with bound(cluster, f"{GROUP}/v1/validatingadmissionpolicies", "may", spec, BINDING):
            answers = [
                (await of(server, user).create("v1/configmaps", config_map(user)))[0] for user in ("joe", "jane")
            ]
        assert answers == [201, 422]
        api = of(server, "jane")
        selector = {"namespaceSelector": within(api), "matchConditions": conditions}
        async with hooking(api, cluster, "Mutating", **selector) as hook:
            for user in ("joe", "jane"):
                assert (await of(server, user).create("v1/configmaps", config_map(f"hook-{user}")))[0] == 201
        assert [request["userInfo"]["username"] for request in hook.requests] == ["jane"]


async def test_a_mutating_policy_changes_what_the_webhook_lets_it(tmp_path: Path) -> None:
    apply = f"Object{{metadata: Object.metadata{{labels: {{'may': string({MAY})}}}}}}"
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}
    spec = {
        "matchConstraints": {"resourceRules": [MAPS]},
        "mutations": [mutation],
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
    }
    async with asking(tmp_path) as (_, server, cluster):
        binding = {"matchResources": {"namespaceSelector": {}}}
        async with bound(cluster, f"{GROUP}/v1beta1/mutatingadmissionpolicies", "tells", spec, binding):
            for user, told in (("jane", "true"), ("joe", "false")):
                status, made = await of(server, user).create("v1/configmaps", config_map(user))
                assert status == 201, made
                assert made["metadata"]["labels"] == {"may": told}


# --- tokens that kubelets ask for


async def pod_of_node(server: APIServer, cluster: Api, audience: str) -> JSON:
    """A pod of the node `own` with a token of that audience; its kubelet's reference to it."""
    await cluster.create("v1/nodes", {"metadata": {"name": "own"}})
    await of(server, "jane").create("v1/serviceaccounts", {"metadata": {"name": "default"}})
    source = {"serviceAccountToken": {"path": "t", "audience": audience}}
    made = pod("mine", nodeName="own", volumes=[{"name": "v", "projected": {"sources": [source]}}])
    status, made = await of(server, "jane").create("v1/pods", made)
    assert status == 201, made
    return {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": made["metadata"]["uid"]}


@pytest.mark.parametrize("seconds", [60.0, 0.0])
async def test_whom_a_nodes_tokens_are_for_is_the_webhooks_to_say_too(tmp_path: Path, seconds: float) -> None:
    """Whether its word is remembered or not; it is asked of what no volume of the pod wants alone."""

    def of_audiences(spec: JSON) -> Any:
        asked = spec.get("resourceAttributes") or {}
        if asked.get("verb") != AUDIENCES:
            return {"allowed": True}
        return web.Response(status=403) if asked["resource"] == "gone" else {"allowed": asked["resource"] == "bank"}

    async with asking(tmp_path, of_audiences, authorized_ttl=seconds, unauthorized_ttl=seconds) as (
        reviewer,
        server,
        cluster,
    ):
        bound_to = await pod_of_node(server, cluster, "vault")
        node = Api(server.transport(username="system:node:own", groups=["system:nodes"]), "asking")
        answers = {}
        for audience in ("vault", "bank", "shop", "gone"):
            spec = {"audiences": [audience], "boundObjectRef": bound_to}
            status, answer = await node.call(
                "POST", node.path("v1/serviceaccounts", "default", "token"), {"spec": spec}
            )
            answers[audience] = status, answer.get("message", "")
    assert [status for status, _ in answers.values()] == [201, 201, 403, 403]
    who = "system:node:own"
    missing = 'audience "shop" not found in pod spec volume'
    assert f"{missing}, {who} is not authorized to request tokens for this audience" in answers["shop"][1]
    missing = 'audience "gone" not found in pod spec volume'
    assert f"{missing}, error authorizing {who} to request tokens for this audience: " in answers["gone"][1]
    asked = [spec for spec in reviewer.specs if (spec.get("resourceAttributes") or {}).get("verb") == AUDIENCES]
    what = {"namespace": "asking", "version": "v1", "name": "default", "verb": AUDIENCES}
    assert [(spec["user"], spec["resourceAttributes"]) for spec in asked] == [
        (who, {**what, "resource": audience}) for audience in ("bank", "shop", "gone")
    ]
