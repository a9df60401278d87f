"""Tokens that were made for accounts unasked go when nobody uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.identities.unused_tokens import UnusedTokenCleaner
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names

DAY = 24 * 3600.0
PERIOD = 10 * DAY
LAST_USED, INVALID = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"


def add_token(api: FakeAPI, name: str = "robot-token", *, uid: str = "", **labels: str) -> None:
    annotations = {"kubernetes.io/service-account.name": "robot", "kubernetes.io/service-account.uid": uid}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    api.add("secrets", {"metadata": metadata, "type": "kubernetes.io/service-account-token"})


def invalid_since(api: FakeAPI, name: str = "robot-token") -> str | None:
    found = api.get("secrets", name)
    return None if found is None else (found["metadata"].get("labels") or {}).get(INVALID)


def add_tracking(api: FakeAPI, since: str = "2026-01-01") -> None:
    api.add("configmaps", {"metadata": {"name": TRACKING}, "data": {"since": since}}, "kube-system")


@pytest.fixture
async def cleaner(api: FakeAPI, running: Running) -> AsyncIterator[Running]:
    """An account that names the Secrets `robot-token` and `other-token` as its own."""
    api.add(
        "serviceaccounts",
        {"metadata": {"name": "robot"}, "secrets": [{"name": "robot-token"}, {"name": "other-token"}]},
    )
    await running.start(UnusedTokenCleaner(running.context, period_seconds=PERIOD))
    yield running


async def test_one_that_nobody_uses_is_marked_invalid_and_deleted_later(
    api: FakeAPI, cleaner: Running, clock: VirtualClock
) -> None:
    add_tracking(api)
    add_token(api)
    await clock.advance(10 * DAY)
    assert invalid_since(api) is None
    await clock.advance(2 * DAY)
    assert invalid_since(api) == "2026-01-12"
    await clock.advance(9 * DAY)
    assert names(api.all("secrets")) == ["robot-token"]
    await clock.advance(2 * DAY)
    assert names(api.all("secrets")) == []


async def test_one_that_is_used_meanwhile_stays(api: FakeAPI, cleaner: Running, clock: VirtualClock) -> None:
    add_tracking(api)
    add_token(api)
    await clock.advance(8 * DAY)
    api.change("secrets", "robot-token", metadata={"labels": {LAST_USED: "2026-01-09"}})
    await clock.advance(9 * DAY)
    assert invalid_since(api) is None
    await clock.advance(5 * DAY)
    assert invalid_since(api) is not None


async def test_a_mark_that_is_no_day_is_made_anew(api: FakeAPI, cleaner: Running, clock: VirtualClock) -> None:
    add_tracking(api)
    add_token(api, **{INVALID: "some day"})
    await clock.advance(12 * DAY)
    assert invalid_since(api) == "2026-01-12"


@pytest.mark.parametrize("since", [None, "2026-01-08", "some day"])
async def test_nothing_goes_that_nobody_has_watched_for_long_enough(
    api: FakeAPI, cleaner: Running, clock: VirtualClock, since: str | None
) -> None:
    if since is not None:
        add_tracking(api, since)
    add_token(api)
    await clock.advance(17 * DAY)
    assert invalid_since(api) is None


@pytest.mark.parametrize(
    "token",
    [
        pytest.param({"name": "made-by-hand"}, id="its account does not name it"),
        pytest.param({"uid": "of-another"}, id="of an account that is no more"),
        pytest.param({LAST_USED: "some day"}, id="used on what is no day"),
    ],
)
async def test_some_stay(api: FakeAPI, cleaner: Running, clock: VirtualClock, token: Any) -> None:
    add_tracking(api)
    add_token(api, **token)
    await clock.advance(30 * DAY)
    assert invalid_since(api, token.get("name", "robot-token")) is None
    assert len(api.all("secrets")) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"imagePullSecrets": [{"name": "robot-token"}]},
        {"volumes": [{"name": "v", "secret": {"secretName": "robot-token"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "robot-token"}}]}}]},
        {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "robot-token"}}}]},
        {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "robot-token"}}]}]},
        {
            "initContainers": [
                {"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "robot-token"}}}]}
            ]
        },
    ],
)
async def test_and_what_a_pod_refers_to(api: FakeAPI, cleaner: Running, clock: VirtualClock, spec: Object) -> None:
    add_tracking(api)
    api.add("pods", {"metadata": {"name": "user"}, "spec": {"containers": [], **spec}})
    for name in ("robot-token", "other-token"):
        add_token(api, name)
    await clock.advance(12 * DAY)
    assert (invalid_since(api, "robot-token"), invalid_since(api, "other-token")) == (None, "2026-01-12")
