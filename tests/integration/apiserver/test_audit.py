"""What the audit tells of requests, wherever they are answered, as kube-apiserver v1.35 does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.audit.options import AuditOptions, LogOptions, WebhookOptions
from kubecore.apiserver.audit.policy import load
from kubecore.apiserver.authentication.json_web_tokens import parse
from kubecore.apiserver.handlers.writing import Writing
from kubecore.apiserver.server import APIServer
from kubecore.clock import Clock
from tests.support.admission_webhook import MAPS as MAPS_RULE
from tests.support.admission_webhook import hooked, patch
from tests.support.conversion_webhook import ConversionWebhook, serving
from tests.support.review_webhook import kubeconfig

from .conftest import Api
from .hooks import bound, registered
from .http import Http
from .serving import served

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n"
# Of the server's own requests nothing, so that a test's are all there is.
NOT_ITS_OWN = "- {level: None, users: ['system:apiserver']}\n"


@asynccontextmanager
async def audited(
    folder: Path, rules: str, clock: Clock | None = None, grpc_port: int | None = None, **log: Any
) -> AsyncIterator[tuple[Http, APIServer]]:
    """An administrator's requests to a server that writes what `rules` want into `audit.log`, by its end: lines of
    several requests go there together."""
    options = AuditOptions(
        policy=load(HEAD + NOT_ITS_OWN + rules), log=LogOptions(path=str(folder / "audit.log"), **log)
    )
    async with served(folder, clock, audit=options, grpc_port=grpc_port) as server:
        pair = server.issue_client_certificate("admin", ["system:masters"])
        async with Http(server, folder, pair=pair) as http:
            yield http, server


def events(folder: Path, audit_id: str = "") -> list[JSON]:
    lines = (folder / "audit.log").read_bytes().splitlines()
    return [event for event in map(orjson.loads, lines) if audit_id in ("", event["auditID"])]


def stages(folder: Path, audit_id: str) -> list[str]:
    return [event["stage"] for event in events(folder, audit_id)]


def named(audit_id: str, **more: str) -> dict[str, str]:
    return {"Audit-ID": audit_id, **{name.replace("_", "-"): value for name, value in more.items()}}


async def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir()
    with pytest.raises(OSError, match=r"cannot write the audit log .*/audit\.log \(--audit-log-path\): Is a directory"):
        async with audited(tmp_path, "- level: Metadata"):
            pass


async def test_reads_and_writes_are_told_with_who_asked_and_what_came_of_it(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, _):
        await http.call("POST", MAPS, {"metadata": {"name": "a"}, "data": {"k": "secret"}}, named("write"))
        await http.call("GET", f"{MAPS}/a", headers=named("read"))
        await http.call("GET", f"{MAPS}/none", headers=named("lost"))
    assert "secret" not in (tmp_path / "audit.log").read_text()
    write, read, lost = (events(tmp_path, one)[-1] for one in ("write", "read", "lost"))
    assert stages(tmp_path, "write") == stages(tmp_path, "read") == ["RequestReceived", "ResponseComplete"]
    assert (write["kind"], write["apiVersion"], write["level"]) == ("Event", "audit.k8s.io/v1", "Metadata")
    assert write["user"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]} | {
        name: write["user"][name] for name in ("extra",) if name in write["user"]
    }
    assert (write["verb"], write["requestURI"], write["sourceIPs"]) == ("create", MAPS, ["127.0.0.1"])
    reference = {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"}
    assert write["objectRef"] == read["objectRef"] == reference
    assert write["responseStatus"] == {"metadata": {}, "code": 201}
    assert read["annotations"] == {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}
    assert lost["responseStatus"]["reason"] == "NotFound"


PROTOBUF = "application/vnd.kubernetes.protobuf"
NAMESPACE = "/api/v1/namespaces/default"


@pytest.mark.parametrize("accept", ["application/json", PROTOBUF])
async def test_what_is_judged_and_not_stored_is_told_as_any_object(tmp_path: Path, accept: str) -> None:
    authorization = "/apis/authorization.k8s.io/v1"
    asked = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    sent = {
        f"{authorization}/selfsubjectaccessreviews": {"spec": asked},
        f"{authorization}/subjectaccessreviews": {"spec": {**asked, "user": "bob"}},
        f"{authorization}/selfsubjectrulesreviews": {"spec": {"namespace": "default"}},
        "/apis/authentication.k8s.io/v1/tokenreviews": {"spec": {"token": "abc"}},
        "/apis/authentication.k8s.io/v1/selfsubjectreviews": {},
        f"{NAMESPACE}/serviceaccounts/default/token": {"spec": {"audiences": ["a"], "expirationSeconds": 3600}},
    }
    async with audited(tmp_path, "- level: RequestResponse") as (http, _):
        await http.call("POST", f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
        for path, body in sent.items():
            answer = await http.call("POST", path, body, named(path, Accept=accept))
            assert answer.status == 201, path
    for path, body in sent.items():
        told = events(tmp_path, path)[-1]
        assert told["requestObject"].get("spec", {}).items() >= body.get("spec", {}).items(), path
        assert told["responseObject"]["kind"] == told["requestObject"]["kind"], path
        assert told["responseObject"]["status"], path


async def test_the_token_that_is_asked_for_is_told_at_level_request_response_alone(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Request") as (http, _):
        await http.call("POST", f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
        await http.call("POST", f"{NAMESPACE}/serviceaccounts/default/token", {}, named("token"))
    told = events(tmp_path, "token")[-1]
    assert told["requestObject"]["spec"] == {"audiences": None, "expirationSeconds": 3600, "boundObjectRef": None}
    assert "responseObject" not in told


@pytest.mark.parametrize("accept", ["application/json", PROTOBUF])
async def test_what_acts_on_an_object_is_told_with_what_was_sent(tmp_path: Path, accept: str) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    sets = "/apis/apps/v1/namespaces/default/replicasets"
    made = {"metadata": {"name": "r"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    merge = {"Content_Type": "application/merge-patch+json"}
    async with audited(tmp_path, "- level: RequestResponse") as (http, _):
        await http.call("POST", f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
        await http.call("POST", f"{NAMESPACE}/pods", {**template, "metadata": {"name": "p"}})
        await http.call("POST", sets, made)
        bound, evicted = {"target": {"kind": "Node", "name": "n"}}, {"deleteOptions": {"gracePeriodSeconds": 0}}
        for action, body, method, path, more in (
            ("bind", {"metadata": {"name": "p"}, **bound}, "POST", f"{NAMESPACE}/pods/p/binding", {}),
            ("evict", {"metadata": {"name": "p"}, **evicted}, "POST", f"{NAMESPACE}/pods/p/eviction", {}),
            ("put", {"metadata": {"name": "r"}, "spec": {"replicas": 2}}, "PUT", f"{sets}/r/scale", {}),
            ("patch", {"spec": {"replicas": 3}}, "PATCH", f"{sets}/r/scale", merge),
        ):
            answer = await http.call(method, path, body, named(action, Accept=accept, **more))
            assert answer.status < 300, (action, answer.status)
    bind, evict, put, patched = (events(tmp_path, one)[-1] for one in ("bind", "evict", "put", "patch"))
    assert (bind["requestObject"]["target"]["name"], evict["requestObject"]["deleteOptions"]) == (
        "n",
        evicted["deleteOptions"],
    )
    for one in (bind, evict):
        assert one["responseStatus"] == {"metadata": {}, "status": "Success", "code": 201}
        assert one["responseObject"]["kind"] == "Status"
    assert (put["requestObject"]["kind"], put["requestObject"]["spec"]) == ("Scale", {"replicas": 2})
    assert (put["responseObject"]["kind"], put["responseObject"]["spec"]) == ("Scale", {"replicas": 2})
    assert patched["requestObject"] == {"spec": {"replicas": 3}}
    assert patched["responseObject"]["spec"] == {"replicas": 3}


async def test_a_deletion_is_told_with_its_outcome_in_whatever_form_it_is_answered(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, _):
        made = await http.call("POST", MAPS, {"metadata": {"name": "a"}})
        await http.call("DELETE", f"{MAPS}/a", headers=named("delete", Accept=PROTOBUF))
    details = {"name": "a", "kind": "configmaps", "uid": made.json["metadata"]["uid"]}
    told = events(tmp_path, "delete")[-1]["responseStatus"]
    assert told == {"metadata": {}, "status": "Success", "details": details, "code": 200}


async def test_a_path_that_nothing_is_at_is_told_by_its_code_alone(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: RequestResponse") as (http, _):
        answer = await http.call("GET", "/apis/foo/v1/bars", headers=named("nothing"))
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
    told = events(tmp_path, "nothing")[-1]
    assert told["responseStatus"] == {"metadata": {}, "code": 404}
    assert "responseObject" not in told


async def test_objects_are_told_at_the_levels_for_that(tmp_path: Path) -> None:
    rules = (
        "- {level: RequestResponse, resources: [{resources: [configmaps]}], omitManagedFields: true}\n- level: Request"
    )
    async with audited(tmp_path, rules) as (http, _):
        await http.call("POST", MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, named("create"))
        await http.call("GET", MAPS, headers=named("list"))
        patch = {"data": {"k": "w"}}
        merge = named("patch", Content_Type="application/merge-patch+json")
        await http.call("PATCH", f"{MAPS}/a", patch, merge)
        secrets = "/api/v1/namespaces/default/secrets"
        await http.call("POST", secrets, {"metadata": {"name": "s"}, "stringData": {"k": "v"}}, named("secret"))
    created, listed, patched = (events(tmp_path, one)[-1] for one in ("create", "list", "patch"))
    assert created["requestObject"]["data"] == {"k": "v"}
    assert created["responseObject"]["metadata"]["uid"]
    assert "managedFields" not in created["responseObject"]["metadata"]
    assert [one["metadata"]["name"] for one in listed["responseObject"]["items"]][-1:] != []
    assert patched["requestObject"] == patch
    assert "responseObject" not in events(tmp_path, "secret")[-1]


async def test_a_watch_is_told_when_it_starts_and_when_it_ends(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, _):
        answer = await http.call("GET", f"{MAPS}?watch=true&timeoutSeconds=1", headers=named("watch"))
        assert answer.status == 200
    assert stages(tmp_path, "watch") == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


async def test_who_may_not_and_who_is_nobody_is_told(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, server):
        await http.call("GET", MAPS, headers=named("as", Impersonate_User="bob"))
        async with Http(server, tmp_path, token="wrong") as nobody:
            assert (await nobody.call("GET", MAPS, headers=named("nobody"))).status == 401
    forbidden = events(tmp_path, "as")[-1]
    assert (forbidden["user"]["username"], forbidden["impersonatedUser"]["username"]) == ("admin", "bob")
    assert forbidden["responseStatus"]["code"] == 403
    assert forbidden["annotations"]["authorization.k8s.io/decision"] == "forbid"
    told = events(tmp_path, "nobody")
    assert [one["stage"] for one in told] == ["ResponseStarted"]
    refused = {"status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401, "metadata": {}}
    assert (told[-1]["user"], told[-1]["responseStatus"]) == ({}, refused)


async def test_why_somebody_may_not_is_told_whoever_says_so(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (_, server):
        pair = server.issue_client_certificate("system:node:n", ["system:nodes"])
        async with Http(server, tmp_path, pair=pair) as node:
            assert (await node.call("GET", "/api/v1/namespaces/default/secrets", headers=named("node"))).status == 403
            answer = await node.call("GET", MAPS, headers=named("as", Impersonate_User="bob"))
            assert answer.status == 403
    annotations = events(tmp_path, "node")[-1]["annotations"]
    assert annotations["authorization.k8s.io/decision"] == "forbid"
    assert annotations["authorization.k8s.io/reason"] == "No Object name found"
    # Whether the request itself is allowed has not been asked.
    assert "annotations" not in events(tmp_path, "as")[-1]


async def test_the_object_of_an_update_that_creates_is_told(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Request") as (http, _):
        role = {"metadata": {"name": "r"}, "rules": []}
        path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/r"
        assert (await http.call("PUT", path, role, headers=named("new"))).status == 201
        assert (await http.call("PUT", f"{MAPS}/none", {"metadata": {"name": "none"}}, named("none"))).status == 404
    for audit_id in ("new", "none"):
        assert "metadata" in events(tmp_path, audit_id)[-1]["requestObject"]


async def test_refusals_in_protobuf_are_told_too(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: RequestResponse") as (_, server):
        eve = Http(server, tmp_path, pair=server.issue_client_certificate("eve"))
        async with eve:
            headers = named("eve", Accept="application/vnd.kubernetes.protobuf")
            assert (await eve.call("GET", MAPS, headers=headers)).status == 403
    told = events(tmp_path, "eve")[-1]
    assert told["responseStatus"]["reason"] == told["responseObject"]["reason"] == "Forbidden"


async def test_a_request_with_a_timeout_that_is_none_is_told_whoever_asks(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, _):
        assert (await http.call("GET", f"{MAPS}?timeout=soon", headers=named("soon"))).status == 400
    (told,) = events(tmp_path, "soon")
    assert (told["stage"], told["user"], told["responseStatus"]["code"]) == ("ResponseStarted", {}, 400)
    assert told["responseStatus"]["message"].startswith("invalid timeout specified in the request URL")
    assert told["responseStatus"]["reason"] == "BadRequest"


async def test_what_admission_has_to_say_is_annotated(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, _):
        await http.call("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        spec = {"containers": [{"name": "c", "image": "i"}]}
        made = {"metadata": {"name": "p"}, "spec": spec}
        await http.call("POST", "/api/v1/namespaces/default/pods", made, named("pod"))
    annotations = events(tmp_path, "pod")[-1]["annotations"]
    assert annotations["pod-security.kubernetes.io/enforce-policy"] == "privileged:latest"


@pytest.mark.parametrize("level", ["Metadata", "Request"])
async def test_what_webhooks_say_and_change_is_annotated(tmp_path: Path, level: str) -> None:
    def change(request: JSON) -> JSON:
        changed: JSON = patch({"op": "add", "path": "/data/more", "value": "x"})(request)
        return {**changed, "auditAnnotations": {"seen": "yes", "no key": "x", "a/b": "x", "": "x"}}

    async with audited(tmp_path, f"- level: {level}") as (http, server), hooked(change) as hook:
        cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
        gone = hook.configured("gone.example.com", [MAPS_RULE], failurePolicy="Ignore")
        gone["clientConfig"] = {"url": "https://127.0.0.1:1/"}
        webhooks = registered(cluster, "Mutating", hook.configured("one.example.com", [MAPS_RULE]), gone, name="hooks")
        async with webhooks:
            await http.call("POST", MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, named("create"))
    told = events(tmp_path, "create")[-1]["annotations"]
    assert {key: value for key, value in told.items() if key.startswith("one.")} == {"one.example.com/seen": "yes"}
    mutation, changed = (told.get(f"{name}.webhook.admission.k8s.io/round_0_index_0") for name in ("mutation", "patch"))
    whose = {"configuration": "hooks", "webhook": "one.example.com"}
    assert orjson.loads(mutation) == {**whose, "mutated": True}
    if level == "Request":
        operations = [{"op": "add", "path": "/data/more", "value": "x"}]
        assert orjson.loads(changed) == {**whose, "patch": operations, "patchType": "JSONPatch"}
    else:
        # What a webhook puts into an object is part of it.
        assert changed is None
    assert told["failed-open.mutation.webhook.admission.k8s.io/round_0_index_1"] == "gone.example.com"


async def test_what_is_annotated_in_json_is_escaped_as_go_does(tmp_path: Path) -> None:
    """Tools look for the very text: `<`, `>` and `&` by their numbers, members of a patch in order."""
    operation = {"value": "a&b", "path": "/data/more", "op": "add"}
    spec = {
        "matchConstraints": {"resourceRules": [{**MAPS_RULE, "scope": "*"}]},
        "validations": [{"expression": "object.data.size() > 5"}],
        "auditAnnotations": [{"key": "size", "valueExpression": "'<' + string(object.data.size()) + '>'"}],
    }
    policies = "admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    async with audited(tmp_path, "- level: Request") as (http, server), hooked(patch(operation)) as hook:
        cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
        webhooks = registered(cluster, "Mutating", hook.configured("one.example.com", [MAPS_RULE]), name="hooks")
        async with bound(cluster, policies, "few", spec, {"validationActions": ["Audit"]}), webhooks:
            await http.call("POST", MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, named("create"))
    told = events(tmp_path, "create")[-1]["annotations"]
    assert told["validation.policy.admission.k8s.io/validation_failure"] == (
        '[{"message":"failed expression: object.data.size() \\u003e 5","policy":"few","binding":"few-bound",'
        '"expressionIndex":0,"validationActions":["Audit"]}]'
    )
    assert told["patch.webhook.admission.k8s.io/round_0_index_0"] == (
        '{"configuration":"hooks","webhook":"one.example.com",'
        '"patch":[{"op":"add","path":"/data/more","value":"a\\u0026b"}],"patchType":"JSONPatch"}'
    )
    assert told["few/size"] == "<2>"


async def test_a_token_that_is_issued_is_told_by_its_id(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, _):
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        await http.call("POST", accounts, {"metadata": {"name": "default"}})
        answer = await http.call("POST", f"{accounts}/default/token", {}, named("token"))
    told = events(tmp_path, "token")[-1]["annotations"]["authentication.kubernetes.io/issued-credential-id"]
    assert told == f"JTI={parse(answer.json['status']['token']).claims['jti']}"


async def test_requests_within_the_process_are_told_too(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: RequestResponse") as (_, server):
        transport = server.transport(username="controller", groups=["system:masters"])
        await transport.request("GET", "/api/v1/namespaces/default")
    told = [one for one in events(tmp_path) if one["user"]["username"] == "controller"]
    assert [one["stage"] for one in told] == ["RequestReceived", "ResponseComplete"]
    assert told[1]["responseObject"]["metadata"]["name"] == "default"


@pytest.mark.parametrize("within", [False, True], ids=["over TLS", "within the process"])
async def test_a_failure_of_our_own_is_told_as_a_panic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    """In place of the end, and of what is answered."""

    async def fail(*asked: object) -> None:
        raise ZeroDivisionError("of what?")

    monkeypatch.setattr(Writing, "update", fail)
    async with audited(tmp_path, "- level: RequestResponse") as (http, server):
        if within:
            transport = server.transport(username="jane", groups=["system:masters"])
            code = (await transport.request("PUT", f"{MAPS}/a", body=b"{}"))[0]
        else:
            code = (await http.call("PUT", f"{MAPS}/a", {})).status
    assert code == 500
    told = [one for one in events(tmp_path) if one["verb"] == "update" and one["user"]["username"] in ("jane", "admin")]
    assert [one["stage"] for one in told] == ["RequestReceived", "Panic"]
    assert "responseObject" not in told[1]
    assert told[1]["responseStatus"] == {
        "metadata": {},
        "status": "Failure",
        "message": "APIServer panic'd: ZeroDivisionError: of what?",
        "reason": "InternalError",
        "code": 500,
    }


async def test_stages_and_requests_that_nobody_wants_are_left_out(tmp_path: Path) -> None:
    rules = "- {level: None, verbs: [get]}\n- {level: Metadata, omitStages: [RequestReceived]}"
    async with audited(tmp_path, rules) as (http, _):
        await http.call("GET", f"{MAPS}/none", headers=named("get"))
        await http.call("GET", MAPS, headers=named("list"))
    assert (stages(tmp_path, "get"), stages(tmp_path, "list")) == ([], ["ResponseComplete"])


async def test_in_mode_batch_all_is_written_by_the_end(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata", mode="batch") as (http, _):
        for number in range(20):
            await http.call("GET", MAPS, headers=named(str(number)))
    assert all(stages(tmp_path, str(number)) for number in range(20))


@pytest.mark.parametrize("mode", ["blocking", "batch"])
async def test_events_that_are_too_large_are_written_without_their_objects_or_not_at_all(
    tmp_path: Path, mode: str
) -> None:
    async with audited(tmp_path, "- level: Request", mode=mode, event_bytes=1500) as (http, _):
        for name, size in (("small", 10), ("large", 2000)):
            body = {"metadata": {"name": name}, "data": {"k": "x" * size}}
            assert (await http.call("POST", MAPS, body, named(name))).status == 201
        await http.call("GET", f"{MAPS}?labelSelector={'a' * 1500}", headers=named("lost"))
        metrics = (await http.call("GET", "/metrics")).body.decode()
    whole, cut = (events(tmp_path, name)[-1] for name in ("small", "large"))
    assert whole["requestObject"]["data"] == {"k": "x" * 10}
    assert "requestObject" not in cut
    assert cut["annotations"]["audit.k8s.io/truncated"] == "true"
    assert cut["objectRef"]["name"] == "large"
    assert stages(tmp_path, "lost") == []
    if mode == "blocking":
        assert 'apiserver_audit_error_total{plugin="log"} 2' in metrics


@pytest.mark.parametrize(("mode", "code"), [("blocking", 201), ("blocking-strict", 500)])
async def test_a_request_that_cannot_be_told_is_refused_where_the_audit_is_strict(
    tmp_path: Path, mode: str, code: int
) -> None:
    policy = load(HEAD + "- {level: Metadata, resources: [{group: '', resources: [configmaps]}]}\n- level: None\n")
    # A device that is always full.
    options = AuditOptions(policy=policy, log=LogOptions(path="/dev/full", mode=mode))
    async with served(tmp_path, audit=options) as server:
        pair = server.issue_client_certificate("admin", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            answer = await http.call("POST", MAPS, {"metadata": {"name": "a"}})
            assert answer.status == code
            assert (await http.call("GET", f"{MAPS}/a")).status == (200 if code == 201 else 500)
            assert (await http.call("GET", "/api/v1/namespaces")).status == 200, "nobody wants to be told of that"
            metrics = (await http.call("GET", "/metrics")).body.decode()
    assert f"apiserver_audit_requests_rejected_total {0 if code == 201 else 2}\n" in metrics
    if code == 500:
        assert answer.json["message"].endswith("failed to store audit event")


def listening() -> tuple[ConversionWebhook, list[JSON]]:
    """And what it is sent."""
    lists: list[JSON] = []

    def take(sent: JSON) -> JSON:
        lists.append(sent)
        return {}

    return ConversionWebhook(answer=take), lists


async def test_a_webhook_gets_events_in_lists(tmp_path: Path) -> None:
    webhook, lists = listening()
    async with serving(webhook):
        file = kubeconfig(tmp_path, webhook)
        hook = WebhookOptions(config_file=file, batch=2, wait=0.05)
        options = AuditOptions(policy=load(f"{HEAD}{NOT_ITS_OWN}- level: Metadata"), webhook=hook)
        async with served(tmp_path, audit=options) as server:
            pair = server.issue_client_certificate("admin", ["system:masters"])
            async with Http(server, tmp_path, pair=pair) as http:
                await http.call("GET", MAPS, headers=named("one"))
    told = [event for one in lists for event in one["items"] if event["auditID"] == "one"]
    assert [event["stage"] for event in told] == ["RequestReceived", "ResponseComplete"]
    assert lists[0]["kind"] == "EventList"


async def test_events_that_wait_for_a_full_batch_are_sent_when_the_server_ends(tmp_path: Path) -> None:
    webhook, lists = listening()
    async with serving(webhook):
        hook = WebhookOptions(config_file=kubeconfig(tmp_path, webhook), wait=3600.0)
        options = AuditOptions(policy=load(f"{HEAD}{NOT_ITS_OWN}- level: Metadata"), webhook=hook)
        async with served(tmp_path, audit=options) as server:
            pair = server.issue_client_certificate("admin", ["system:masters"])
            async with Http(server, tmp_path, pair=pair) as http:
                await http.call("GET", MAPS, headers=named("one"))
            # What is under way now has been taken for a batch.
            await asyncio.sleep(0)
        assert [len(one["items"]) for one in lists] == [2]


async def test_without_a_policy_nothing_is_written(tmp_path: Path) -> None:
    options = AuditOptions(log=LogOptions(path=str(tmp_path / "audit.log")))
    async with served(tmp_path, audit=options) as server:
        pair = server.issue_client_certificate("admin", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            assert (await http.call("GET", MAPS)).status == 200
    assert not (tmp_path / "audit.log").exists()
