"""Tokens of service accounts, requested and renewed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import orjson

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.service_account import ServiceAccountToken
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI


class IssuingAPI(FakeAPI):
    """With the token subresource of service accounts: the n-th token of an account is `<account>-<n>`."""

    issued = 0

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        if not path.endswith("/token"):
            return await super().request(method, path, query=query, body=body, content_type=content_type)
        account = path.split("/")[-2]
        assert self.get("serviceaccounts", account, "kube-system") is not None
        asked: Object = orjson.loads(body or b"")
        self.issued += 1
        expires = self.clock.now() + timedelta(seconds=asked["spec"]["expirationSeconds"])
        status = {"token": f"{account}-{self.issued}", "expirationTimestamp": meta.format_time(expires)}
        return 201, orjson.dumps({"status": status})


async def test_a_token_is_requested_once_and_again_before_it_expires() -> None:
    clock = VirtualClock()
    api = IssuingAPI(clock)
    token = ServiceAccountToken(api.client(), clock, "job-controller")
    assert [await token(), await token()] == ["job-controller-1"] * 2
    assert api.get("serviceaccounts", "job-controller", "kube-system") is not None
    await clock.advance(2870)
    assert await token() == "job-controller-1"
    await clock.advance(20)
    assert await token() == "job-controller-2"


async def test_an_account_that_is_there_is_left_alone() -> None:
    clock = VirtualClock()
    api = IssuingAPI(clock)
    api.add("serviceaccounts", {"metadata": {"name": "job-controller"}}, "kube-system")
    assert await ServiceAccountToken(api.client(), clock, "job-controller")() == "job-controller-1"
    assert api.requests == []
