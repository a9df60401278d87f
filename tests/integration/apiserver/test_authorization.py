"""Who may do what, by each mode of authorization besides RBAC, and by several in turn."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from kubecore.apiserver.authorization.options import AuthorizationOptions, WebhookOptions
from kubecore.apiserver.server import APIServer
from tests.support.review_webhook import reviewing

from .conftest import Api, config_map
from .http import Http
from .serving import served

SUBJECTS = "authorization.k8s.io/v1/subjectaccessreviews"
PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"


def http_of(server: APIServer, folder: Path, name: str, *groups: str) -> Http:
    return Http(server, folder, pair=server.issue_client_certificate(name, groups))


async def may(server: APIServer, user: str, **attributes: Any) -> dict[str, Any]:
    api = Api(server.transport(username="admin", groups=["system:masters"]), "")
    spec = {"user": user, "resourceAttributes": attributes}
    status, review = await api.create(SUBJECTS, {"spec": spec})
    assert status == 201, review
    found: dict[str, Any] = review["status"]
    return found


# --- ABAC


async def test_policies_of_a_file_allow_and_leave_the_rest_to_others(tmp_path: Path) -> None:
    file = tmp_path / "policies.jsonl"
    versioned = {"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy"}
    reader = {"user": "jane", "namespace": "default", "resource": "pods", "apiGroup": "", "readonly": True}
    lines = [
        "# who may read",
        json.dumps({**versioned, "spec": reader}),
        json.dumps({**versioned, "spec": {"group": "ops", "nonResourcePath": "/metrics"}}),
        '{"user": "old"}',
    ]
    file.write_text("\n".join(lines) + "\n")
    options = AuthorizationOptions(policy_file=file)
    async with served(tmp_path, authorization_modes=("ABAC", "RBAC"), authorization=options) as server:
        async with http_of(server, tmp_path, "jane") as jane:
            assert (await jane.call("GET", PODS)).status == 200
            refused = await jane.call("POST", MAPS, config_map("a"))
            assert refused.status == 403
            assert refused.json["message"].endswith('in the namespace "default": No policy matched.')
        async with http_of(server, tmp_path, "other", "ops") as other:
            assert (await other.call("GET", "/metrics")).status == 200
            assert (await other.call("GET", PODS)).status == 403
        async with http_of(server, tmp_path, "old") as old:
            assert (await old.call("POST", MAPS, config_map("a"))).status == 201
        assert (await may(server, "jane", verb="get", resource="pods", namespace="default"))["allowed"]
        found = await may(server, "jane", verb="get", resource="pods", namespace="other")
        assert found == {"allowed": False, "reason": "No policy matched."}


# --- What is forbidden


async def test_a_refusal_is_never_taken_for_a_page(tmp_path: Path) -> None:
    """By Rust, by Python, and by Rust again, which remembers what the webhook said."""
    async with reviewing(tmp_path, only_reads) as (_, file):
        for modes in (("RBAC",), ("RBAC", "Webhook")):
            folder = tmp_path / modes[-1]
            folder.mkdir()
            async with (
                served(folder, authorization_modes=modes, authorization=of_webhook(file)) as server,
                http_of(server, folder, "a<b>&c") as http,
            ):
                for refused in [await http.call("POST", MAPS, config_map("a")) for _ in range(2)]:
                    assert refused.status == 403
                    assert 'User "a&lt;b&gt;&amp;c" cannot create resource "configmaps"' in refused.json["message"]
                    assert refused.headers["X-Content-Type-Options"] == "nosniff"


# --- Webhook


def of_webhook(file: Path, **more: Any) -> AuthorizationOptions:
    return AuthorizationOptions(webhook=WebhookOptions(config_file=file, **{"version": "v1", **more}))


def only_reads(spec: dict[str, Any]) -> dict[str, Any]:
    asked = spec.get("resourceAttributes") or spec["nonResourceAttributes"]
    return {"allowed": asked["verb"] in ("get", "list"), "reason": "only reading"}


async def test_the_webhook_is_asked_once_and_its_answer_counts_for_a_while(tmp_path: Path) -> None:
    async with reviewing(tmp_path, only_reads) as (webhook, file):
        modes = ("RBAC", "Webhook")
        async with served(tmp_path, authorization_modes=modes, authorization=of_webhook(file)) as server:
            async with http_of(server, tmp_path, "jane", "dev") as jane:
                assert [(await jane.call("GET", PODS)).status for _ in range(3)] == [200, 200, 200]
                refused = [await jane.call("POST", MAPS, config_map("a")) for _ in range(2)]
                assert [one.status for one in refused] == [403, 403]
                assert refused[1].json["message"].endswith('in the namespace "default": only reading')
                assert (await jane.call("GET", "/metrics")).status == 200
            [read, write, path] = webhook.specs
            assert (read["user"], read["groups"]) == ("jane", ["dev", "system:authenticated"])
            asked = {"namespace": "default", "verb": "list", "version": "v1", "resource": "pods"}
            assert read["resourceAttributes"] == asked
            assert write["resourceAttributes"]["verb"] == "create"
            assert path["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


async def test_reviews_have_the_form_of_their_version(tmp_path: Path) -> None:
    async with reviewing(tmp_path, only_reads) as (webhook, file):
        options = of_webhook(file, version="v1beta1", authorized_ttl=0.0)
        async with served(tmp_path, authorization_modes=("Webhook",), authorization=options) as server:
            async with http_of(server, tmp_path, "jane") as jane:
                assert [(await jane.call("GET", PODS)).status for _ in range(2)] == [200, 200]
            assert [spec["group"] for spec in webhook.specs] == [["system:authenticated"]] * 2
            assert set(webhook.versions) == {"authorization.k8s.io/v1beta1"}


async def test_what_is_selected_is_told_and_tells_questions_apart(tmp_path: Path) -> None:
    def of_one_node(spec: dict[str, Any]) -> dict[str, Any]:
        fields = spec["resourceAttributes"].get("fieldSelector") or {}
        mine = {"key": "spec.nodeName", "operator": "In", "values": ["mine"]}
        return {"allowed": mine in fields.get("requirements", [])}

    async with (
        reviewing(tmp_path, of_one_node) as (webhook, file),
        served(tmp_path, authorization_modes=("Webhook",), authorization=of_webhook(file)) as server,
    ):
        async with http_of(server, tmp_path, "jane") as jane:
            for query, status in (
                ("?fieldSelector=spec.nodeName%3Dmine", 200),
                ("?fieldSelector=spec.nodeName%3Dmine", 200),
                ("?fieldSelector=spec.nodeName%3Dother", 403),
                ("?labelSelector=a+in+(b,c),!d", 403),
                ("", 403),
            ):
                assert (await jane.call("GET", f"/api/v1/pods{query}")).status == status, query
        assert len(webhook.specs) == 4
        assert webhook.specs[2]["resourceAttributes"]["labelSelector"]["requirements"] == [
            {"key": "a", "operator": "In", "values": ["b", "c"]},
            {"key": "d", "operator": "DoesNotExist"},
        ]
        raw = {"rawSelector": "spec.nodeName=mine"}
        assert (await may(server, "x", verb="list", resource="pods", fieldSelector=raw))["allowed"]
        wanted = {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["mine"]}]}
        assert (await may(server, "x", verb="list", resource="pods", fieldSelector=wanted))["allowed"]
        odd = {"requirements": [{"key": "spec.nodeName", "operator": "Exists"}]}
        found = await may(server, "x", verb="list", resource="pods", fieldSelector=odd)
        assert found["allowed"] is False
        told = "spec.resourceAttributes.fieldSelector ignored due to parse error"
        assert found["evaluationError"] == told


async def test_a_webhook_before_rbac_can_forbid_what_rbac_allows(tmp_path: Path) -> None:
    def not_jane(spec: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": False, "denied": spec["user"] == "jane", "reason": "not you"}

    async with reviewing(tmp_path, not_jane) as (_, file):
        modes = ("Webhook", "AlwaysAllow")
        async with served(tmp_path, authorization_modes=modes, authorization=of_webhook(file)) as server:
            async with http_of(server, tmp_path, "jane") as jane, http_of(server, tmp_path, "john") as john:
                refused = await jane.call("GET", PODS)
                assert (refused.status, refused.json["message"][-9:]) == (403, ": not you")
                assert (await john.call("GET", PODS)).status == 200
            # In process the same decision holds, and who asks about it hears that it is more than nobody's yes.
            status, _ = await Api(server.transport(username="jane")).list("v1/pods")
            assert status == 403
            asked = {"verb": "list", "resource": "pods", "namespace": "default"}
            assert await may(server, "jane", **asked) == {"allowed": False, "denied": True, "reason": "not you"}


async def test_a_webhook_that_fails_is_an_internal_error_where_nobody_else_allows(tmp_path: Path) -> None:
    async with reviewing(tmp_path, lambda spec: web.Response(status=403, text="no <idea>")) as (webhook, file):
        modes = ("Webhook", "RBAC")
        async with (
            served(tmp_path, authorization_modes=modes, authorization=of_webhook(file)) as server,
            http_of(server, tmp_path, "jane") as jane,
        ):
            answer = await jane.call("GET", f"{PODS}?a=%3Cb")
            told = f'Internal Server Error: "{PODS}?a=%3Cb": no &lt;idea&gt;\n'
            assert (answer.status, answer.body.decode()) == (500, told)
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            # RBAC allows this to everybody.
            assert (await jane.call("GET", "/version")).status == 200
            webhook.decide = only_reads
            assert (await jane.call("GET", PODS)).status == 200


async def test_a_webhook_that_says_yes_and_no_has_failed_for_as_long_as_its_answer_counts(tmp_path: Path) -> None:
    def both(spec: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": True, "denied": True, "reason": "both"}

    async with reviewing(tmp_path, both) as (webhook, file):
        modes = ("Webhook", "AlwaysAllow")
        async with (
            served(tmp_path, authorization_modes=modes, authorization=of_webhook(file)) as server,
            http_of(server, tmp_path, "jane") as jane,
        ):
            answers = [await jane.call("GET", PODS) for _ in range(2)]
    why = "webhook subject access review returned both allow and deny response"
    assert [one.body.decode() for one in answers] == [f'Internal Server Error: "{PODS}": {why}\n'] * 2
    assert len(webhook.specs) == 1


async def test_what_admission_asks_the_webhook_answers_too(tmp_path: Path) -> None:
    def approver(spec: dict[str, Any]) -> dict[str, Any]:
        asked = spec.get("resourceAttributes") or {}
        return {"allowed": asked.get("verb") != "escalate" or asked.get("name") == "mine"}

    async with (
        reviewing(tmp_path, approver) as (webhook, file),
        served(tmp_path, authorization_modes=("Webhook",), authorization=of_webhook(file)) as server,
    ):
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
        roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        async with http_of(server, tmp_path, "jane") as jane:
            for name, status in (("mine", 201), ("other", 403)):
                role = {"metadata": {"name": name}, "rules": rules}
                assert (await jane.call("PUT", f"{roles}/{name}", role)).status == status
            # Of what is created in a collection no name is asked about.
            assert (await jane.call("POST", roles, {"metadata": {"name": "mine"}, "rules": rules})).status == 403
            applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}
            answer = await jane.call(
                "PATCH", f"{MAPS}/new?fieldManager=me", applied, {"Content-Type": "application/apply-patch+yaml"}
            )
            assert answer.status == 201
        assert [one["resourceAttributes"]["verb"] for one in webhook.specs].count("escalate") == 3


# --- the configuration file


def authorizer(name: str, kubeconfig: Path, **more: Any) -> dict[str, Any]:
    webhook = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)},
        **more,
    }
    return {"type": "Webhook", "name": name, "webhook": webhook}


def write_configuration(file: Path, *authorizers: dict[str, Any]) -> AuthorizationOptions:
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": list(authorizers),
    }
    file.write_text(json.dumps(document))
    return AuthorizationOptions(config_file=file)


RBAC = {"type": "RBAC", "name": "rbac"}


async def test_webhooks_of_a_configuration_are_asked_in_turn_where_their_conditions_hold(tmp_path: Path) -> None:
    async with (
        reviewing(tmp_path, lambda spec: {"denied": spec["user"] == "jane"}, name="first") as (first, one),
        reviewing(tmp_path, lambda spec: {"allowed": True}, name="second") as (second, two),
    ):
        condition = "has(request.resourceAttributes) && request.resourceAttributes.resource == 'configmaps'"
        options = write_configuration(
            tmp_path / "authorization.json",
            authorizer("first", one, matchConditions=[{"expression": condition}]),
            RBAC,
            authorizer("second", two),
        )
        async with (
            served(tmp_path, authorization=options) as server,
            http_of(server, tmp_path, "jane") as jane,
            http_of(server, tmp_path, "john") as john,
        ):
            assert [(await jane.call("GET", PODS)).status for _ in range(2)] == [200, 200]
            assert (await jane.call("GET", MAPS)).status == 403
            assert (await john.call("GET", MAPS)).status == 200
        assert [spec["user"] for spec in first.specs] == ["jane", "john"]
        assert [spec["user"] for spec in second.specs] == ["jane", "john"]


async def test_a_condition_that_cannot_tell_is_a_failure(tmp_path: Path) -> None:
    async with reviewing(tmp_path, lambda spec: {"allowed": True}) as (webhook, file):
        broken = [{"expression": "request.resourceAttributes.namespace == 'x'"}]
        options = write_configuration(
            tmp_path / "authorization.json", authorizer("it", file, matchConditions=broken), RBAC
        )
        async with served(tmp_path, authorization=options) as server, http_of(server, tmp_path, "jane") as jane:
            assert (await jane.call("GET", "/version")).status == 500
            assert (await jane.call("GET", "/api/v1/namespaces/x/pods")).status == 200
        assert len(webhook.specs) == 1


async def test_another_configuration_is_in_force_without_a_restart(tmp_path: Path) -> None:
    async with reviewing(tmp_path, lambda spec: {"allowed": True}) as (_, file):
        place = tmp_path / "authorization.json"
        options = write_configuration(place, RBAC)
        async with served(tmp_path, authorization=options) as server, http_of(server, tmp_path, "jane") as jane:
            assert (await jane.call("GET", PODS)).status == 403
            write_configuration(place, RBAC, authorizer("it", file))
            in_force = f"sha256:{hashlib.sha256(place.read_bytes()).hexdigest()}"
            await server.look()
            assert (await jane.call("GET", PODS)).status == 200
            place.write_text("nonsense")
            await server.look()
            assert (await jane.call("GET", PODS)).status == 200
            metrics = server.metrics.render().decode()
    counted = re.findall(r'(authori\w+_automatic_reloads_total){.*status="(\w+)"} (\d+)', metrics)
    total = "authorization_config_controller_automatic_reloads_total"
    assert counted == [(total, "failure", "1"), (total, "success", "1")]
    assert "apiserver_authorization_config_controller_automatic_reload_last_timestamp_seconds{" in metrics
    [digest] = re.findall(r'apiserver_authorization_config_controller_last_config_info{.*,hash="(.*)"} 1', metrics)
    assert digest == in_force


async def test_what_webhooks_answer_and_what_their_conditions_come_to_is_counted(tmp_path: Path) -> None:
    def decide(spec: dict[str, Any]) -> Any:
        return {"allowed": True} if spec["resourceAttributes"]["resource"] == "configmaps" else "nonsense"

    conditions = [
        {"expression": "has(request.resourceAttributes)"},
        {"expression": "request.resourceAttributes.resource != 'secrets'"},
        {"expression": "request.resourceAttributes.resource != 'services' || request.extra['a'][0] == 'b'"},
    ]
    async with reviewing(tmp_path, decide) as (_, file):
        it = authorizer("it", file, matchConditions=conditions)
        options = write_configuration(tmp_path / "authorization.json", it, RBAC)
        async with served(tmp_path, authorization=options) as server, http_of(server, tmp_path, "jane") as jane:
            for plural in ("configmaps", "secrets", "pods"):
                await jane.call("GET", f"/api/v1/namespaces/default/{plural}")
            refused = await may(server, "jane", verb="get", resource="services")
            metrics = server.metrics.render().decode()
    condition = "request.resourceAttributes.resource != 'services' || request.extra['a'][0] == 'b'"
    why = f"expression '{condition}' resulted in error: no such key: a"
    assert refused["evaluationError"] == f"cel evaluation error: {why}"
    counted = dict(re.findall(r"^apiserver_authorization_(\S+) (\d+)$", metrics, re.MULTILINE))
    for series, count in {
        'webhook_evaluations_total{name="it",result="success"}': 1,
        'webhook_evaluations_total{name="it",result="error"}': 1,
        'webhook_duration_seconds_count{name="it",result="error"}': 1,
        'match_condition_exclusions_total{name="it",type="Webhook"}': 1,
        'match_condition_evaluation_errors_total{name="it",type="Webhook"}': 1,
        'match_condition_evaluation_seconds_count{name="it",type="Webhook"}': 4,
    }.items():
        assert counted[series] == str(count), series
