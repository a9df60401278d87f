# ruff: noqa: ASYNC240
"""Serving certificates that the cluster signs, and what the kubelet's port shows meanwhile."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from kubecore import _native
from kubecore.clock import VirtualClock
from kubecore.kubelet.requested_certificates import REQUESTS, Names, RequestedCertificates
from kubecore.kubelet.serving.access import KubeletAccess
from kubecore.kubelet.serving.server import KubeletServer, ServerConfig
from tests.support.fake_api import FakeAPI
from tests.unit.kubelet.conftest import Node

Object = dict[str, Any]

GET_PODS = b"GET /pods HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
LIFE = timedelta(hours=1)
NAMES = Names("node", ("10.0.0.1", "fd00::1"))
KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])


class Signing:
    """Requests of a node, and who answers them."""

    def __init__(self, folder: Path, api: FakeAPI, clock: VirtualClock, names: Names = NAMES) -> None:
        self.api = api
        self.clock = clock
        self.certificates = RequestedCertificates(api.client("kubelet"), clock, folder, names)
        self._task = asyncio.create_task(self.certificates.run())

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)
        for _ in range(20):
            await self.clock.settle()

    def requests(self) -> list[Object]:
        return self.api.all(REQUESTS)

    def sign(self) -> bytes:
        """The request that was not answered yet."""
        (request,) = pending(self.api)
        signed = certificate(request, self.clock)
        self.answer(request, {"certificate": base64.b64encode(signed).decode()})
        return signed

    def answer(self, request: Object, status: Object) -> None:
        self.api.change(REQUESTS, request["metadata"]["name"], namespace="", status=status)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def pending(api: FakeAPI) -> list[Object]:
    return [one for one in api.all(REQUESTS) if "certificate" not in one.get("status", {})]


def certificate(request: Object, clock: VirtualClock, *, key: Any = None, names: Any = None) -> bytes:
    """As it was asked for, or of another key, or for other names."""
    asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
    names = names or asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateBuilder().subject_name(asked.subject).issuer_name(ISSUER)
    builder = builder.public_key(key or asked.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(names, critical=False)
    builder = builder.not_valid_before(clock.now()).not_valid_after(clock.now() + LIFE)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


OTHER = x509.SubjectAlternativeName([x509.DNSName("other")])
# An x400Address, which nobody reads.
STRANGE = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x02\xa3\x00")
BROKEN: dict[str, Callable[[Object, VirtualClock], bytes]] = {
    "of another key": lambda request, clock: certificate(request, clock, key=KEY.public_key()),
    "for other names": lambda request, clock: certificate(request, clock, names=OTHER),
    "for names of a strange kind": lambda request, clock: certificate(request, clock, names=STRANGE),
    "no PEM": lambda request, clock: b"certificate",
    "no certificate": lambda request, clock: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
}


@pytest.fixture
def api(clock: VirtualClock) -> FakeAPI:
    return FakeAPI(clock)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_a_node_asks_for_a_certificate_for_its_names(api: FakeAPI, clock: VirtualClock, tmp_path: Path) -> None:
    signing = Signing(tmp_path, api, clock)
    await signing.settle()
    (request,) = signing.requests()
    spec = request["spec"]
    assert spec["signerName"] == "kubernetes.io/kubelet-serving"
    assert spec["usages"] == ["digital signature", "server auth"]
    asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert asked.subject.rfc4514_string() == "CN=system:node:node,O=system:nodes"
    named = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named.get_values_for_type(x509.DNSName) == ["node"]
    assert [str(one) for one in named.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1"]
    assert signing.certificates.current is None
    signed = signing.sign()
    await signing.settle()
    assert signing.certificates.current is not None
    assert signing.certificates.current.certificate == signed
    await signing.stop()


async def test_the_next_kubelet_takes_the_certificate_as_long_as_it_is_good(
    api: FakeAPI, clock: VirtualClock, tmp_path: Path
) -> None:
    first = Signing(tmp_path, api, clock)
    await first.settle()
    signed = first.sign()
    await first.settle()
    await first.stop()
    second = Signing(tmp_path, api, clock)
    await second.settle(LIFE.total_seconds() * 0.6)
    assert second.certificates.current is not None
    assert second.certificates.current.certificate.startswith(signed)
    assert len(api.all(REQUESTS)) == 1
    await second.stop()
    elsewhere = Signing(tmp_path, api, clock, Names("node", ("10.0.0.2",)))
    await elsewhere.settle()
    assert elsewhere.certificates.current is None
    assert len(api.all(REQUESTS)) == 2
    await elsewhere.stop()


async def test_a_certificate_is_replaced_before_it_expires(api: FakeAPI, clock: VirtualClock, tmp_path: Path) -> None:
    signing = Signing(tmp_path, api, clock)
    await signing.settle()
    first = signing.sign()
    await signing.settle(LIFE.total_seconds() * 0.69)
    assert len(signing.requests()) == 1
    await signing.settle(LIFE.total_seconds() * 0.22)
    assert signing.certificates.current is not None
    assert signing.certificates.current.certificate == first
    second = signing.sign()
    await signing.settle()
    assert signing.certificates.current.certificate == second
    assert len(list(tmp_path.iterdir())) == 2  # it, and the link to it
    await signing.stop()


@pytest.mark.parametrize("kind", ["Denied", "Failed", "deleted", "unanswered"])
async def test_a_request_that_comes_to_nothing_is_made_again(
    api: FakeAPI, clock: VirtualClock, tmp_path: Path, kind: str
) -> None:
    signing = Signing(tmp_path, api, clock)
    await signing.settle()
    name = signing.requests()[0]["metadata"]["name"]
    if kind == "deleted":
        await api.client().delete(REQUESTS, name)
    elif kind == "unanswered":
        await signing.settle(15 * 60)
    else:
        signing.answer(signing.requests()[0], {"conditions": [{"type": kind, "status": "True", "reason": "R"}]})
    await signing.settle()
    others = [one for one in signing.requests() if one["metadata"]["name"] != name]
    assert others == []
    await signing.settle(2)
    assert len([one for one in signing.requests() if one["metadata"]["name"] != name]) == 1
    await signing.stop()


@pytest.mark.parametrize("kind", sorted({*BROKEN, "no base64"}))
async def test_a_certificate_that_cannot_be_shown_is_asked_for_again(
    api: FakeAPI, clock: VirtualClock, tmp_path: Path, kind: str
) -> None:
    signing = Signing(tmp_path, api, clock)
    await signing.settle()
    (request,) = signing.requests()
    told = base64.b64encode(BROKEN[kind](request, clock)).decode() if kind in BROKEN else "A"
    signing.answer(request, {"certificate": told})
    await signing.settle(2)
    assert signing.certificates.current is None
    assert list(tmp_path.iterdir()) == []
    signed = signing.sign()
    await signing.settle()
    assert signing.certificates.current is not None
    assert signing.certificates.current.certificate == signed
    await signing.stop()


# ---------------------------------------------------------------------- the port


async def shown(port: int) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """The certificate (DER) at the port, and the connection. OSError where there is none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    told = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert told is not None
    return told, reader, writer


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


