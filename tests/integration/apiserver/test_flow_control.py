# ruff: noqa: ASYNC110 - the server works on this very loop
"""Priority and fairness over the real listener: who is classified how, who waits, who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.apiserver.server import APIServer
from kubecore.clock import VirtualClock

from .grpc_client import calling_as
from .http import Answer, Http
from .serving import served

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMAS, LEVELS = f"{GROUP}/flowschemas", f"{GROUP}/prioritylevelconfigurations"
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
# Else a long list would be a short answer.
AS_IT_IS = {"Accept-Encoding": "identity"}
DUMPS = "/debug/api_priority_and_fairness"


@asynccontextmanager
async def limited(folder: Path, **options: Any) -> AsyncIterator[tuple[APIServer, Http]]:
    async with served(folder, **options) as server:
        pair = server.issue_client_certificate("admin", ["system:masters"])
        async with Http(server, folder, pair=pair) as http:
            yield server, http


@asynccontextmanager
async def asking_as(server: APIServer, folder: Path, name: str, *groups: str) -> AsyncIterator[Http]:
    own = folder / name
    own.mkdir(exist_ok=True)
    async with Http(server, own, pair=server.issue_client_certificate(name, list(groups))) as http:
        yield http


async def allow(http: Http, *users: str) -> None:
    """They may do everything with config maps."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    await http.call("POST", f"{rbac}/clusterroles", {"metadata": {"name": "maps"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "maps"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user} for user in users],
    }
    await http.call("POST", f"{rbac}/clusterrolebindings", binding)


async def named(http: Http, answer: Answer) -> tuple[str, str]:
    """The flow schema and the level that the answer's headers name by uid."""
    found = []
    headers = {"X-Kubernetes-PF-FlowSchema-UID": SCHEMAS, "X-Kubernetes-PF-PriorityLevel-UID": LEVELS}
    for header, path in headers.items():
        items = (await http.call("GET", path)).json["items"]
        by_uid = {meta.uid(item): meta.name(item) for item in items}
        found.append(by_uid[answer.headers[header]])
    return found[0], found[1]


async def test_a_server_begins_with_the_default_objects(tmp_path: Path) -> None:
    async with limited(tmp_path) as (_, http):
        schemas = {meta.name(item): item for item in (await http.call("GET", SCHEMAS)).json["items"]}
        levels = {meta.name(item): item for item in (await http.call("GET", LEVELS)).json["items"]}
        assert set(levels) == {
            *("catch-all", "exempt", "global-default", "leader-election", "node-high", "system"),
            *("workload-high", "workload-low"),
        }
        assert len(schemas) == 11
        assert all(meta.annotations(one)["apf.kubernetes.io/autoupdate-spec"] == "true" for one in schemas.values())
        condition = meta.condition(schemas["probes"], "Dangling") or {}
        assert (condition["status"], condition["reason"]) == ("False", "Found")
        told = 'references the PriorityLevelConfiguration object named "exempt" and it exists'
        assert condition["message"] == f"This FlowSchema {told}"
        owners = [one for one in schemas["probes"]["metadata"]["managedFields"] if one.get("subresource") == "status"]
        # As upstream, which applies it: the condition is its own, and not that there are any.
        assert [(one["operation"], [*one["fieldsV1"]["f:status"]["f:conditions"]]) for one in owners] == [
            ("Apply", ['k:{"type":"Dangling"}'])
        ]


async def test_answers_name_the_schema_and_level_of_their_request(tmp_path: Path) -> None:
    async with limited(tmp_path) as (server, http):
        assert await named(http, await http.call("GET", MAPS)) == ("exempt", "exempt")
        async with asking_as(server, tmp_path, "jane") as jane:
            refused = await jane.call("GET", MAPS)
            assert refused.status == 403
            assert await named(http, refused) == ("global-default", "global-default")
            assert await named(http, await jane.call("GET", "/livez")) == ("probes", "exempt")
        async with asking_as(server, tmp_path, "system:node:n", "system:nodes") as node:
            assert await named(http, await node.call("GET", "/api/v1/nodes/n")) == ("system-node-high", "node-high")
        impersonated = await http.call("GET", "/api/v1/pods", headers={"Impersonate-User": "system:kube-scheduler"})
        assert await named(http, impersonated) == ("kube-scheduler", "workload-high")
        refused = await http.call("GET", MAPS, headers={"Impersonate-User": "jane"})
        assert refused.status == 403
        assert await named(http, refused) == ("global-default", "global-default")
        async with asking_as(server, tmp_path, "jane") as jane:
            # Whoever may not act as somebody else is none of the users that requests are classified by.
            refused = await jane.call("GET", MAPS, headers={"Impersonate-User": "eve"})
            assert (refused.status, "X-Kubernetes-PF-FlowSchema-UID" in refused.headers) == (403, False)


