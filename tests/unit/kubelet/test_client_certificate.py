"""The certificate that a node is known by, and how it gets another one."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubecore import self_signed
from kubecore.client.http import HTTPTransport
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.clock import RealClock, VirtualClock
from kubecore.kubelet.client_certificate import kept
from kubecore.kubelet.requested_certificates import REQUESTS
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from tests.support.fake_api import FakeAPI

Object = dict[str, Any]

LIFE, BACKDATED = timedelta(hours=1), timedelta(minutes=5)


class Authority:
    """One that signs, of this name. `identified`: certificates tell of its key. `pem`: its own certificate."""

    def __init__(self, name: str = "kubernetes", *, identified: bool = True) -> None:
        self._identified = identified
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self._signed(self._name, self._key.public_key(), datetime(2025, 1, 1, tzinfo=UTC), 10 * 365 * LIFE)

    def sign(self, asked: x509.CertificateSigningRequest, begin: datetime, life: timedelta) -> bytes:
        """PEM."""
        return self._signed(asked.subject, asked.public_key(), begin, life)

    def give(self, begin: datetime, life: timedelta = LIFE) -> bytes:
        """A certificate that nobody has asked for."""
        return self._signed(x509.Name([]), ec.generate_private_key(ec.SECP256R1()).public_key(), begin, life)

    def _signed(self, subject: x509.Name, key: Any, begin: datetime, life: timedelta) -> bytes:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(begin).not_valid_after(begin + life)
        if self._identified:
            known = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            builder = builder.add_extension(known, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Transport:
    """`known_by`: the certificates that it has been given, without their keys."""

    def __init__(self) -> None:
        self.known_by: list[bytes] = []

    def use_certificate(self, certificate: bytes, key: bytes) -> None:
        self.known_by.append(certificate)


class Node:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self.transport = Transport()
        self.begun = asyncio.Event()
        self.authority = Authority()

    @asynccontextmanager
    async def running(self, **credentials: Any) -> AsyncIterator[None]:
        """A kubelet, whose kubeconfig has these. It leaves no task behind."""
        file = self.folder / "kubeconfig"
        Kubeconfig(server="https://127.0.0.1:1", **credentials).save(file)
        self.transport.known_by.clear()
        self.begun.clear()
        before = asyncio.all_tasks()
        self.task = asyncio.create_task(self._run(file))
        await self.settle()
        yield
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        assert asyncio.all_tasks() == before

    async def _run(self, file: Path) -> None:
        settings = KubeletConfig(node_name="node", root_dir=self.folder)
        transport: Any = self.transport
        async with kept(file, settings, self.api.client("kubelet"), transport, self.clock):
            self.begun.set()
            await asyncio.Event().wait()

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)
        for _ in range(20):
            await self.clock.settle()

    def pending(self) -> list[Object]:
        return [one for one in self.api.all(REQUESTS) if "certificate" not in one.get("status", {})]

    async def sign(self) -> bytes:
        """The request that was not answered yet."""
        (request,) = self.pending()
        asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        signed = self.authority.sign(asked, self.clock.now() - BACKDATED, LIFE)
        status = {"certificate": base64.b64encode(signed).decode()}
        self.api.change(REQUESTS, request["metadata"]["name"], namespace="", status=status)
        await self.settle()
        return signed


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_the_certificate_of_the_kubeconfig_is_used_until_the_node_has_its_own(node: Node) -> None:
    async with node.running(client_certificate=b"first", client_key=b"key"):
        assert (node.begun.is_set(), node.transport.known_by) == (True, [b"first"])
        (request,) = node.pending()
        assert request["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
        assert request["spec"]["usages"] == ["digital signature", "client auth"]
        asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        assert asked.subject.rfc4514_string() == "CN=system:node:node,O=system:nodes"
        assert len(asked.extensions) == 0
        signed = await node.sign()
        assert node.transport.known_by == [b"first", signed]


async def test_a_node_that_has_a_token_alone_begins_once_it_has_a_certificate(node: Node) -> None:
    async with node.running(token="abcdef.0123456789abcdef"):
        assert (node.begun.is_set(), node.transport.known_by) == (False, [])
        signed = await node.sign()
        assert (node.begun.is_set(), node.transport.known_by) == (True, [signed])


async def test_a_certificate_is_replaced_before_it_ends(node: Node) -> None:
    async with node.running(token="t"):
        first = await node.sign()
        await node.settle((LIFE * 0.69 - BACKDATED).total_seconds())
        assert node.pending() == []
        await node.settle(LIFE.total_seconds() * 0.22)
        second = await node.sign()
        assert node.transport.known_by == [first, second]


async def test_the_next_kubelet_has_what_the_node_was_signed_last(node: Node) -> None:
    async with node.running(client_certificate=b"first", client_key=b"key"):
        signed = await node.sign()
    async with node.running(client_certificate=b"first", client_key=b"key"):
        assert [one.startswith(signed) for one in node.transport.known_by] == [True]
        assert node.pending() == []


@pytest.mark.parametrize("life", [timedelta(minutes=10), 2 * LIFE])
async def test_a_newer_certificate_of_its_kubeconfig_is_not_used_before_its_own(node: Node, life: timedelta) -> None:
    given = node.authority.give(node.clock.now(), life)
    credentials = {"client_certificate": given, "client_key": b"key", "certificate_authority": node.authority.pem}
    async with node.running(**credentials):
        signed = await node.sign()
    await node.clock.advance(20 * 60)
    async with node.running(**credentials):
        assert [one.startswith(signed) for one in node.transport.known_by] == [True]
        assert node.pending() == []


async def test_that_a_node_waits_for_its_certificate_is_told_unless_it_has_one(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kubecore.kubelet.client_certificate")
    async with node.running(token="t"):
        assert [one.message for one in caplog.records] == [
            "node node waits until there is a certificate: its request has to be approved"
        ]
        await node.sign()
    caplog.clear()
    async with node.running(token="t"):
        assert (node.begun.is_set(), caplog.records) == (True, [])


async def test_a_kubelet_that_ends_while_it_waits_for_its_certificate_leaves_nothing_running(node: Node) -> None:
    async with node.running(token="t"):
        assert not node.begun.is_set()


async def test_a_kubelet_does_not_begin_with_a_certificate_that_cannot_be_used(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(certificate: bytes, key: bytes) -> None:
        raise ValueError("no certificate")

    monkeypatch.setattr(node.transport, "use_certificate", refuse)
    async with node.running(client_certificate=b"first", client_key=b"key"):
        assert not node.begun.is_set()
        with pytest.raises(ValueError, match="no certificate"):
            await node.task


async def test_a_kubelet_goes_on_and_uses_the_next_certificate_where_one_cannot_be_used(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = node.transport.use_certificate

    def refuse(certificate: bytes, key: bytes) -> None:
        raise ValueError("no certificate")

    async with node.running(client_certificate=b"first", client_key=b"key"):
        monkeypatch.setattr(node.transport, "use_certificate", refuse)
        await node.sign()
        monkeypatch.setattr(node.transport, "use_certificate", use)
        await node.settle((LIFE * 0.92 - BACKDATED).total_seconds())
        signed = await node.sign()
        assert node.transport.known_by == [b"first", signed]


# ---- of another cluster


@pytest.mark.parametrize("identified", [True, False])
async def test_a_certificate_of_a_former_cluster_is_not_used_where_the_kubeconfig_has_one(
    node: Node, identified: bool
) -> None:
    node.authority = Authority(identified=identified)
    async with node.running(client_certificate=b"first", client_key=b"key"):
        await node.sign()
    node.authority = Authority(identified=identified)
    given = node.authority.give(node.clock.now() - BACKDATED)
    ours = {"client_certificate": given, "client_key": b"key", "certificate_authority": node.authority.pem}
    async with node.running(**ours):
        assert node.transport.known_by == [given]
        signed = await node.sign()
    async with node.running(**ours):
        assert [one.startswith(signed) for one in node.transport.known_by] == [True]


async def test_a_node_with_a_token_does_not_begin_with_a_certificate_of_a_former_cluster(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async with node.running(token="t"):
        await node.sign()
    node.authority = Authority()
    async with node.running(token="t", certificate_authority=node.authority.pem):
        assert (node.begun.is_set(), node.transport.known_by) == (False, [])
        assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [
            f"node node asks for a certificate anew: what is in {node.folder / 'pki'} is of another cluster, or of a"
            " former authority"
        ]
        signed = await node.sign()
        assert (node.begun.is_set(), node.transport.known_by) == (True, [signed])


@pytest.mark.parametrize(("first", "identified"), [(True, True), (True, False), (False, True)])
async def test_a_cluster_may_sign_with_an_authority_that_its_kubeconfigs_do_not_name(
    node: Node, first: bool, identified: bool
) -> None:
    node.authority = Authority(identified=identified)
    credentials: dict[str, Any] = {"token": "t", "certificate_authority": Authority("servers").pem}
    if first:
        given = node.authority.give(node.clock.now())
        credentials |= {"client_certificate": given, "client_key": b"key"}
    async with node.running(**credentials):
        signed = await node.sign()
    async with node.running(**credentials):
        assert [one.startswith(signed) for one in node.transport.known_by] == [True]


async def test_what_was_signed_elsewhere_is_used_where_the_kubeconfigs_certificate_has_expired(node: Node) -> None:
    given = Authority("others").give(node.clock.now(), timedelta(minutes=10))
    credentials = {"client_certificate": given, "client_key": b"key", "certificate_authority": Authority("servers").pem}
    async with node.running(**credentials):
        signed = await node.sign()
    async with node.running(**credentials):
        assert node.transport.known_by == [given]
    await node.clock.advance(20 * 60)
    async with node.running(**credentials):
        assert [one.startswith(signed) for one in node.transport.known_by] == [True]


# ---- the transport


async def test_a_transport_is_known_by_its_new_certificate_on_its_next_connection(tmp_path: Path) -> None:
    (authority, key), *clients = (
        self_signed.make(name, RealClock(), hosts=["localhost"], addresses=["127.0.0.1"])
        for name in ("server", "first", "second")
    )
    (tmp_path / "server").write_bytes(authority + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="".join(one.decode() for one, _ in clients))
    seen: list[tuple[str, bytes]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = writer.get_extra_info("peercert")["subject"]
        with suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append((dict(one[0] for one in subject)["commonName"], head))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    config = Kubeconfig(
        server=f"https://127.0.0.1:{port}",
        certificate_authority=authority,
        client_certificate=clients[0][0],
        client_key=clients[0][1],
        token="t",
    )
    transport = HTTPTransport(config)
    assert (await transport.request("GET", "/"))[0] == 200
    transport.use_certificate(*clients[1])
    assert (await transport.request("GET", "/"))[0] == 200
    await transport.close()
    server.close()
    assert [name for name, _ in seen] == ["first", "second"]
    assert [b"Bearer t" in head for _, head in seen] == [True, False]
