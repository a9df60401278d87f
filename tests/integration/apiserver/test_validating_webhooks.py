"""ValidatingAdmissionWebhook: refusals, failures and what they are worded like."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.integration.apiserver.conftest import Api, config_map, pod
from tests.integration.apiserver.hooks import hooking, registered, within
from tests.support.admission_webhook import MAPS, PODS, allow, deny, hooked, patch

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
CONFIGMAPS = "v1/configmaps"


@pytest.mark.parametrize(
    ("status", "code", "reason", "message"),
    [
        (None, 400, "", 'admission webhook "one.example.com" denied the request without explanation'),
        ({"message": "no"}, 400, "", 'admission webhook "one.example.com" denied the request: no'),
        (
            {"reason": "Forbidden"},
            400,
            "Forbidden",
            'admission webhook "one.example.com" denied the request: Forbidden',
        ),
        (
            {"code": 403, "reason": "Forbidden", "message": "go away", "details": {"name": "x"}},
            403,
            "Forbidden",
            'admission webhook "one.example.com" denied the request: go away',
        ),
        ({"code": 70000, "message": "odd"}, 500, "", 'admission webhook "one.example.com" denied the request: odd'),
        ({"code": 200, "message": "odd"}, 400, "", 'admission webhook "one.example.com" denied the request: odd'),
    ],
)
async def test_a_refusal_is_told_with_the_words_of_the_webhook(
    api: Api, cluster: Api, status: JSON | None, code: int, reason: str, message: str
) -> None:
    response = {"allowed": False, **({"status": status} if status else {})}
    async with hooking(api, cluster, "Validating", lambda _: response):
        got, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert (got, answer.get("reason", ""), answer["message"]) == (code, reason, message)
    assert (await api.get(CONFIGMAPS, "a"))[0] == 404


async def test_what_is_validated_is_what_will_be_stored(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Validating", rule=PODS) as hook:
        _, made = await api.create("v1/pods", {**pod("x"), "metadata": {"generateName": "x-"}})
    [request] = hook.requests
    assert request["name"] == request["object"]["metadata"]["name"] == made["metadata"]["name"]
    for field in ("uid", "creationTimestamp", "managedFields"):
        assert request["object"]["metadata"][field] == made["metadata"][field]
    assert request["object"]["status"] == made["status"]


async def test_an_object_that_is_invalid_is_not_shown_to_webhooks(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Validating") as hook:
        status, _ = await api.create(CONFIGMAPS, config_map("Not A Name"))
    assert status == 422
    assert not hook.requests


async def test_an_update_that_changes_nothing_is_reviewed(api: Api, cluster: Api) -> None:
    _, made = await api.create(CONFIGMAPS, config_map("a"))
    async with hooking(api, cluster, "Validating", deny):
        assert (await api.update(CONFIGMAPS, made))[0] == 400


async def test_each_object_of_a_collection_is_reviewed_without_a_name(api: Api, cluster: Api) -> None:
    for name in ("a", "b"):
        await api.create(CONFIGMAPS, config_map(name))
    async with hooking(api, cluster, "Validating", rule={**MAPS, "operations": ["DELETE"]}) as hook:
        assert (await api.delete(CONFIGMAPS))[0] == 200
    assert {request["oldObject"]["metadata"]["name"] for request in hook.requests} >= {"a", "b"}
    assert all(request["object"] is None and "name" not in request for request in hook.requests)
    assert hook.requests[0]["options"]["kind"] == "DeleteOptions"


async def test_a_refused_deletion_leaves_the_object(api: Api, cluster: Api) -> None:
    await api.create(CONFIGMAPS, config_map("a"))
    async with hooking(api, cluster, "Validating", deny):
        assert (await api.delete(CONFIGMAPS, "a"))[0] == 400
    assert (await api.get(CONFIGMAPS, "a"))[0] == 200


async def test_webhooks_get_no_more_time_than_the_client_gives(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Validating", failurePolicy="Ignore") as hook:
        status, answer = await api.create(CONFIGMAPS, config_map("a"), timeout="1ns")
        assert (status, answer["reason"], hook.requests) == (504, "Timeout", [])
        status, answer = await api.create(CONFIGMAPS, config_map("a"), timeout="soon")
        assert status == 400
        assert answer["message"] == ('invalid timeout specified in the request URL - time: invalid duration "soon"')
        assert (await api.create(CONFIGMAPS, config_map("a"), timeout="1h"))[0] == 201
    assert len(hook.requests) == 1


async def test_all_are_asked_at_once_and_the_first_refusal_is_told(api: Api, cluster: Api) -> None:
    both = asyncio.Barrier(2)

    def together(request: JSON) -> Any:
        return {"allowed": False, "status": {"message": "both were asked"}}

    async with hooked(together) as one, hooked(together) as two:
        for hook in (one, two):
            answer = hook.answer

            async def handle(request: web.Request, answer: Any = answer) -> web.Response:
                review = await request.json()
                async with asyncio.timeout(30):
                    await both.wait()
                return web.json_response(answer(review))

            assert hook.served is not None
            hook.served.handle = handle  # type: ignore[method-assign]
        async with hooked() as unused:
            assert unused.requests == []
        configured = [
            hook.configured(f"{name}.example.com", [MAPS], namespaceSelector=within(api))
            for name, hook in (("one", one), ("two", two))
        ]
        async with registered(cluster, "Validating", *configured):
            status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert (status, len(one.requests), len(two.requests)) == (400, 1, 1)
    assert "both were asked" in answer["message"]


async def test_a_failing_webhook_refuses_unless_failures_are_ignored(api: Api, cluster: Api) -> None:
    nowhere = {"url": "https://127.0.0.1:1/x"}
    async with hooking(api, cluster, "Validating", clientConfig=nowhere, timeoutSeconds=7):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    failed = (
        'failed calling webhook "one.example.com": failed to call webhook: Post "https://127.0.0.1:1/x?timeout=7s": '
        "dial tcp 127.0.0.1:1: connect: connection refused"
    )
    assert (status, answer["reason"], answer["message"]) == (500, "InternalError", f"Internal error occurred: {failed}")
    assert answer["details"]["causes"] == [{"message": failed}]
    async with hooking(api, cluster, "Validating", clientConfig=nowhere, failurePolicy="Ignore"):
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201


async def test_a_service_that_is_not_there_is_told(api: Api, cluster: Api) -> None:
    service = {"service": {"namespace": api.namespace, "name": "none", "path": "/v"}}
    async with hooking(api, cluster, "Validating", clientConfig=service):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert status == 500
    assert 'service "none" not found' in answer["message"]
    assert f'Post "https://none.{api.namespace}.svc:443/v?timeout=10s"' in answer["message"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"response": {"allowed": True, "uid": "other"}}, 'expected response.uid="'),
        ({}, "received invalid webhook response: webhook response was absent"),
        (web.Response(status=307, headers={"Location": "https://127.0.0.1:1/"}), "not followed"),
        (web.Response(status=500, text="broken"), 'an error on the server ("broken") has prevented'),
        (
            web.Response(text="hello"),
            "couldn't get version/kind; json parse error: invalid character 'h' looking for beginning of value",
        ),
        ({"allowed": True, "patch": "W10="}, "validating webhook may not return response.patch"),
        ({"apiVersion": "v1", "kind": "Pod"}, 'no kind "Pod" is registered for version "v1" in scheme'),
        ({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}, "converting (v1beta1.AdmissionReview)"),
        ({"kind": "Odd"}, 'no kind "Odd" is registered for version "admission.k8s.io/v1" in scheme'),
    ],
)
async def test_an_answer_that_is_none_is_a_failure(api: Api, cluster: Api, answer: Any, told: str) -> None:
    async with hooking(api, cluster, "Validating", lambda _: answer):
        status, got = await api.create(CONFIGMAPS, config_map("a"))
    assert (status, got["reason"]) == (500, "InternalError")
    assert told in got["message"]


async def test_an_answer_of_another_version_is_a_failure_of_v1_only(api: Api, cluster: Api) -> None:
    def odd(request: JSON) -> JSON:
        return {"kind": "", "response": {"allowed": True, "uid": request["uid"]}}

    async with hooking(api, cluster, "Validating", odd):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    told = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
    assert status == 500
    assert told in answer["message"]
    async with hooking(api, cluster, "Validating", odd, admissionReviewVersions=["v2", "v1beta1"]) as hook:
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201
    assert hook.reviews[0]["apiVersion"] == "admission.k8s.io/v1beta1"


async def test_a_dry_run_is_told_to_webhooks_that_have_no_effects_then(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Validating", sideEffects="NoneOnDryRun") as hook:
        assert (await api.create(CONFIGMAPS, config_map("a"), dryRun="All"))[0] == 201
    assert hook.requests[0]["dryRun"] is True
    assert hook.requests[0]["options"]["dryRun"] == ["All"]


async def test_warnings_of_webhooks_are_headers_of_the_answer(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Validating", lambda _: {"allowed": True, "warnings": ["mind the gap"]}):
        answer = await api.transport.answer("POST", api.path(CONFIGMAPS), body=b'{"metadata":{"name":"a"}}')
    assert ("Warning", '299 - "mind the gap"') in answer.headers


async def test_conditions_say_what_is_reviewed(api: Api, cluster: Api) -> None:
    conditions = [
        {"name": "not-mine", "expression": "request.userInfo.username != 'me'"},
        {"name": "big", "expression": "object.data.size() > 1"},
    ]
    async with hooking(api, cluster, "Validating", allow, matchConditions=conditions) as hook:
        await api.create(CONFIGMAPS, config_map("small", a="1"))
        await api.create(CONFIGMAPS, config_map("big", a="1", b="2"))
        assert [request["name"] for request in hook.requests] == ["big"]
        status, answer = await api.create(CONFIGMAPS, {"metadata": {"name": "bare"}})
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert answer["message"] == (
        "configmaps \"bare\" is forbidden: expression 'object.data.size() > 1' resulted in error: no such key: data"
    )
    async with hooking(api, cluster, "Validating", deny, matchConditions=conditions, failurePolicy="Ignore") as hook:
        assert (await api.create(CONFIGMAPS, {"metadata": {"name": "bare"}}))[0] == 201
    assert not hook.requests


async def test_conditions_can_ask_the_authorizer(api: Api, cluster: Api) -> None:
    may = "!authorizer.requestResource.check('create').allowed()"
    account = (
        f"!authorizer.serviceAccount('{api.namespace}', 'default').group('').resource('pods').check('get').allowed()"
    )
    for expression, asked in ((may, 0), (account, 1)):
        condition = {"name": "c", "expression": expression}
        async with hooking(api, cluster, "Validating", matchConditions=[condition]) as hook:
            await api.create(CONFIGMAPS, config_map(f"m{asked}"))
        assert len(hook.requests) == asked


async def test_a_mutating_webhook_may_not_be_asked_by_halves(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Mutating", lambda _: {"allowed": True, "patch": "W10="}):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert status == 500
    assert "webhook returned response.patch but not response.patchType" in answer["message"]
    async with hooking(api, cluster, "Mutating", patch()):
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 201


async def test_reviews_are_reviewed(cluster: Api) -> None:
    rule = {
        "apiGroups": ["authorization.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["selfsubjectaccessreviews"],
    }
    async with hooked(deny) as hook, registered(cluster, "Validating", hook.configured("r.example.com", [rule])):
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        status, _ = await cluster.create("authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert status == 400
    assert hook.requests[0]["object"]["spec"] == review["spec"]
