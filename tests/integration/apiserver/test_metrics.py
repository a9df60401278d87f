"""What `/metrics` tells of admission, authentication, authorization and aggregation, under Kubernetes' names."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubecore.apiserver.authorization.options import AuthorizationOptions, WebhookOptions
from kubecore.apiserver.server import APIServer
from tests.support.admission_webhook import MAPS
from tests.support.review_webhook import reviewing

from .conftest import Api, config_map, pod
from .definitions import DEFINITIONS, crd, define, gone, version, widget
from .hooks import bound, hooking, within
from .http import Http
from .serving import served

JSON = dict[str, Any]
_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Told:
    """The series of one scrape."""

    def __init__(self, text: str) -> None:
        found = [match for line in text.splitlines() if (match := _SERIES.match(line))]
        self._series = [
            (name, dict(_LABEL.findall(labels or "")), float(value))
            for name, labels, value in (one.groups() for one in found)
        ]

    def sum(self, metric: str, /, **labels: str) -> float:
        """Of all series with these labels, whatever others they have."""
        return sum(value for found, own, value in self._series if found == metric and labels.items() <= own.items())

    def labels(self, metric: str, /, **labels: str) -> list[JSON]:
        return [own for found, own, _ in self._series if found == metric and labels.items() <= own.items()]


async def scraped(server: APIServer, folder: Path) -> Told:
    async with Http(server, folder, pair=server.issue_client_certificate("scraper", ["system:masters"])) as http:
        return Told((await http.call("GET", "/metrics")).body.decode())


async def admins(server: APIServer, name: str) -> tuple[Api, Api]:
    """In a namespace, and at the cluster's scope."""
    transport = server.transport(username="admin", groups=["system:masters"])
    cluster, api = Api(transport, ""), Api(transport, name)
    assert (await cluster.create("v1/namespaces", {"metadata": {"name": name}}))[0] == 201
    assert (await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}}))[0] == 201
    return api, cluster


ADMISSION = "apiserver_admission"


async def test_each_step_of_admission_and_each_plugin_is_timed(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "timed")
        before = await scraped(server, tmp_path)
        assert (await api.create("v1/pods", pod("a")))[0] == 201
        assert (await api.delete("v1/pods", "a"))[0] == 200
        after = await scraped(server, tmp_path)

    def more(metric: str, /, **labels: str) -> float:
        return after.sum(metric, **labels) - before.sum(metric, **labels)

    step, plugin = f"{ADMISSION}_step_admission_duration_seconds", f"{ADMISSION}_controller_admission_duration_seconds"
    for kind in ("admit", "validate"):
        assert more(f"{step}_count", type=kind, operation="CREATE", rejected="false") == 1
    assert more(f"{step}_count", type="validate", operation="DELETE", rejected="false") == 1
    for name, kind in (("ServiceAccount", "admit"), ("PodSecurity", "validate"), ("ResourceQuota", "validate")):
        assert more(f"{plugin}_count", name=name, type=kind, operation="CREATE", rejected="false") == 1, name
    plugins = more(f"{plugin}_sum", type="admit", operation="CREATE")
    assert 0 < plugins <= more(f"{step}_sum", type="admit", operation="CREATE") + 1e-9


async def test_who_refuses_is_told_and_so_is_its_step(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "refused")
        before = await scraped(server, tmp_path)
        status, _ = await api.create("v1/pods", pod("a", serviceAccountName="nobody"))
        assert status == 403
        after = await scraped(server, tmp_path)
    labels = {"type": "admit", "operation": "CREATE", "rejected": "true"}
    for name, more in (("controller", {"name": "ServiceAccount"}), ("step", {})):
        counted = f"{ADMISSION}_{name}_admission_duration_seconds_count"
        assert after.sum(counted, **labels, **more) - before.sum(counted, **labels, **more) == 1