async def test_who_is_nobody_is_not_classified(tmp_path: Path) -> None:
    async with limited(tmp_path) as (server, _), Http(server, tmp_path, token="wrong") as nobody:
        answer = await nobody.call("GET", MAPS)
        assert answer.status == 401
        assert "X-Kubernetes-PF-FlowSchema-UID" not in answer.headers


def level(name: str, response: JSON, **limited: Any) -> JSON:
    spec = {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": response, **limited}}
    return {"metadata": {"name": name}, "spec": spec}


def schema(name: str, level: str, *users: str) -> JSON:
    """Of the users' requests for config maps, each user's being a flow."""
    rule = {"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], "namespaces": ["*"]}
    subjects = [{"kind": "User", "user": {"name": user}} for user in users]
    return {
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": 50,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": subjects, "resourceRules": [rule]}],
        },
    }


async def leads_to(http: Http, user: Http, name: str) -> None:
    """Until the user's requests belong to the level of that name."""
    async with asyncio.timeout(30):
        while (await named(http, await user.call("GET", f"{MAPS}/none")))[1] != name:
            await asyncio.sleep(0)


async def fill(http: Http) -> None:
    """Makes a list longer than what is on its way to a reader who does not read on."""
    for number in range(20):
        await http.call("POST", MAPS, {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * 900_000}})


async def dumped(http: Http, table: str, name: str) -> list[str]:
    """The row of a level."""
    lines = (await http.call("GET", f"{DUMPS}/{table}")).body.decode().splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    return next(row for row in rows if row[0] == name)


async def test_a_schema_without_its_level_says_so_and_is_passed_over(tmp_path: Path) -> None:
    async with limited(tmp_path) as (server, http), asking_as(server, tmp_path, "jane") as jane:
        await http.call("POST", SCHEMAS, schema("s", "none", "jane"))
        async with asyncio.timeout(30):
            while (condition := meta.condition((await http.call("GET", f"{SCHEMAS}/s")).json, "Dangling")) is None:
                await asyncio.sleep(0)
        assert (condition["status"], condition["reason"]) == ("True", "NotFound")
        assert await named(http, await jane.call("GET", MAPS)) == ("global-default", "global-default")
        answer = await http.call("POST", LEVELS, level("none", {"type": "Reject"}))
        assert "Warning" not in answer.headers
        await leads_to(http, jane, "none")


async def test_without_a_seat_who_may_not_wait_is_told_to_come_again(tmp_path: Path) -> None:
    # Seats for one request, and it is taken by a list whose reader does not read on.
    async with limited(tmp_path, max_requests_inflight=1, max_mutating_requests_inflight=0) as (server, http):
        await allow(http, "jane")
        await http.call("POST", LEVELS, level("narrow", {"type": "Reject"}, borrowingLimitPercent=0))
        await http.call("POST", SCHEMAS, schema("narrow", "narrow", "jane"))
        await fill(http)
        async with asking_as(server, tmp_path, "jane") as jane:
            await leads_to(http, jane, "narrow")
            async with jane.stream(MAPS, AS_IT_IS) as slow:
                assert slow.status == 200
                refused = await jane.call("GET", f"{MAPS}/m1")
                assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
                assert refused.body == b"Too many requests, please try again later.\n"
                assert await named(http, refused) == ("narrow", "narrow")
                await slow.read()
            assert (await jane.call("GET", f"{MAPS}/m1")).status == 200
        metrics = (await http.call("GET", "/metrics")).body.decode()
        labels = 'flow_schema="narrow",priority_level="narrow",reason="concurrency-limit"'
        assert f"apiserver_flowcontrol_rejected_requests_total{{{labels}}} 1" in metrics
        assert (await dumped(http, "dump_priority_levels", "narrow"))[7] == "1"


async def test_who_waits_is_served_when_a_seat_is_free_and_not_for_ever(tmp_path: Path) -> None:
    queue = {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 10}}
    clock = VirtualClock()
    async with asyncio.timeout(60):
        started = served(tmp_path, clock, max_requests_inflight=1, max_mutating_requests_inflight=0)
        async with started as server:
            pair = server.issue_client_certificate("admin", ["system:masters"])
            async with Http(server, tmp_path, pair=pair) as http, asking_as(server, tmp_path, "jane") as jane:
                await allow(http, "jane")
                await http.call("POST", LEVELS, level("narrow", queue, borrowingLimitPercent=0))
                await http.call("POST", SCHEMAS, schema("narrow", "narrow", "jane"))
                await fill(http)
                await leads_to(http, jane, "narrow")
                async with jane.stream(MAPS, AS_IT_IS) as slow:
                    waiting = asyncio.create_task(jane.call("GET", f"{MAPS}/m1"))
                    impatient = asyncio.create_task(jane.call("GET", f"{MAPS}/m2?timeout=4s"))
                    while (await dumped(http, "dump_priority_levels", "narrow"))[4] != "2":
                        await asyncio.sleep(0)
                    metrics = (await http.call("GET", "/metrics")).body.decode()
                    assert 'apiserver_current_inqueue_requests{request_kind="readOnly"} 2' in metrics
                    await clock.advance(2.0)
                    assert (await impatient).status == 429
                    requests = (await http.call("GET", f"{DUMPS}/dump_requests?includeRequestDetails=1")).body.decode()
                    assert any("jane" in line and "/configmaps/m1" in line for line in requests.splitlines())
                    assert not waiting.done()
                    await slow.read()
                assert (await waiting).status == 200


