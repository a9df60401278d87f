"""The certificate that a node is known by, and how it gets another one."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
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

LIFE = timedelta(hours=1)
KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])


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

    @asynccontextmanager
    async def running(self, **credentials: Any) -> AsyncIterator[None]:
        """A kubelet, whose kubeconfig has these."""
        file = self.folder / "kubeconfig"
        Kubeconfig(server="https://127.0.0.1:1", **credentials).save(file)
        self.transport.known_by.clear()
        self.begun.clear()
        task = asyncio.create_task(self._run(file))
        await self.settle()
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

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

    def certificate(self, asked: x509.CertificateSigningRequest) -> bytes:
        """PEM; its life begins now."""
        builder = x509.CertificateBuilder().subject_name(asked.subject).issuer_name(ISSUER)
        builder = builder.public_key(asked.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(self.clock.now()).not_valid_after(self.clock.now() + LIFE)
        return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pending(self) -> list[Object]:
        return [one for one in self.api.all(REQUESTS) if "certificate" not in one.get("status", {})]

    async def sign(self) -> bytes:
        """The request that was not answered yet."""
        (request,) = self.pending()
        signed = self.certificate(x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"])))
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
        await node.settle(LIFE.total_seconds() * 0.69)
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


async def test_a_certificate_that_somebody_has_given_the_node_since_is_used_before_its_own(node: Node) -> None:
    async with node.running(client_certificate=b"first", client_key=b"key"):
        await node.sign()
    await node.clock.advance(60)
    asked = x509.CertificateSigningRequestBuilder().subject_name(ISSUER).sign(KEY, hashes.SHA256())
    given = node.certificate(asked)
    async with node.running(client_certificate=given, client_key=b"key"):
        assert node.transport.known_by == [given]
        assert len(node.pending()) == 1


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