async def test_the_port_shows_the_newest_certificate_and_nothing_before_the_first(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def nobody(*_: Any) -> None:
        begun.set()
        await go_on.wait()

    made: list[_native.Front] = []

    def counted(*given: Any) -> _native.Front:
        made.append(real(*given))
        return made[-1]

    real = _native.Front
    monkeypatch.setattr(_native, "Front", counted)
    monkeypatch.setattr(KubeletAccess, "who", nobody)
    config = ServerConfig(0, None, None, None, tmp_path, bootstrap=True)
    server = KubeletServer(node.kubelet, node.api.client("kubelet"), config, node.clock)
    server.listen("127.0.0.1")
    serving = asyncio.create_task(server.serve())
    await node.settle()
    with pytest.raises(OSError):
        await shown(server.port)
    connections = []
    for number in range(3):
        (request,) = pending(node.api)
        signed = certificate(request, node.clock)
        status = {"certificate": base64.b64encode(signed).decode()}
        node.api.change(REQUESTS, request["metadata"]["name"], namespace="", status=status)
        await node.settle()
        connections.append(await shown(server.port))
        assert connections[-1][0] == der(signed)
        if number == 0:
            connections[0][2].write(GET_PODS)
            await asyncio.wait_for(begun.wait(), 60)
        await node.settle(LIFE.total_seconds() * 0.91)
    go_on.set()
    assert (await asyncio.wait_for(connections[0][1].read(), 60)).startswith(b"HTTP/1.1 401 ")
    assert len(made) == 1  # nothing is left of former certificates but the connections
    for _, _, writer in connections:
        writer.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await asyncio.wait_for(server.close(), 60)
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", server.port)) != 0