async def test_an_update_that_changes_nothing_has_come_through_its_steps(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "unchanged")
        _, made = await api.create("v1/configmaps", config_map("a"))
        assert (await api.update("v1/configmaps", made))[0] == 200
        told = await scraped(server, tmp_path)
    for kind in ("admit", "validate"):
        counted = f"{ADMISSION}_step_admission_duration_seconds_count"
        assert told.sum(counted, type=kind, operation="UPDATE", rejected="false") >= 1, kind


async def test_webhooks_are_timed_and_their_refusals_and_failures_counted(tmp_path: Path) -> None:
    def refuse(request: JSON) -> JSON:
        return {"allowed": False, "status": {"code": 418, "message": "no"}}

    def fail(request: JSON) -> Any:
        return web.Response(status=500, text="broken")

    async with served(tmp_path) as server:
        api, cluster = await admins(server, "hooks")
        async with hooking(api, cluster, "Mutating", name="fine"):
            assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
        async with hooking(api, cluster, "Validating", refuse, name="refusing"):
            assert (await api.create("v1/configmaps", config_map("b")))[0] == 418
        async with hooking(api, cluster, "Validating", fail, name="open", failurePolicy="Ignore"):
            assert (await api.create("v1/configmaps", config_map("c")))[0] == 201
        async with hooking(api, cluster, "Mutating", fail, name="closed"):
            assert (await api.create("v1/configmaps", config_map("d")))[0] == 500
        told = await scraped(server, tmp_path)
    asked = f"{ADMISSION}_webhook_request_total"
    for name, kind, code, rejected in (
        ("fine", "admit", "200", "false"),
        ("refusing", "validating", "418", "true"),
        ("open", "validating", "500", "false"),
        ("closed", "admit", "500", "true"),
    ):
        labels = {"name": f"{name}.example.com", "type": kind, "operation": "CREATE", "rejected": rejected}
        assert told.sum(asked, code=code, **labels) == 1, told.labels(asked)
        assert told.sum(f"{ADMISSION}_webhook_admission_duration_seconds_count", **labels) == 1, name
    rejections = f"{ADMISSION}_webhook_rejection_count"
    found = {(one["name"], one["error_type"], one["rejection_code"]) for one in told.labels(rejections)}
    assert found == {
        ("refusing.example.com", "no_error", "418"),
        ("closed.example.com", "calling_webhook_error", "500"),
    }
    assert told.labels(f"{ADMISSION}_webhook_fail_open_count") == [{"name": "open.example.com", "type": "validating"}]
    plugin = f"{ADMISSION}_controller_admission_duration_seconds_count"
    assert told.sum(plugin, name="ValidatingAdmissionWebhook", operation="CREATE", rejected="true") == 1
    assert told.sum(plugin, name="MutatingAdmissionWebhook", operation="CREATE", rejected="false") == 1


async def test_a_webhook_that_its_conditions_leave_out_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, cluster = await admins(server, "conditions")
        conditions = [{"name": "never", "expression": "object.metadata.name != 'a'"}]
        async with hooking(api, cluster, "Validating", matchConditions=conditions) as hook:
            assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
            assert not hook.requests
        told = await scraped(server, tmp_path)
    labels = {"name": "one.example.com", "kind": "webhook", "type": "validating", "operation": "CREATE"}
    assert told.sum(f"{ADMISSION}_match_condition_exclusions_total", **labels) == 1
    assert told.sum(f"{ADMISSION}_match_condition_evaluation_seconds_count", **labels) == 1


