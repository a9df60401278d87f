"""What a TokenReview says of tokens of service accounts that are not good."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.authentication.tokens import BoundObject
from kubecore.apiserver.server import APIServer

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCOUNTS, PODS = "v1/serviceaccounts", "v1/pods"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


async def told(api: Api, token: str, *audiences: str) -> str:
    """Why the token is not good."""
    status, review = await api.call("POST", REVIEWS, {"spec": {"token": token, "audiences": list(audiences)}})
    assert (status, review["status"].get("authenticated")) == (201, None), review
    error: str = review["status"]["error"]
    return error


async def account(api: Api, name: str = "robot") -> dict[str, Any]:
    status, made = await api.create(ACCOUNTS, {"metadata": {"name": name}})
    assert status == 201
    found: dict[str, Any] = made["metadata"]
    return found


def issued(server: APIServer, api: Api, of: dict[str, Any], *, seconds: int = 600, **more: Any) -> str:
    wanted = {"audiences": server.tokens.audiences, "seconds": seconds, **more}
    return server.tokens.issue(namespace=api.namespace, account=of["name"], account_uid=of["uid"], **wanted).token


async def test_a_text_that_is_no_token_of_ours_is_invalid_and_no_more(api: Api) -> None:
    assert await told(api, "abc") == "invalid bearer token"
    assert await told(api, "e30.e30.e30") == "invalid bearer token"


async def test_a_token_that_has_expired_is_told_so(api: Api, server: APIServer) -> None:
    token = issued(server, api, await account(api), seconds=-600)
    assert await told(api, token) == "[invalid bearer token, service account token has expired]"


async def test_a_token_for_others_names_both(api: Api, server: APIServer) -> None:
    token = issued(server, api, await account(api), audiences=["vault", "x"])
    own = " ".join(f'"{one}"' for one in server.tokens.audiences)
    start = '[invalid bearer token, token audiences ["vault" "x"] is invalid for the target audiences'
    assert await told(api, token) == f"{start} [{own}]]"
    assert await told(api, token, "other") == f'{start} ["other"]]'


async def test_a_token_of_an_account_that_is_gone_or_another_one_says_which(api: Api, server: APIServer) -> None:
    before = await account(api)
    token = issued(server, api, before)
    await api.delete(ACCOUNTS, "robot")
    assert await told(api, token) == '[invalid bearer token, serviceaccounts "robot" not found]'
    after = await account(api)
    different = f"service account UID ({after['uid']}) does not match claim ({before['uid']})"
    assert await told(api, token) == f"[invalid bearer token, {different}]"


async def test_a_token_of_a_pod_that_is_gone_or_another_one_says_which(api: Api, server: APIServer) -> None:
    robot = await account(api)
    _, made = await api.create(PODS, pod("p"))
    uid = made["metadata"]["uid"]
    token = issued(server, api, robot, bound=BoundObject("pod", "p", uid))
    await api.delete(PODS, "p", {"gracePeriodSeconds": 0})
    assert await told(api, token) == "[invalid bearer token, service account token has been invalidated]"
    _, made = await api.create(PODS, pod("p"))
    different = f"pod UID ({made['metadata']['uid']}) does not match service account pod ref claim ({uid})"
    assert await told(api, token) == f"[invalid bearer token, {different}]"


async def test_a_token_whose_signature_is_not_ours_is_told_so(api: Api, server: APIServer) -> None:
    head, claims, signature = issued(server, api, await account(api)).split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    problem = "go-jose/go-jose: error in cryptographic primitive"
    assert await told(api, forged) == f"[invalid bearer token, {problem}]"


async def test_a_token_of_a_secret_that_is_gone_is_told_so(api: Api, server: APIServer) -> None:
    robot = await account(api)
    wanted = {"account": "robot", "account_uid": robot["uid"], "secret": "robot-token"}
    token = server.tokens.issue_legacy(namespace=api.namespace, **wanted)
    assert await told(api, token) == "[invalid bearer token, Token has been invalidated]"
