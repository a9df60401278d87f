"""Service account tokens that pods have as files."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubecore.api import errors, meta
from kubecore.clock import VirtualClock
from kubecore.kubelet.pods.fields import NodeFacts
from kubecore.kubelet.volumes.manager import VolumeManager
from kubecore.kubelet.volumes.sources import VolumeError, VolumeSurroundings
from kubecore.kubelet.volumes.tokens import TokenManager

Object = dict[str, Any]


class Client:
    """Gives a token after the other, each for as long as it was asked for."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.asked: list[Object] = []
        self.down = False

    async def create(self, resource: str, body: Object, namespace: str, **fields: str) -> Object:
        if self.down:
            raise errors.internal_error("down")
        self.asked.append(body["spec"])
        expires = self._clock.now() + timedelta(seconds=body["spec"]["expirationSeconds"])
        return {"status": {"token": f"token{len(self.asked)}", "expirationTimestamp": meta.format_time(expires)}}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def client(clock: VirtualClock) -> Client:
    return Client(clock)


def pod(**spec: Any) -> Object:
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 1000, "audience": "me"}}
    volume = {"name": "t", "projected": {"sources": [source]}}
    containers = [{"name": "main"}]
    metadata = {"name": "pod", "namespace": "default", "uid": "u"}
    return {"metadata": metadata, "spec": {"containers": containers, "volumes": [volume], **spec}}


async def set_up(root: Path, clock: VirtualClock, tokens: TokenManager, one: Object) -> Path:
    node = NodeFacts("node", ("10.0.0.1",), {})
    around = VolumeSurroundings(node, (), lambda *_: None, tokens.token)
    volumes = await VolumeManager(root, clock).set_up(one, around)
    return volumes["t"].path / "token"


async def test_a_token_is_bound_to_its_pod_and_replaced_after_four_fifths_of_its_life(
    tmp_path: Path, clock: VirtualClock, client: Client
) -> None:
    tokens = TokenManager(client, clock)  # type: ignore[arg-type]
    file = await set_up(tmp_path, clock, tokens, pod())
    assert file.read_text() == "token1"
    assert client.asked[0]["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "pod", "uid": "u"}
    assert client.asked[0]["audiences"] == ["me"]
    assert tokens.next_refresh("u") == clock.now() + timedelta(seconds=800)
    await clock.advance(799)
    assert (await set_up(tmp_path, clock, tokens, pod())).read_text() == "token1"
    await clock.advance(1)
    assert (await set_up(tmp_path, clock, tokens, pod())).read_text() == "token2"


async def test_an_old_token_stays_while_no_new_one_can_be_had(
    tmp_path: Path, clock: VirtualClock, client: Client
) -> None:
    tokens = TokenManager(client, clock)  # type: ignore[arg-type]
    await set_up(tmp_path, clock, tokens, pod())
    client.down = True
    await clock.advance(900)
    assert (await set_up(tmp_path, clock, tokens, pod())).read_text() == "token1"
    tokens.forget("u")
    with pytest.raises(VolumeError, match="failed to fetch token"):
        await tokens.token(pod(), "me", 1000)


@pytest.mark.parametrize(
    ("spec", "mode", "user"),
    [
        ({}, 0o644, None),
        ({"securityContext": {"runAsUser": 1234}}, 0o600, 1234),
        ({"securityContext": {"runAsUser": 1234, "fsGroup": 5}}, 0o640, 1234),
        (
            {
                "securityContext": {"runAsUser": 1234},
                "initContainers": [{"name": "i", "securityContext": {"runAsUser": 1}}],
            },
            0o644,
            None,
        ),
    ],
)
async def test_only_whom_it_is_for_may_read_it(
    tmp_path: Path, clock: VirtualClock, client: Client, spec: Object, mode: int, user: int | None
) -> None:
    tokens = TokenManager(client, clock)  # type: ignore[arg-type]
    file = await set_up(tmp_path, clock, tokens, pod(**spec))
    assert stat.S_IMODE(file.stat().st_mode) == mode
    if os.geteuid() == 0:
        assert file.stat().st_uid == (0 if user is None else user)