async def test_what_policies_find_is_told_by_policy_binding_and_action(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, cluster = await admins(server, "policies")
        spec = {"matchConstraints": {"resourceRules": [MAPS]}, "validations": [{"expression": "false"}]}
        binding = {"validationActions": ["Warn", "Audit"], "matchResources": {"namespaceSelector": within(api)}}
        async with bound(cluster, "admissionregistration.k8s.io/v1/validatingadmissionpolicies", "p", spec, binding):
            assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
        told = await scraped(server, tmp_path)
    name = "apiserver_validating_admission_policy_check"
    for action in ("warn", "audit"):
        labels = {"policy": "p", "policy_binding": "p-bound", "error_type": "invalid_error"}
        assert told.sum(f"{name}_total", enforcement_action=action, **labels) == 1
        assert told.sum(f"{name}_duration_seconds_count", enforcement_action=action, **labels) == 1


async def test_pod_security_tells_what_it_has_decided(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, cluster = await admins(server, "secure")
        assert (await api.create("v1/pods", pod("a")))[0] == 201
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit")}
        labels["pod-security.kubernetes.io/enforce-version"] = "v1.30"
        assert (await cluster.patch("v1/namespaces", "secure", {"metadata": {"labels": labels}}))[0] == 200
        assert (await api.create("v1/pods", pod("b")))[0] == 403
        told = await scraped(server, tmp_path)
    name = "pod_security_evaluations_total"
    of_pods = {"request_operation": "create", "resource": "pod", "subresource": ""}
    for labels in (
        {"decision": "allow", "policy_level": "privileged", "policy_version": "latest", "mode": "enforce"},
        {"decision": "deny", "policy_level": "restricted", "policy_version": "v1.30", "mode": "enforce"},
        {"decision": "deny", "policy_level": "restricted", "policy_version": "latest", "mode": "audit"},
    ):
        assert told.sum(name, **labels, **of_pods) == 1, told.labels(name)
    assert told.labels("pod_security_exemptions_total"), "told from the start"


async def test_who_was_known_and_who_was_allowed_is_counted(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        before = await scraped(server, tmp_path)
        async with Http(server, tmp_path, pair=server.issue_client_certificate("jane@example.com")) as jane:
            assert (await jane.call("GET", "/api")).status == 200
            assert (await jane.call("GET", "/api/v1/pods")).status == 403
        async with Http(server, tmp_path, token="bad") as bad:
            assert (await bad.call("GET", "/api")).status == 401
        after = await scraped(server, tmp_path)

    def more(metric: str, /, **labels: str) -> float:
        return after.sum(metric, **labels) - before.sum(metric, **labels)

    assert more("authenticated_user_requests", username="email_id") == 2
    assert more("authentication_attempts", result="error") == 1
    assert more("authentication_duration_seconds_count", result="error") == 1
    # The second scrape is one, too.
    assert more("authentication_attempts", result="success") == 3
    assert more("authorization_attempts_total", result="allowed") == 2
    assert more("authorization_attempts_total", result="no-opinion") == 1
    assert more("authorization_duration_seconds_count", result="no-opinion") == 1


async def test_what_each_mode_decides_is_counted_whether_here_or_in_rust(tmp_path: Path) -> None:
    decisions = "apiserver_authorization_decisions_total"
    node = "/api/v1/nodes/own"
    async with served(tmp_path) as server:
        async with Http(server, tmp_path, pair=server.issue_client_certificate("jane")) as jane:
            assert (await jane.call("GET", "/api")).status == 200
            assert (await jane.call("GET", node)).status == 403
        before = await scraped(server, tmp_path)
        kubelet = server.issue_client_certificate("system:node:own", ["system:nodes"])
        async with Http(server, tmp_path, pair=kubelet) as own:
            assert (await own.call("GET", node)).status == 404
        after = await scraped(server, tmp_path)
    rbac, of_nodes = ({"type": name, "name": name.lower(), "decision": "allowed"} for name in ("RBAC", "Node"))
    # Nobody decides what those of system:masters may, and that nobody has an opinion is none.
    assert before.sum(decisions, **rbac) >= 1
    assert after.sum(decisions, **rbac) == before.sum(decisions, **rbac)
    assert after.sum(decisions, **of_nodes) == before.sum(decisions, **of_nodes) + 1
    assert not after.labels(decisions, decision="denied")


async def test_metrics_are_counted_by_how_stable_they_are(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as server,
        Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http,
    ):
        text = (await http.call("GET", "/metrics")).body.decode()
    told = Told(text)
    for level in ("ALPHA", "BETA", "STABLE"):
        of_level = [line for line in text.splitlines() if re.match(rf"# HELP \S+ \[{level}\]", line)]
        assert told.sum("registered_metrics_total", stability_level=level) == len(of_level) > 0
    assert {"stability_level": "BETA", "deprecated_version": ""} in told.labels("registered_metrics_total")


async def test_certificates_bodies_and_failed_handshakes_are_counted(tmp_path: Path) -> None:
    maps = "/api/v1/namespaces/default/configmaps"
    async with served(tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        before = await scraped(server, tmp_path)
        for said in (b"\x16\x03\x01\x00\x05hello", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            await reader.read()
            writer.close()
        root = server.issue_client_certificate("root", ["system:masters"])
        async with Http(server, tmp_path, pair=root) as http:
            assert (await http.call("POST", maps, config_map("a"))).status == 201
            assert (await http.call("DELETE", f"{maps}/a")).status == 200
            assert (await http.call("POST", "/apis/made.up/v1/things", {})).status == 404
        after = await scraped(server, tmp_path)

    def more(metric: str, /, **labels: str) -> float:
        return after.sum(f"apiserver_{metric}", **labels) - before.sum(f"apiserver_{metric}", **labels)

    # Who speaks plain HTTP is told so.
    assert more("tls_handshake_errors_total") == 1
    # The second scrape is one, too.
    assert more("client_certificate_expiration_seconds_count") == 4
    assert more("client_certificate_expiration_seconds_bucket", le="0") == 0
    for verb in ("create", "delete"):
        assert more("request_body_size_bytes_count", group="", resource="configmaps", verb=verb) == 1
    assert more("request_body_size_bytes_count") == 2


async def test_tokens_that_others_know_are_counted_as_they_are_found(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        before = await scraped(server, tmp_path)
        async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as root:
            acting = {"Impersonate-User": "jane"}
            assert (await root.call("GET", "/api/v1/pods", headers=acting)).status == 403
            assert (await root.call("GET", "/api", headers=acting)).status == 200
        after = await scraped(server, tmp_path)
    for result, count in (("allowed", 2), ("no-opinion", 1)):
        name = "authorization_attempts_total"
        assert after.sum(name, result=result) - before.sum(name, result=result) == count, result


async def test_refused_impersonation_is_no_attempt_of_the_request(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        before = await scraped(server, tmp_path)
        async with Http(server, tmp_path, pair=server.issue_client_certificate("jane@example.com")) as jane:
            assert (await jane.call("GET", "/api", headers={"Impersonate-User": "admin"})).status == 403
            assert (await jane.call("GET", "/api", headers={"Impersonate-Group": "admins"})).status == 400
        after = await scraped(server, tmp_path)

    def more(metric: str, /, **labels: str) -> float:
        return after.sum(metric, **labels) - before.sum(metric, **labels)

    assert more("authenticated_user_requests", username="email_id") == 2
    # The second scrape is the only one.
    assert more("authorization_attempts_total") == more("authorization_attempts_total", result="allowed") == 1


@pytest.mark.parametrize("seconds", [60.0, 0.0])
async def test_what_a_webhook_decides_is_counted_as_it_says(tmp_path: Path, seconds: float) -> None:
    """Whether its word is remembered, and then found by the front, or not."""
    codes = {"allowed": 200, "denied": 403, "no-opinion": 403, "error": 500}

    def decided(spec: JSON) -> Any:
        user = spec["user"]
        if user == "error":
            return web.Response(status=403)
        return {"allowed": user == "allowed", "denied": user == "denied"}

    async with reviewing(tmp_path, decided) as (_, file):
        webhook = WebhookOptions(config_file=file, version="v1", authorized_ttl=seconds, unauthorized_ttl=seconds)
        options = AuthorizationOptions(webhook=webhook)
        async with served(tmp_path, authorization_modes=("RBAC", "Webhook"), authorization=options) as server:
            before = await scraped(server, tmp_path)
            for user, code in codes.items():
                async with Http(server, tmp_path, pair=server.issue_client_certificate(user)) as http:
                    for _ in range(2):
                        assert (await http.call("GET", "/api/v1/pods")).status == code
            after = await scraped(server, tmp_path)
    for result in codes:
        for name in ("authorization_attempts_total", "authorization_duration_seconds_count"):
            scrapes = 1 if result == "allowed" else 0
            assert after.sum(name, result=result) - before.sum(name, result=result) == 2 + scrapes, result
    for decision in ("allowed", "denied"):
        labels = {"type": "Webhook", "name": "default", "decision": decision}
        assert after.sum("apiserver_authorization_decisions_total", **labels) == 2


async def test_apiservices_are_told_with_whether_they_are_available(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        _, cluster = await admins(server, "aggregated")
        spec = {
            "group": "example.com",
            "version": "v1",
            "service": {"namespace": "aggregated", "name": "nobody"},
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
        }
        made = {"metadata": {"name": "v1.example.com"}, "spec": spec}
        assert (await cluster.create("apiregistration.k8s.io/v1/apiservices", made))[0] == 201
        told = await scraped(server, tmp_path)
    name = "aggregator_unavailable_apiservice"
    assert told.sum(name, name="v1.example.com") == 1
    assert told.labels(name, name="v1.apps")
    assert told.sum(name) == 1


async def test_stored_objects_are_counted_by_resource_and_the_build_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, cluster = await admins(server, "counted")
        await define(cluster, crd("gadgets", "Gadget"))
        for name in ("a", "b"):
            assert (await api.create("v1/configmaps", config_map(name)))[0] == 201
        gadget = {**widget("a"), "kind": "Gadget"}
        assert (await api.create("example.com/v1/gadgets", gadget))[0] == 201
        told = await scraped(server, tmp_path)
        maps = len((await cluster.list("v1/configmaps"))[1]["items"])
        await cluster.delete(DEFINITIONS, "gadgets.example.com")
        await gone(cluster, "gadgets.example.com")
        later = await scraped(server, tmp_path)
    for metric, labels in (
        ("apiserver_resource_objects", {"group": "", "resource": "configmaps"}),
        ("apiserver_storage_objects", {"resource": "configmaps"}),
    ):
        assert told.sum(metric, **labels) == maps
    assert told.sum("apiserver_storage_objects", resource="gadgets.example.com") == 1
    assert told.labels("apiserver_resource_objects", group="apps", resource="deployments")
    assert not later.labels("apiserver_resource_objects", resource="gadgets")
    assert [one["minor"] for one in told.labels("kubernetes_build_info")] == ["35"]
    assert told.sum("apiserver_storage_size_bytes", storage_cluster_id="lmdb-0") >= 4096


async def test_a_watch_is_told_with_what_it_watches_its_time_and_its_events(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "watched")
        assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
        path = "/api/v1/namespaces/watched/configmaps?watch=1&timeoutSeconds=1"
        async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
            events = (await http.call("GET", path)).body.splitlines()
        told = await scraped(server, tmp_path)
    kind = {"group": "", "version": "v1", "resource": "configmaps"}
    labels = {**kind, "verb": "WATCH", "scope": "namespace", "subresource": "", "component": "apiserver"}
    assert labels in told.labels("apiserver_longrunning_requests")
    assert told.sum("apiserver_longrunning_requests", **labels) == 0, "it has ended"
    assert told.sum("apiserver_request_duration_seconds_count", **labels) == 1
    assert told.sum("apiserver_request_duration_seconds_sum", **labels) >= 1
    assert told.sum("apiserver_watch_events_total", **kind) == len(events)
    assert told.sum("apiserver_watch_events_sizes_sum", **kind) == sum(len(event) + 1 for event in events)


async def test_sizes_of_answers_are_told_of_what_reads(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "sized")
        assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
        path = "/api/v1/namespaces/sized/configmaps/a"
        async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
            size = len((await http.call("GET", path)).body)
            assert (await http.call("DELETE", path)).status == 200
        told = await scraped(server, tmp_path)
    named = {"resource": "configmaps", "scope": "resource"}
    assert told.sum("apiserver_response_sizes_sum", verb="GET", **named) == size
    assert not told.labels("apiserver_response_sizes_count", verb="DELETE")


async def test_the_servers_own_time_is_told_without_that_of_webhooks(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, cluster = await admins(server, "apart")
        root = server.issue_client_certificate("root", ["system:masters"])
        async with hooking(api, cluster, "Mutating"), Http(server, tmp_path, pair=root) as http:
            path = "/api/v1/namespaces/apart/configmaps"
            assert (await http.call("POST", path, config_map("a"))).status == 201
        told = await scraped(server, tmp_path)
    labels = {"resource": "configmaps", "verb": "POST"}
    whole, own = (told.sum(f"apiserver_request{one}_duration_seconds_sum", **labels) for one in ("", "_sli"))
    assert whole - own == pytest.approx(told.sum(f"{ADMISSION}_webhook_admission_duration_seconds_sum"), abs=1e-6)


async def test_what_checks_said_is_told_to_whoever_monitors(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        async with Http(server, tmp_path, pair=server.issue_client_certificate("jane", ["system:monitoring"])) as http:
            assert (await http.call("GET", "/readyz")).status == 200
            answer = await http.call("GET", "/metrics/slis")
        async with Http(server, tmp_path, pair=server.issue_client_certificate("joe")) as http:
            assert (await http.call("GET", "/metrics/slis")).status == 403
    told = Told(answer.body.decode())
    assert told.sum("kubernetes_healthcheck", name="ping", type="readyz") == 1
    assert told.sum("kubernetes_healthchecks_total", name="ping", type="readyz", status="success") >= 1


CEL = "apiserver_cel"


async def test_rules_of_custom_kinds_are_timed_where_they_are_compiled_and_for_each_value_that_they_judge(
    tmp_path: Path,
) -> None:
    teeth = {"type": "integer", "x-kubernetes-validations": [{"rule": "self % 2 == 0"}]}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"teeth": teeth}}}}
    async with served(tmp_path) as server:
        api, cluster = await admins(server, "timed")
        await define(cluster, crd("cogs", "Cog", version(schema=schema)))
        before = await scraped(server, tmp_path)
        for name, number, status in (("even", 2, 201), ("odd", 3, 422)):
            cog = {"apiVersion": "example.com/v1", "kind": "Cog", "metadata": {"name": name}, "spec": {"teeth": number}}
            assert (await api.create("example.com/v1/cogs", cog))[0] == status
        after = await scraped(server, tmp_path)
    # When the definition was judged, and when the first object was; of each object the whole, its spec and the teeth.
    for word, grown in (("compilation", 1), ("evaluation", 6)):
        counts = [one.sum(f"{CEL}_{word}_duration_seconds_count") for one in (before, after)]
        assert counts[0] + grown == counts[1]
        buckets = [one.sum(f"{CEL}_{word}_duration_seconds_bucket", le="+Inf") for one in (before, after)]
        assert buckets == counts
        assert after.sum(f"{CEL}_{word}_duration_seconds_sum") > before.sum(f"{CEL}_{word}_duration_seconds_sum")
    assert before.sum(f"{CEL}_compilation_duration_seconds_count") > 0


async def test_addresses_and_node_ports_of_services_are_told(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        api, _ = await admins(server, "addressed")
        before = await scraped(server, tmp_path)
        spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
        for name, status in (("one", 201), ("other", 422)):
            assert (await api.create("v1/services", {"metadata": {"name": name}, "spec": spec}))[0] == status
        after = await scraped(server, tmp_path)
    kube, scope = "kube_apiserver", {"scope": "static"}
    for metric, labels, grown in (
        (f"{kube}_clusterip_allocator_allocated_ips", {}, 1),
        (f"{kube}_clusterip_allocator_available_ips", {}, -1),
        (f"{kube}_clusterip_allocator_allocation_total", {"scope": "dynamic"}, 2),
        (f"{kube}_nodeport_allocator_allocated_ports", {}, 1),
        (f"{kube}_nodeport_allocator_available_ports", {}, -1),
        (f"{kube}_nodeport_allocator_allocation_total", scope, 1),
        (f"{kube}_nodeport_allocator_allocation_errors_total", scope, 1),
    ):
        assert before.sum(metric, **labels) + grown == after.sum(metric, **labels), metric
