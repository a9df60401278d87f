"""What is recorded, counted and limited of calls over gRPC: what is of requests over REST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecore.api.errors import StatusError
from kubecore.apiserver.audit.options import AuditOptions, LogOptions
from kubecore.apiserver.audit.policy import load
from kubecore.apiserver.server import APIServer

from .grpc_client import calling, calling_as
from .http import Http
from .serving import served
from .test_audit import HEAD, MAPS, NOT_ITS_OWN, events
from .test_flow_control import AS_IT_IS, LEVELS, SCHEMAS, allow, asking_as, fill, leads_to, level, limited, schema
from .test_metrics import scraped

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
RESOURCE = "v1/configmaps"
# What is another request's, or another client's.
_ITS_OWN = {"auditID", "userAgent", "requestReceivedTimestamp", "stageTimestamp"}


def auditing(folder: Path, rules: str = "- level: RequestResponse", **log: Any) -> AuditOptions:
    path = log.pop("path", str(folder / "audit.log"))
    return AuditOptions(policy=load(HEAD + NOT_ITS_OWN + rules), log=LogOptions(path=path, **log))


async def code_of(asked: Any) -> int:
    try:
        await asked
    except StatusError as error:
        return error.code
    return 200


def told(folder: Path, audit_id: str) -> list[JSON]:
    return [{name: value for name, value in one.items() if name not in _ITS_OWN} for one in events(folder, audit_id)]


async def test_a_call_is_told_as_the_request_that_it_stands_for(tmp_path: Path) -> None:
    """Who may, who may not, who is nobody, and who acts as somebody else."""
    async with served(tmp_path, grpc_port=0, audit=auditing(tmp_path)) as server:
        master = server.issue_client_certificate("root", ["system:masters"])
        jane = server.issue_client_certificate("jane")
        for name, who, said in (
            ("root", {"pair": master}, {}),
            ("jane", {"pair": jane}, {}),
            ("nobody", {"token": "bad"}, {}),
            ("acting", {"pair": master}, {"impersonate-user": "jane"}),
            ("not-acting", {"pair": jane}, {"impersonate-user": "root"}),
        ):
            async with Http(server, tmp_path, **who) as http:  # type: ignore[arg-type]
                status = (await http.call("GET", f"{MAPS}/a", headers={"audit-id": f"{name}-http", **said})).status
            async with calling(server, said={"audit-id": f"{name}-grpc", **said}, **who) as client:  # type: ignore[arg-type]
                assert await code_of(client.get(RESOURCE, "a", "default")) == status, name
    for name in ("root", "jane", "nobody", "acting", "not-acting"):
        by_http, by_grpc = told(tmp_path, f"{name}-http"), told(tmp_path, f"{name}-grpc")
        assert by_http, name
        assert by_grpc == by_http, name
    assert told(tmp_path, "nobody-grpc")[-1]["responseStatus"]["code"] == 401
    assert told(tmp_path, "acting-grpc")[-1]["impersonatedUser"]["username"] == "jane"
    assert events(tmp_path, "root-grpc")[0]["userAgent"].startswith("grpc-python")


async def test_a_call_is_told_with_the_address_it_came_from(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0, bind_address="::1", audit=auditing(tmp_path)) as server:
        for audit_id, more in (("direct", {}), ("through", {"x-forwarded-for": "10.0.0.1"})):
            pair = server.issue_client_certificate("root", ["system:masters"])
            said = {"audit-id": audit_id, **more}
            async with calling(server, host="[::1]", pair=pair, said=said) as client:
                await client.list(RESOURCE, "default")
    assert events(tmp_path, "direct")[-1]["sourceIPs"] == ["::1"]
    assert events(tmp_path, "through")[-1]["sourceIPs"] == ["10.0.0.1", "::1"]


async def test_writes_and_watches_are_told_with_what_was_sent_and_how_long_they_last(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0, audit=auditing(tmp_path)) as server:
        async with calling_as(server, "root", "system:masters", audit_id="write") as client:
            await client.create(RESOURCE, {"metadata": {"name": "a"}, "data": {"k": "v"}}, "default")
        async with calling_as(server, "root", "system:masters", audit_id="watch") as client:
            async for _ in client.watch(RESOURCE, "default"):
                break
    written = told(tmp_path, "write")
    assert [one["stage"] for one in written] == ["RequestReceived", "ResponseComplete"]
    assert written[-1]["requestObject"]["data"] == written[-1]["responseObject"]["data"] == {"k": "v"}
    stages = ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert [one["stage"] for one in told(tmp_path, "watch")] == stages


@pytest.mark.parametrize(("mode", "code"), [("blocking", 200), ("blocking-strict", 500)])
async def test_a_call_that_cannot_be_told_is_refused_where_the_audit_is_strict(
    tmp_path: Path, mode: str, code: int
) -> None:
    rules = "- {level: Metadata, users: [root]}\n- level: None\n"
    audit = auditing(tmp_path, rules, path="/dev/full", mode=mode)
    async with served(tmp_path, grpc_port=0, audit=audit) as server:
        async with calling_as(server, "root", "system:masters") as client:
            assert await code_of(client.create(RESOURCE, {"metadata": {"name": "a"}}, "default")) == code
            assert await code_of(client.get(RESOURCE, "a", "default")) == code
        # Who asks within this process is refused, too, as upstream's own clients are.
        transport = server.transport(username="root", groups=["system:masters"])
        assert (await transport.request("GET", f"{MAPS}/none"))[0] == (404 if code == 200 else 500)


async def test_who_is_sent_away_by_flow_control_is_told(tmp_path: Path) -> None:
    bounds = {"max_requests_inflight": 1, "max_mutating_requests_inflight": 0}
    async with limited(tmp_path, grpc_port=0, audit=auditing(tmp_path), **bounds) as (server, http):
        await allow(http, "jane")
        await http.call("POST", LEVELS, level("narrow", {"type": "Reject"}, borrowingLimitPercent=0))
        await http.call("POST", SCHEMAS, schema("narrow", "narrow", "jane"))
        await fill(http)
        async with (
            asking_as(server, tmp_path, "jane") as jane,
            calling_as(server, "jane", audit_id="late") as client,
        ):
            await leads_to(http, jane, "narrow")
            async with jane.stream(MAPS, AS_IT_IS) as slow:
                assert await code_of(client.get(RESOURCE, "m1", "default")) == 429
                await slow.read()
    (last,) = [one for one in told(tmp_path, "late") if one["stage"] == "ResponseComplete"]
    assert (last["user"]["username"], last["responseStatus"]["code"]) == ("jane", 429)


async def counted(server: APIServer, folder: Path) -> JSON:
    found = await scraped(server, folder)
    of_maps = {"resource": "configmaps", "component": "apiserver"}
    return {
        "got": found.sum("apiserver_request_total", verb="LIST", code="200", **of_maps),
        "timed": found.sum("apiserver_request_duration_seconds_count", verb="LIST", **of_maps),
        "created": found.sum("apiserver_request_total", verb="POST", code="201", **of_maps),
        "good": found.sum("authentication_attempts", result="success"),
        "bad": found.sum("authentication_attempts", result="error"),
        "named": found.sum("authenticated_user_requests", username="email_id"),
        "may": found.sum("authorization_attempts_total", result="allowed"),
        "may not": found.sum("authorization_attempts_total", result="no-opinion"),
    }


async def test_calls_count_as_requests_and_what_is_asked_in_process_does_not(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0) as server:
        before = await counted(server, tmp_path)
        async with calling_as(server, "root@example.com", "system:masters") as client:
            await client.create(RESOURCE, {"metadata": {"name": "a"}}, "default")
            await client.list(RESOURCE, "default")
        async with calling_as(server, "jane") as client:
            assert await code_of(client.list(RESOURCE, "default")) == 403
        async with calling(server, token="bad") as client:
            assert await code_of(client.list(RESOURCE, "default")) == 401
        transport = server.transport(username="own@example.com", groups=["system:masters"])
        assert (await transport.request("GET", MAPS))[0] == 200
        after = await counted(server, tmp_path)
    # The scrape itself is known and allowed, too.
    more = {"got": 1, "timed": 3, "created": 1, "good": 4, "bad": 1, "named": 2, "may": 3, "may not": 1}
    assert {name: after[name] - before[name] for name in after} == more


async def test_answers_larger_than_what_is_read_ahead_come_whole(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]
    async with served(tmp_path, grpc_port=0) as server, calling_as(server, "root", "system:masters") as client:
        for name in names:
            await client.create(RESOURCE, {"metadata": {"name": name}, "data": {"k": "v" * 500_000}}, "default")
        listed = await client.list(RESOURCE, "default")
        assert sorted(item.metadata.name for item in listed.items) == sorted(names)
        seen: set[str] = set()
        async for events in client.watch(RESOURCE, "default", resource_version="0"):
            seen |= {event.item.metadata.name for event in events}
            if len(seen) == len(names):
                break
    assert seen == set(names)