@pytest.mark.parametrize("waits", [True, False])
async def test_what_comes_by_grpc_takes_seats_too(tmp_path: Path, waits: bool) -> None:
    queue = {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 10}}
    bounds = {"max_requests_inflight": 1, "max_mutating_requests_inflight": 0}
    async with limited(tmp_path, grpc_port=0, **bounds) as (server, http):
        await allow(http, "jane")
        response = queue if waits else {"type": "Reject"}
        await http.call("POST", LEVELS, level("narrow", response, borrowingLimitPercent=0))
        await http.call("POST", SCHEMAS, schema("narrow", "narrow", "jane"))
        await fill(http)

        async def get() -> int:
            try:
                await calling.get("v1/configmaps", "m1", "default")
            except StatusError as error:
                assert (error.details or {})["retryAfterSeconds"] > 0
                return error.code
            return 200

        async with asking_as(server, tmp_path, "jane") as jane, calling_as(server, "jane") as calling:
            await leads_to(http, jane, "narrow")
            async with jane.stream(MAPS, AS_IT_IS) as slow:
                asked = asyncio.create_task(get())
                if not waits:
                    assert await asked == 429
                else:
                    while (await dumped(http, "dump_priority_levels", "narrow"))[4] != "1":
                        await asyncio.sleep(0)
                    left = asyncio.create_task(get())
                    while (await dumped(http, "dump_priority_levels", "narrow"))[4] != "2":
                        await asyncio.sleep(0)
                    left.cancel()
                    while (await dumped(http, "dump_priority_levels", "narrow"))[4] != "1":
                        await asyncio.sleep(0)
                await slow.read()
            assert await asked == (200 if waits else 429)
            assert await get() == 200


async def test_a_watch_needs_a_seat_only_until_it_has_told_what_was_there(tmp_path: Path) -> None:
    async with limited(tmp_path, max_requests_inflight=1, max_mutating_requests_inflight=0) as (server, http):
        await allow(http, "jane")
        await http.call("POST", LEVELS, level("narrow", {"type": "Reject"}, borrowingLimitPercent=0))
        await http.call("POST", SCHEMAS, schema("narrow", "narrow", "jane"))
        async with asking_as(server, tmp_path, "jane") as jane:
            await leads_to(http, jane, "narrow")
            async with jane.stream(f"{MAPS}?watch=true") as watch:
                assert watch.status == 200
                async with asyncio.timeout(30):
                    while (await jane.call("GET", MAPS)).status != 200:
                        await asyncio.sleep(0)


async def test_defaults_are_brought_back_unless_an_administrator_keeps_his_own(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with served(tmp_path, clock) as server:
        transport = server.transport(username="admin", groups=["system:masters"])

        async def changed(name: str, body: bytes) -> None:
            assert (await transport.request("PATCH", f"{SCHEMAS}/{name}", body=body, content_type=MERGE))[0] == 200

        def precedence(name: str) -> int:
            stored = server.registry.get("flowschemas.flowcontrol.apiserver.k8s.io", "", name) or {"spec": {}}
            return int(stored["spec"].get("matchingPrecedence", 0))

        for name in ("service-accounts", "global-default"):
            await changed(name, b'{"spec": {"matchingPrecedence": 77}}')
        await changed(
            "global-default", b'{"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}}'
        )
        for gone in (f"{LEVELS}/system", f"{SCHEMAS}/catch-all"):
            assert (await transport.request("DELETE", gone))[0] == 200
        await clock.advance(61.0)
        assert (precedence("service-accounts"), precedence("global-default")) == (9000, 77)
        assert precedence("catch-all") == 10000
        assert server.registry.get("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "", "system")


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async with limited(tmp_path, priority_and_fairness=False) as (_, http):
        answer = await http.call("GET", MAPS)
        assert "X-Kubernetes-PF-FlowSchema-UID" not in answer.headers
        assert (await http.call("GET", SCHEMAS)).json["items"] == []
