"""Tokens that are kept in Secrets are good as long as the Secret holds them."""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any

import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count()
SECRETS, ACCOUNTS, REVIEWS = "v1/secrets", "v1/serviceaccounts", "authentication.k8s.io/v1/tokenreviews"


def issue(server: APIServer, api: Api, account: dict[str, Any], secret: str) -> str:
    metadata = account["metadata"]
    return server.tokens.issue_legacy(
        namespace=api.namespace, account=metadata["name"], account_uid=metadata["uid"], secret=secret
    )


async def keep(api: Api, name: str, token: str) -> None:
    annotations = {"kubernetes.io/service-account.name": "robot"}
    data = {"token": base64.b64encode(token.encode()).decode()}
    body = {"metadata": {"name": name, "annotations": annotations}, "data": data}
    status, made = await api.create(SECRETS, {**body, "type": "kubernetes.io/service-account-token"})
    assert status == 201, made


async def user_of(api: Api, token: str) -> str:
    _, review = await Api(api.transport, "").create(REVIEWS, {"spec": {"token": token}})
    return str((review["status"].get("user") or {}).get("username", ""))


async def who(server: APIServer, api: Api, token: str) -> str:
    """The user that the token is taken for, once a Secret that was made after all others is known."""
    _, account = await api.get(ACCOUNTS, "robot")
    mark = f"mark-{next(_numbers)}"
    later = issue(server, api, account, mark)
    await keep(api, mark, later)
    async with asyncio.timeout(60):
        while not await user_of(api, later):  # noqa: ASYNC110 - the server works on this very loop
            await asyncio.sleep(0)
    return await user_of(api, token)


async def make_account(api: Api) -> dict[str, Any]:
    status, made = await api.create(ACCOUNTS, {"metadata": {"name": "robot"}})
    assert status == 201
    return made


async def test_a_kept_token_is_good_until_its_secret_is_gone(server: APIServer, api: Api) -> None:
    token = issue(server, api, await make_account(api), "kept")
    assert await who(server, api, token) == ""
    await keep(api, "kept", token)
    assert await who(server, api, token) == f"system:serviceaccount:{api.namespace}:robot"
    await api.delete(SECRETS, "kept")
    assert await who(server, api, token) == ""


async def test_a_token_in_another_secret_than_it_was_made_for_is_no_good(server: APIServer, api: Api) -> None:
    token = issue(server, api, await make_account(api), "kept")
    await keep(api, "elsewhere", token)
    assert await who(server, api, token) == ""


async def test_what_somebody_wrote_into_a_secret_is_no_token(server: APIServer, api: Api) -> None:
    token = issue(server, api, await make_account(api), "kept")
    head, _, signature = token.rpartition(".")
    forged = f"{head}.{'A' * len(signature)}"
    await keep(api, "kept", forged)
    assert await who(server, api, forged) == ""


async def test_a_token_of_an_account_that_was_made_anew_is_no_good(server: APIServer, api: Api) -> None:
    token = issue(server, api, await make_account(api), "kept")
    await api.delete(ACCOUNTS, "robot")
    await make_account(api)
    await keep(api, "kept", token)
    assert await who(server, api, token) == ""


async def test_a_token_that_was_said_to_be_invalid_is_no_good(server: APIServer, api: Api) -> None:
    token = issue(server, api, await make_account(api), "kept")
    await keep(api, "kept", token)
    await api.patch(
        SECRETS, "kept", {"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}}
    )
    assert await who(server, api, token) == ""
