"""A pod's token is asked for an hour and lasts a year: who goes on with it after the hour is told of, and served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.authentication.tokens import BoundObject
from kubecore.apiserver.server import APIServer
from kubecore.clock import VirtualClock

from .conftest import pod
from .grpc_client import calling, whoami
from .http import Http
from .test_audit import audited, events, named

pytestmark = pytest.mark.asyncio

HERE = "/api/v1/namespaces/default"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
STALE = "authentication.k8s.io/stale-token"
ROBOT = "system:serviceaccount:default:robot"
ASKED_FOR = 3607


async def of_a_pod(http: Http, server: APIServer, *, seconds: int = ASKED_FOR) -> str:
    """A token of account `robot`, bound to a pod."""
    account: Any = (await http.call("POST", f"{HERE}/serviceaccounts", {"metadata": {"name": "robot"}})).json
    running: Any = (await http.call("POST", f"{HERE}/pods", pod("p", serviceAccountName="robot"))).json
    return server.tokens.issue(
        namespace="default",
        account="robot",
        account_uid=account["metadata"]["uid"],
        audiences=server.tokens.audiences,
        seconds=seconds,
        bound=BoundObject("pod", "p", running["metadata"]["uid"]),
    ).token


async def counted(http: Http) -> tuple[int, int]:
    """Uses of tokens that should have been replaced, and of those that need not be yet."""
    metrics = (await http.call("GET", "/metrics")).body.decode()
    stale, valid = (
        int(re.findall(rf"^serviceaccount_{age}_tokens_total (\d+)$", metrics, re.MULTILINE)[0])
        for age in ("stale", "valid")
    )
    return stale, valid


async def test_a_token_that_should_have_been_replaced_is_told_in_the_audit_and_counted(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with (
        audited(tmp_path, "- level: Metadata", clock) as (http, server),
        Http(server, tmp_path, token=await of_a_pod(http, server)) as own,
    ):
        assert (await own.call("GET", "/version", headers=named("in-time"))).status == 200
        assert await counted(http) == (0, 1)
        await clock.advance(ASKED_FOR + 5.0)
        for audit_id, seconds in (("late", 1.0), ("soon", 20.0), ("later", 0.0)):
            assert (await own.call("GET", "/version", headers=named(audit_id))).status == 200
            await clock.advance(seconds)
        assert await counted(http) == (2, 1), "uses within ten seconds are the same one, as upstream"
    assert STALE not in events(tmp_path, "in-time")[-1]["annotations"]
    for audit_id, after in (("late", 5), ("soon", 6), ("later", 26)):
        told = f"subject: system:serviceaccount:default:robot, seconds after warning threshold: {after}"
        assert events(tmp_path, audit_id)[-1]["annotations"][STALE] == told


async def test_over_grpc_it_is_told_and_counted_too(tmp_path: Path) -> None:
    """However little of a call's way is REST's: it counts as a use, and one within ten seconds as the same one."""
    clock = VirtualClock()
    async with audited(tmp_path, "- level: Metadata", clock, grpc_port=0) as (http, server):
        token = await of_a_pod(http, server)
        for audit_id, seconds in (("in-time", ASKED_FOR + 5.0), ("late", 1.0), ("soon", 20.0), ("later", 0.0)):
            async with calling(server, token=token, said={"audit-id": audit_id}) as client:
                assert (await whoami(client))[1]["username"] == ROBOT
            await clock.advance(seconds)
        async with calling(server, token=token) as client:
            # Of one connection, whose token is remembered.
            for _ in range(2):
                assert (await whoami(client))[1]["username"] == ROBOT
        assert await counted(http) == (2, 1)
    assert STALE not in events(tmp_path, "in-time")[-1]["annotations"]
    for audit_id, after in (("late", 5), ("soon", 6), ("later", 26)):
        told = f"subject: {ROBOT}, seconds after warning threshold: {after}"
        assert events(tmp_path, audit_id)[-1]["annotations"][STALE] == told


async def test_whoever_has_such_a_token_reviewed_is_told_in_the_audit(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with audited(tmp_path, "- level: Metadata", clock) as (http, server):
        review = {"spec": {"token": await of_a_pod(http, server)}}
        await http.call("POST", REVIEWS, review, named("in-time"))
        await clock.advance(ASKED_FOR + 5.0)
        answer: Any = (await http.call("POST", REVIEWS, review, named("late"))).json
        assert answer["status"]["authenticated"]
        assert await counted(http) == (1, 1)
    assert STALE not in events(tmp_path, "in-time")[-1]["annotations"]
    told = "subject: system:serviceaccount:default:robot, seconds after warning threshold: 5"
    assert events(tmp_path, "late")[-1]["annotations"][STALE] == told


async def test_a_token_that_lasts_as_long_as_it_was_asked_for_is_not_counted(tmp_path: Path) -> None:
    async with audited(tmp_path, "- level: Metadata") as (http, server):
        async with Http(server, tmp_path, token=await of_a_pod(http, server, seconds=1200)) as own:
            assert (await own.call("GET", "/version", headers=named("asked"))).status == 200
        assert await counted(http) == (0, 0)
    assert STALE not in events(tmp_path, "asked")[-1]["annotations"]


async def test_nothing_is_said_of_a_token_that_is_not_good_any_more(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with audited(tmp_path, "- level: Metadata", clock) as (http, server):
        async with Http(server, tmp_path, token=await of_a_pod(http, server)) as own:
            await clock.advance(ASKED_FOR + 5.0)
            assert (await own.call("GET", "/version", headers=named("late"))).status == 200
            await http.call("DELETE", f"{HERE}/pods/p", {"gracePeriodSeconds": 0})
            assert (await own.call("GET", "/version", headers=named("gone"))).status == 401
        assert (await counted(http))[0] == 1
    assert STALE not in events(tmp_path, "gone")[-1].get("annotations", {})


async def test_a_token_that_will_have_been_issued_is_nobodys_yet(tmp_path: Path) -> None:
    """But for a minute by which clocks may differ."""
    clock = VirtualClock()
    async with audited(tmp_path, "- level: Metadata", clock) as (http, server):
        now = int(clock.now().timestamp())
        account: Any = (await http.call("POST", f"{HERE}/serviceaccounts", {"metadata": {"name": "robot"}})).json
        told = {"name": "robot", "uid": account["metadata"]["uid"]}
        claims = {
            "aud": list(server.tokens.audiences),
            "exp": now + 3600,
            "iat": now + 61,
            "iss": server.tokens.issuer,
            "kubernetes.io": {"namespace": "default", "serviceaccount": told},
            "nbf": now,
            "sub": "system:serviceaccount:default:robot",
        }
        token = server.tokens._sign(claims)
        review = {"spec": {"token": token}}
        refused: Any = (await http.call("POST", REVIEWS, review)).json
        assert refused["status"]["error"] == "[invalid bearer token, service account token is issued in the future]"
        async with Http(server, tmp_path, token=token) as own:
            assert (await own.call("GET", "/version")).status == 401
            await clock.advance(1.0)
            assert (await own.call("GET", "/version")).status == 200
