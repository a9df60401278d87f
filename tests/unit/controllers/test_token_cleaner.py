import base64

import pytest

from kubecore.clock import VirtualClock
from kubecore.controllers.token_cleaner import TokenCleaner
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names


def add_token(api: FakeAPI, name: str, expiration: str | None, *, type: str = "bootstrap.kubernetes.io/token") -> None:
    data = {"token-id": "", **({} if expiration is None else {"expiration": expiration})}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    api.add("secrets", {"metadata": {"name": name}, "type": type, "data": encoded}, "kube-system")


async def test_a_bootstrap_token_goes_when_it_expires(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_token(api, "short", "2026-01-01T01:00:00Z")
    add_token(api, "long", "2026-01-02T00:00:00Z")
    await running.start(TokenCleaner(running.context))
    await clock.advance(3590)
    assert names(api.all("secrets")) == ["long", "short"]
    await clock.advance(15)
    assert names(api.all("secrets")) == ["long"]
    await clock.advance(24 * 3600)
    assert api.all("secrets") == []


@pytest.mark.parametrize(
    ("expiration", "type"),
    [(None, "bootstrap.kubernetes.io/token"), ("2020-01-01T00:00:00Z", "Opaque")],
    ids=["without expiration", "of another type"],
)
async def test_other_secrets_stay(api: FakeAPI, running: Running, expiration: str | None, type: str) -> None:
    add_token(api, "kept", expiration, type=type)
    await running.start(TokenCleaner(running.context))
    assert names(api.all("secrets")) == ["kept"]


async def test_a_token_whose_expiration_cannot_be_read_goes(api: FakeAPI, running: Running) -> None:
    add_token(api, "broken", "tomorrow")
    await running.start(TokenCleaner(running.context))
    assert api.all("secrets") == []
