"""How a node joins with a bootstrap kubeconfig, and when it need not."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kubecore.api.errors import StatusError
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.clock import VirtualClock
from kubecore.kubelet.bootstrap import is_good, join
from kubecore.kubelet.requested_certificates import REQUESTS, NotSigned
from tests.support.fake_api import FakeAPI
from tests.unit.kubelet.test_client_certificate import BACKDATED, LIFE, Authority

Object = dict[str, Any]


class Joining:
    """A node that joins. `kubeconfig`: what it will have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "etc" / "kubelet.kubeconfig"
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self.authority = Authority()
        self.given = Kubeconfig(
            server="https://127.0.0.1:1", certificate_authority=self.authority.pem, token="abcdef.0123456789abcdef"
        )

    async def begin(self) -> asyncio.Task[None]:
        client = self.api.client("kubelet")
        work = join(self.kubeconfig, self.given, client, self.folder / "pki", "node", self.clock)
        task = asyncio.create_task(work)
        await self.settle()
        return task

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)
        for _ in range(20):
            await self.clock.settle()

    def request(self) -> Object:
        (one,) = self.api.all(REQUESTS)
        return one

    async def answer(self, **status: Any) -> None:
        self.api.change(REQUESTS, self.request()["metadata"]["name"], namespace="", status=status)
        await self.settle()

    async def sign(self) -> bytes:
        asked = x509.load_pem_x509_csr(base64.b64decode(self.request()["spec"]["request"]))
        signed = self.authority.sign(asked, self.clock.now() - BACKDATED, LIFE)
        await self.answer(certificate=base64.b64encode(signed).decode())
        return signed


@pytest.fixture
def joining(tmp_path: Path) -> Joining:
    return Joining(tmp_path)


async def test_a_node_asks_for_a_clients_certificate_in_its_own_name(joining: Joining) -> None:
    task = await joining.begin()
    spec = joining.request()["spec"]
    assert spec["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert asked.subject.rfc4514_string() == "CN=system:node:node,O=system:nodes"
    assert not joining.kubeconfig.exists()
    task.cancel()
    await asyncio.wait([task])


async def test_its_kubeconfig_leads_to_what_was_signed(joining: Joining) -> None:
    task = await joining.begin()
    signed = await joining.sign()
    await task
    own = Kubeconfig.load(joining.kubeconfig)
    assert own.client_certificate == own.client_key
    assert own.client_certificate.startswith(signed)
    serialization.load_pem_private_key(own.client_key, None)
    assert (own.server, own.certificate_authority, own.token) == (joining.given.server, joining.authority.pem, "")
    assert joining.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert str(joining.folder / "pki" / "kubelet-client-current.pem") in joining.kubeconfig.read_text()


async def test_a_kubeconfig_that_is_good_is_left_until_its_certificate_expires(joining: Joining) -> None:
    assert not is_good(joining.kubeconfig, joining.clock.now())
    task = await joining.begin()
    await joining.sign()
    await task
    assert is_good(joining.kubeconfig, joining.clock.now())
    assert not is_good(joining.kubeconfig, joining.clock.now() + LIFE)


@pytest.mark.parametrize("broken", ["", "kind: Config", "{"])
def test_a_kubeconfig_without_a_certificate_is_not_good(joining: Joining, broken: str) -> None:
    joining.kubeconfig.parent.mkdir()
    joining.kubeconfig.write_text(broken)
    assert not is_good(joining.kubeconfig, joining.clock.now())


def test_a_token_alone_is_not_good(joining: Joining) -> None:
    joining.kubeconfig.parent.mkdir()
    joining.given.save(joining.kubeconfig)
    assert not is_good(joining.kubeconfig, joining.clock.now())


async def test_what_was_signed_before_is_taken_where_the_kubeconfig_is_lost(joining: Joining) -> None:
    task = await joining.begin()
    await joining.sign()
    await task
    joining.kubeconfig.unlink()
    await (await joining.begin())
    assert is_good(joining.kubeconfig, joining.clock.now())
    assert len(joining.api.all(REQUESTS)) == 1


async def test_a_request_that_is_denied_ends_it(joining: Joining) -> None:
    task = await joining.begin()
    await joining.answer(conditions=[{"type": "Denied", "status": "True", "reason": "Unknown", "message": "who"}])
    with pytest.raises(NotSigned, match="is denied, reason: Unknown, message: who"):
        await task
    assert not joining.kubeconfig.exists()


async def test_a_request_that_nobody_approves_is_given_up_after_an_hour(joining: Joining) -> None:
    task = await joining.begin()
    await joining.settle(timedelta(minutes=59).total_seconds())
    assert not task.done()
    await joining.settle(61)
    with pytest.raises(NotSigned):
        await task
    assert len(joining.api.all(REQUESTS)) == 1


async def test_a_server_that_refuses_is_not_asked_again(joining: Joining) -> None:
    joining.api.react(f"create {REQUESTS}", StatusError(401, "Unauthorized", "Unauthorized"))
    task = await joining.begin()
    with pytest.raises(StatusError, match="Unauthorized"):
        await task


@pytest.mark.parametrize("error", [ConnectionRefusedError(), StatusError(503, "ServiceUnavailable", "not yet")])
async def test_a_server_that_is_not_ready_yet_is_asked_again(joining: Joining, error: StatusError | OSError) -> None:
    joining.api.react(f"create {REQUESTS}", error)
    task = await joining.begin()
    await joining.settle(2)
    await joining.sign()
    await task
    assert is_good(joining.kubeconfig, joining.clock.now())
