"""Reviews and token requests: in which order what is wrong with them is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOCAL = "authorization.k8s.io/v1/localsubjectaccessreviews"
SELF = "authentication.k8s.io/v1/selfsubjectreviews"
RULES = "authorization.k8s.io/v1/selfsubjectrulesreviews"
ELSEWHERE = "the namespace of the provided object does not match the namespace sent on the request"


async def test_a_local_review_is_of_the_namespace_it_is_sent_to(api: Api) -> None:
    spec = {"user": "a", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": api.namespace}}
    status, error = await api.create(LOCAL, {"metadata": {"namespace": "other"}, "spec": spec})
    assert (status, error["message"]) == (400, ELSEWHERE)
    assert (await api.create(LOCAL, {"spec": spec}))[0] == 201


async def test_a_review_that_is_of_no_namespace_forgets_one(cluster: Api) -> None:
    for resource, spec in (
        ("authorization.k8s.io/v1/subjectaccessreviews", {"user": "a", "nonResourceAttributes": {"path": "/"}}),
        ("authentication.k8s.io/v1/tokenreviews", {"token": "none"}),
    ):
        status, answer = await cluster.create(resource, {"metadata": {"namespace": "other"}, "spec": spec})
        assert (status, "namespace" in answer["metadata"]) == (201, False)


async def test_who_asks_for_themselves_says_it_in_the_right_kind(cluster: Api) -> None:
    status, review = await cluster.create(SELF, {})
    assert (status, review["status"]["userInfo"]["username"]) == (201, "admin")
    status, error = await cluster.create(SELF, {"apiVersion": "other/v1", "kind": "SelfSubjectReview"})
    assert (status, error["reason"]) == (400, "BadRequest")
    status, error = await cluster.create(SELF, {"odd": 1}, fieldValidation="Strict")
    assert error["message"].endswith('strict decoding error: unknown field "odd"')


async def test_a_token_is_asked_for_by_the_name_of_the_account_before_it_is_looked_for(api: Api) -> None:
    path = api.path("v1/serviceaccounts", "none", "token")
    status, error = await api.call("POST", path, {"metadata": {"name": "other"}})
    assert (status, error["details"]["causes"][0]["field"]) == (422, "metadata.name")
    status, error = await api.call("POST", path, {"metadata": {"namespace": "other"}})
    assert (status, error["message"]) == (400, ELSEWHERE)
    assert (await api.call("POST", path, {}))[0] == 404


async def test_who_asks_for_no_namespace_is_told_what_was_not_known_of_the_question(
    server: APIServer, tmp_path: Path
) -> None:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
        answer = await http.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"odd": 1})
    assert (answer.status, answer.json["message"]) == (400, "no namespace on request")
    assert answer.headers["Warning"] == '299 - "unknown field \\"odd\\""'


async def test_rules_are_told_without_the_question_and_as_complete_as_the_modes_know(
    server: APIServer, api: Api
) -> None:
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "b"},
        "subjects": [{"kind": "User", "name": "system:node:n", "apiGroup": group}],
        "roleRef": {"kind": "Role", "name": "none", "apiGroup": group},
    }
    assert (await api.create(f"{group}/v1/rolebindings", binding))[0] == 201
    review = {"metadata": {"labels": {"a": "b"}}, "spec": {"namespace": api.namespace}}
    gone = 'role.rbac.authorization.k8s.io "none" not found'

    async def asked(*groups: str) -> tuple[bool, str]:
        who = Api(server.transport(username="system:node:n", groups=groups), "")
        status, answer = await who.create(RULES, review)
        assert (status, answer["metadata"], answer["spec"]) == (201, {}, {})
        return answer["status"]["incomplete"], answer["status"]["evaluationError"]

    assert await asked("system:authenticated") == (False, gone)
    of_nodes = f"[node authorizer does not support user rule resolution, {gone}]"
    assert await asked("system:authenticated", "system:nodes") == (True, of_nodes)
