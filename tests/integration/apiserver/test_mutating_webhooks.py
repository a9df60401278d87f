"""MutatingAdmissionWebhook: what webhooks are asked, and what becomes of their patches."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api, config_map, deployment, pod
from tests.integration.apiserver.definitions import DEFINITIONS, crd, define, version
from tests.integration.apiserver.hooks import SCALERS, hooking, registered, scaler, within
from tests.support.admission_webhook import MAPS, PODS, annotate, hooked, patch

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
CONFIGMAPS = "v1/configmaps"


async def test_a_webhook_that_is_stored_is_in_force_for_the_next_request_and_one_that_is_gone_no_more(
    api: Api, cluster: Api
) -> None:
    async with hooking(api, cluster, "Mutating", annotate("seen", "yes")) as hook:
        _, made = await api.create(CONFIGMAPS, config_map("a"))
        assert made["metadata"]["annotations"] == {"seen": "yes"}
    _, made = await api.create(CONFIGMAPS, config_map("b"))
    assert "annotations" not in made["metadata"]
    assert len(hook.requests) == 1


async def test_a_create_is_reviewed_without_what_the_server_sets_later(api: Api, cluster: Api) -> None:
    async with hooking(api, cluster, "Mutating", rule=PODS) as hook:
        status, _ = await api.create("v1/pods", {**pod("x"), "metadata": {"generateName": "x-"}}, fieldManager="me")
        assert status == 201
    [request] = hook.requests
    assert hook.reviews[0]["apiVersion"] == "admission.k8s.io/v1"
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "pods"}
    assert (request["operation"], request["namespace"]) == ("CREATE", api.namespace)
    assert "name" not in request
    assert request["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert request["options"] == {
        "kind": "CreateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "fieldManager": "me",
    }
    assert (request["dryRun"], request["oldObject"]) == (False, None)
    seen = request["object"]
    assert seen["spec"]["serviceAccountName"] == "default", "built-in plugins come first"
    assert seen["metadata"].keys() == {"generateName", "namespace", "managedFields"}


async def test_an_update_brings_both_objects_and_a_patch_the_options_of_an_update(api: Api, cluster: Api) -> None:
    _, made = await api.create(CONFIGMAPS, config_map("a", k="1"))
    async with hooking(api, cluster, "Mutating") as hook:
        status, _ = await api.patch(CONFIGMAPS, "a", {"data": {"k": "2"}})
        assert status == 200
    [request] = hook.requests
    assert (request["operation"], request["name"]) == ("UPDATE", "a")
    assert (request["object"]["data"], request["oldObject"]["data"]) == ({"k": "2"}, {"k": "1"})
    assert request["oldObject"]["metadata"]["managedFields"] == made["metadata"]["managedFields"]
    assert request["options"]["kind"] == "UpdateOptions"


async def test_what_a_webhook_changes_is_defaulted_and_owned_by_nobody(api: Api, cluster: Api) -> None:
    container = {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "proxy:1"}}
    async with hooking(api, cluster, "Mutating", patch(container), rule=PODS):
        status, made = await api.create("v1/pods", pod("x"))
    assert status == 201, made
    assert [one["name"] for one in made["spec"]["containers"]] == ["main", "side"]
    side = made["spec"]["containers"][1]
    assert side["imagePullPolicy"] == "IfNotPresent"
    assert side["volumeMounts"][0]["mountPath"].endswith("serviceaccount"), "built-in plugins look once more"
    owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]
    assert owned.keys() == {'k:{"name":"main"}'}


async def test_bad_managed_fields_of_a_webhook_are_put_back_with_a_warning(api: Api, cluster: Api) -> None:
    broken = {"op": "replace", "path": "/metadata/managedFields/0/operation", "value": "Steal"}
    async with hooking(api, cluster, "Mutating", patch(broken)):
        answer = await api.transport.answer(
            "POST", api.path(CONFIGMAPS), body=b'{"metadata":{"name":"a"},"data":{"k":"v"}}'
        )
    assert answer.status == 201
    warnings = [value for name, value in answer.headers if name == "Warning"]
    assert "managedFields was in an invalid state after admission" in warnings[0]
    assert b'"operation":"Update"' in answer.body


async def test_webhooks_come_by_the_names_of_their_configurations_each_seeing_the_changes_before(
    api: Api, cluster: Api
) -> None:
    async with (
        hooking(api, cluster, "Mutating", annotate("b", "1"), name="order-b") as later,
        hooking(api, cluster, "Mutating", annotate("a", "1"), name="order-a") as earlier,
    ):
        await api.create(CONFIGMAPS, config_map("m"))
    assert "annotations" not in earlier.requests[0]["object"]["metadata"]
    assert later.requests[0]["object"]["metadata"]["annotations"] == {"a": "1"}


async def test_a_webhook_that_wants_it_is_asked_again_when_a_later_one_has_changed_something(
    api: Api, cluster: Api
) -> None:
    async with (
        hooking(api, cluster, "Mutating", annotate("a", "1"), name="again-a", reinvocationPolicy="IfNeeded") as first,
        hooking(api, cluster, "Mutating", annotate("b", "1"), name="again-b") as second,
    ):
        await api.create(CONFIGMAPS, config_map("m"))
        assert (len(first.requests), len(second.requests)) == (2, 1)
        assert first.requests[1]["object"]["metadata"]["annotations"] == {"a": "1", "b": "1"}
        # Nothing changes any more: nobody is asked twice.
        await api.patch(CONFIGMAPS, "m", {"data": {"k": "1"}})
        assert (len(first.requests), len(second.requests)) == (3, 2)


async def test_a_patch_that_cannot_be_applied_is_an_internal_error(api: Api, cluster: Api) -> None:
    gone = {"op": "remove", "path": "/data/none"}
    async with hooking(api, cluster, "Mutating", patch(gone), failurePolicy="Ignore"):
        status, answer = await api.create(CONFIGMAPS, config_map("a"))
    assert (status, answer["reason"]) == (500, "InternalError")


async def test_a_webhook_cannot_make_an_object_of_what_is_deleted(api: Api, cluster: Api) -> None:
    await api.create(CONFIGMAPS, config_map("a"))
    async with hooking(api, cluster, "Mutating", patch({"op": "add", "path": "/data", "value": {}})) as hook:
        status, answer = await api.delete(CONFIGMAPS, "a")
    assert status == 500
    assert 'admission webhook "one.example.com" attempted to modify the object' in answer["message"]
    assert (hook.requests[0]["object"], hook.requests[0]["oldObject"]["metadata"]["name"]) == (None, "a")


async def test_the_status_is_not_changed_through_the_spec_nor_the_spec_through_the_status(
    api: Api, cluster: Api
) -> None:
    rule = {**PODS, "resources": ["pods", "pods/status"]}
    await api.create("v1/pods", pod("x"))
    both = (
        {"op": "add", "path": "/status/message", "value": "m"},
        {"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 7},
    )
    async with hooking(api, cluster, "Mutating", patch(*both), rule=rule) as hook:
        _, changed = await api.patch("v1/pods", "x", {"metadata": {"labels": {"a": "b"}}})
        assert "message" not in changed["status"]
        assert changed["spec"]["activeDeadlineSeconds"] == 7
        _, changed = await api.patch("v1/pods", "x", {"status": {"reason": "r"}}, subresource="status")
        assert changed["status"]["message"] == "m"
    assert [request.get("subResource") for request in hook.requests] == [None, "status"]


async def test_an_object_is_seen_in_the_version_of_the_rule(api: Api, cluster: Api) -> None:
    change = patch({"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 60})
    async with hooking(api, cluster, "Mutating", change, rule=SCALERS) as hook:
        status, made = await api.create("autoscaling/v2/horizontalpodautoscalers", scaler("h"))
    assert status == 201, made
    [request] = hook.requests
    assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
    assert (request["resource"]["version"], request["requestResource"]["version"]) == ("v1", "v2")
    assert request["object"]["apiVersion"] == "autoscaling/v1"
    assert request["object"]["spec"]["targetCPUUtilizationPercentage"] == 50
    assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60


async def test_exact_rules_are_not_for_other_versions(api: Api, cluster: Api) -> None:
    rule = {"apiGroups": ["events.k8s.io"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["events"]}
    event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": api.namespace}, "reason": "r"}
    async with (
        hooking(api, cluster, "Mutating", rule=rule, matchPolicy="Exact", name="exact") as exact,
        hooking(api, cluster, "Mutating", rule=rule, matchPolicy="Equivalent", name="equivalent") as equivalent,
    ):
        status, made = await api.create("v1/events", event)
        assert status == 201, made
    assert not exact.requests
    [request] = equivalent.requests
    assert request["kind"] == {"group": "events.k8s.io", "version": "v1", "kind": "Event"}
    assert request["requestKind"] == {"group": "", "version": "v1", "kind": "Event"}
    assert request["object"]["regarding"] == {"namespace": api.namespace}


async def test_custom_resources_are_seen_in_the_version_of_the_rule_and_patched_there(api: Api, cluster: Api) -> None:
    group = "hooked.example.com"
    await define(cluster, crd("widgets", "Widget", version(), version("v2", storage=False), group=group))
    rule = {"apiGroups": [group], "apiVersions": ["v2"], "operations": ["*"], "resources": ["widgets"]}
    change = patch({"op": "add", "path": "/spec/size", "value": 9}, {"op": "add", "path": "/spec/unknown", "value": 1})
    async with hooking(api, cluster, "Mutating", change, rule=rule) as hook:
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
        status, made = await api.create(f"{group}/v1/widgets", widget)
    assert status == 201, made
    assert hook.requests[0]["object"]["apiVersion"] == f"{group}/v2"
    assert made["apiVersion"] == f"{group}/v1"
    assert made["spec"] == {"size": 9, "color": "blue"}
    await cluster.delete(DEFINITIONS, f"widgets.{group}")


async def test_scaling_is_an_update_of_a_scale(api: Api, cluster: Api) -> None:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments/scale"]}
    await api.create("apps/v1/deployments", deployment("d"))
    async with hooking(
        api, cluster, "Mutating", patch({"op": "replace", "path": "/spec/replicas", "value": 2}), rule=rule
    ) as hook:
        status, scaled = await api.patch("apps/v1/deployments", "d", {"spec": {"replicas": 5}}, subresource="scale")
    assert (status, scaled["spec"]["replicas"]) == (200, 2)
    [request] = hook.requests
    assert (request["kind"]["kind"], request["subResource"]) == ("Scale", "scale")
    assert (request["object"]["spec"], request["oldObject"]["spec"]) == ({"replicas": 5}, {"replicas": 1})


async def test_bindings_evictions_and_tokens_are_reviewed_as_what_they_are(api: Api, cluster: Api) -> None:
    rule = {**PODS, "resources": ["pods/binding", "pods/eviction", "serviceaccounts/token"]}
    await api.create("v1/pods", pod("x"))
    async with hooking(api, cluster, "Mutating", rule=rule) as hook:
        binding = {"metadata": {"name": "x"}, "target": {"kind": "Node", "name": "n"}}
        assert (await api.call("POST", api.path("v1/pods", "x", "binding"), binding))[0] == 201
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "x"}}
        assert (await api.call("POST", api.path("v1/pods", "x", "eviction"), eviction))[0] == 201
        token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        assert (await api.call("POST", api.path("v1/serviceaccounts", "default", "token"), token))[0] == 201
    seen = [(request["kind"]["kind"], request["subResource"], request["operation"]) for request in hook.requests]
    assert seen == [
        ("Binding", "binding", "CREATE"),
        ("Eviction", "eviction", "CREATE"),
        ("TokenRequest", "token", "CREATE"),
    ]


async def test_configurations_of_webhooks_are_not_reviewed(api: Api, cluster: Api) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    async with hooked() as hook:
        webhook = hook.configured("all.example.com", [{**everything, "scope": "Cluster"}])
        async with registered(cluster, "Mutating", webhook), registered(cluster, "Validating", webhook):
            await cluster.create("v1/namespaces", {"metadata": {"name": "of-the-hooks"}})
            await cluster.delete("v1/namespaces", "of-the-hooks")
    kinds = {(request["kind"]["kind"], request["operation"]) for request in hook.requests}
    assert {("Namespace", "CREATE"), ("Namespace", "DELETE")} <= kinds
    assert all(not kind.endswith("Configuration") for kind, _ in kinds)


async def test_a_namespace_is_selected_by_what_it_is_to_be(api: Api, cluster: Api) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["namespaces"]}
    async with hooked() as hook:
        selector = {"matchLabels": {"wanted": "yes"}}
        webhook = hook.configured("spaces.example.com", [rule], namespaceSelector=selector)
        async with registered(cluster, "Mutating", webhook):
            await cluster.patch("v1/namespaces", api.namespace, {"metadata": {"labels": {"wanted": "yes"}}})
            await cluster.patch("v1/namespaces", api.namespace, {"metadata": {"labels": {"wanted": None}}})
    assert [request["object"]["metadata"]["labels"]["wanted"] for request in hook.requests] == ["yes"]
    assert hook.requests[0]["namespace"] == hook.requests[0]["name"] == api.namespace


async def test_the_server_starts_whatever_webhooks_are_stored(server: APIServer, api: Api, cluster: Api) -> None:
    """What the server makes for itself is not reviewed: else it would wait for who cannot start without it."""
    from kubecore.apiserver.bootstrap.reconcile import Bootstrap

    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    nowhere = {"url": "https://127.0.0.1:1/x"}
    webhook = {
        "name": "down.example.com",
        "clientConfig": nowhere,
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    await cluster.delete("scheduling.k8s.io/v1/priorityclasses", "system-node-critical")
    async with registered(cluster, "Validating", webhook):
        assert (await api.create(CONFIGMAPS, config_map("a")))[0] == 500
        await Bootstrap(server.registry).ensure_base()
    status, _ = await cluster.get("scheduling.k8s.io/v1/priorityclasses", "system-node-critical")
    assert status == 200


async def test_a_selected_object_is_reviewed_by_what_it_was_or_is_to_be(api: Api, cluster: Api) -> None:
    labelled = {**config_map("a"), "metadata": {"name": "a", "labels": {"x": "1"}}}
    selector = {"matchLabels": {"x": "1"}}
    async with hooking(api, cluster, "Mutating", objectSelector=selector, rule=MAPS) as hook:
        await api.create(CONFIGMAPS, labelled)
        await api.create(CONFIGMAPS, config_map("b"))
        await api.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"x": "2"}}})
        await api.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"x": "3"}}})
    assert [request["operation"] for request in hook.requests] == ["CREATE", "UPDATE"]
    assert within(api)
