"""How long what the API server says of those who ask a component counts."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore._native import UserInfo
from kubecore.client import delegated_access
from kubecore.client.delegated_access import CacheTimes, DelegatedAccess
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI

Object = dict[str, Any]


@pytest.fixture
def api(clock: VirtualClock) -> FakeAPI:
    return FakeAPI(clock)


@pytest.fixture
def access(api: FakeAPI, clock: VirtualClock) -> DelegatedAccess:
    return DelegatedAccess(api.client(), clock, CacheTimes(token=10.0, allowed=30.0, refused=5.0))


async def name_of(access: DelegatedAccess, token: str) -> str | None:
    found = await access.user_of(token)
    return found.username if found is not None else None


async def may(access: DelegatedAccess, name: str) -> bool:
    allowed, _ = await access.allows(UserInfo(name), resourceAttributes={"verb": "get", "subresource": "metrics"})
    return allowed


async def test_a_token_counts_for_a_while(api: FakeAPI, access: DelegatedAccess, clock: VirtualClock) -> None:
    api.rights.tokens["t"] = "jane"
    assert await name_of(access, "t") == "jane"
    del api.rights.tokens["t"]
    await clock.advance(9)
    assert await name_of(access, "t") == "jane"
    await clock.advance(1)
    assert await name_of(access, "t") is None


async def test_a_token_that_could_not_be_judged_is_asked_about_again(
    api: FakeAPI, access: DelegatedAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(plural: str, review: Object) -> Object:
        return {**review, "status": {"error": "the issuer does not answer"}}

    api.rights.tokens["t"] = "jane"
    with monkeypatch.context() as patched:
        patched.setattr(api.rights, "answer", cannot)
        assert await name_of(access, "t") is None
    assert await name_of(access, "t") == "jane"


async def test_a_right_counts_longer_than_a_refusal(api: FakeAPI, access: DelegatedAccess, clock: VirtualClock) -> None:
    api.rights.nodes.add(("jane", "get", "metrics"))
    assert [await may(access, "jane"), await may(access, "joe")] == [True, False]
    api.rights.nodes = {("joe", "get", "metrics")}
    await clock.advance(5)
    assert [await may(access, "jane"), await may(access, "joe")] == [True, True]
    await clock.advance(25)
    assert not await may(access, "jane")


async def test_of_many_the_last_are_kept(
    api: FakeAPI, access: DelegatedAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delegated_access, "_MOST_KEPT", 2)
    api.rights.tokens.update(a="a", b="b", c="c")
    assert [await name_of(access, token) for token in "abc"] == ["a", "b", "c"]
    api.rights.tokens.clear()
    assert [await name_of(access, token) for token in "ca"] == ["c", None]
