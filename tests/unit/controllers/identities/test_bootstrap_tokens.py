"""Bootstrap tokens expire, and sign the cluster's information while they live."""

from __future__ import annotations

import base64

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.identities.bootstrap_tokens import BootstrapSigner, TokenCleaner
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names

CONTENT = "Hello from the other side. I must have called a thousand times."
# RFC 7515 appendix F, as cluster-bootstrap's own tests have it.
SIGNED = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"


def token(token_id: str, secret: str = "my voice is my passcode", **data: str) -> Object:
    given = {"token-id": token_id, "token-secret": secret, "usage-bootstrap-signing": "true", **data}
    return {
        "metadata": {"name": f"bootstrap-token-{token_id}"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in given.items() if value},
    }


def info(api: FakeAPI) -> dict[str, str]:
    found = api.get("configmaps", "cluster-info", "kube-public")
    assert found is not None
    data: dict[str, str] = found["data"]
    return data


async def test_tokens_go_when_their_time_is_over(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add("secrets", token("aaaaaa", expiration="2026-01-01T00:10:00Z"), "kube-system")
    api.add("secrets", token("bbbbbb", expiration="some day"), "kube-system")
    api.add("secrets", token("cccccc"), "kube-system")
    other = {**token("dddddd", expiration="2025-01-01T00:00:00Z"), "type": "Opaque"}
    api.add("secrets", other, "kube-system")
    await running.start(TokenCleaner(running.context))
    left = ["bootstrap-token-cccccc", "bootstrap-token-dddddd"]
    assert names(api.all("secrets")) == ["bootstrap-token-aaaaaa", *left]
    await clock.advance(601)
    assert names(api.all("secrets")) == left


async def test_each_token_signs_the_kubeconfig(api: FakeAPI, running: Running) -> None:
    data = {"kubeconfig": CONTENT, "jws-kubeconfig-oldone": "x..y", "more": "kept"}
    api.add("configmaps", {"metadata": {"name": "cluster-info"}, "data": data}, "kube-public")
    api.add("secrets", token("joshua"), "kube-system")
    api.add("secrets", token("expire", expiration="2025-01-01T00:00:00Z"), "kube-system")
    api.add("secrets", token("silent", **{"usage-bootstrap-signing": "false"}), "kube-system")
    misnamed = token("wrongs")
    misnamed["metadata"]["name"] = "bootstrap-token-rights"
    api.add("secrets", misnamed, "kube-system")
    await running.start(BootstrapSigner(running.context))
    assert info(api) == {"kubeconfig": CONTENT, "more": "kept", "jws-kubeconfig-joshua": SIGNED}
    api.remove("secrets", "bootstrap-token-joshua", "kube-system")
    await running.settle()
    assert info(api) == {"kubeconfig": CONTENT, "more": "kept"}


async def test_without_information_nothing_is_written(api: FakeAPI, running: Running) -> None:
    api.add("secrets", token("joshua"), "kube-system")
    await running.start(BootstrapSigner(running.context))
    assert api.requests == []
