"""Which servers webhooks are called at over TLS, as Go's clients take them, and what is told of others."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kubecore.apiserver.webhooks.calling import Target, WebhookCaller, WebhookError
from kubecore.apiserver.webhooks.credentials import Credential
from kubecore.clock import RealClock
from tests.support.http_peers import read_body, read_head
from tests.support.http_peers import serving as listening

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
NOW = datetime.now(UTC)


class Pair(NamedTuple):
    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())

    @property
    def bundle(self) -> str:
        return base64.b64encode(self.pem).decode()


def on_p256() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def on_p521() -> Key:
    return ec.generate_private_key(ec.SECP521R1())


def issued(
    name: str,
    by: Pair | None = None,
    *,
    key: Key | None = None,
    authority: bool = False,
    names: tuple[x509.GeneralName, ...] = (),
    days: tuple[int, int] = (-1, 1),
    limits: x509.NameConstraints | None = None,
) -> Pair:
    """By itself where nobody is named."""
    own = key or on_p256()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if limits is not None:
        made = made.add_extension(limits, critical=True)
    signer = by.key if by else own
    large = isinstance(signer, ec.EllipticCurvePrivateKey) and signer.curve.key_size > 256
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA512() if large else hashes.SHA256()
    return Pair(made.sign(signer, digest), own)


def ca(**options: object) -> Pair:
    return issued("an authority", authority=True, **options)  # type: ignore[arg-type]


def server(by: Pair, **options: object) -> Pair:
    return issued("a server", by, **{"names": (LOOPBACK,), **options})  # type: ignore[arg-type]


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_body(reader, await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()


def server_context(shown: Pair, folder: Path, *more: Pair, clients: Pair | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = folder / "server.pem"
    file.write_bytes(shown.key_pem + shown.pem + b"".join(one.pem for one in more))
    context.load_cert_chain(file)
    if clients is not None:
        context.load_verify_locations(cadata=clients.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def served(shown: Pair, folder: Path, *more: Pair, clients: Pair | None = None) -> AsyncIterator[int]:
    """The port of a webhook that shows this certificate, and more. `clients`: who must have issued its clients'."""
    context = server_context(shown, folder, *more, clients=clients)
    async with listening(answering, tls=context) as port:
        yield port


@asynccontextmanager
async def caller() -> AsyncIterator[WebhookCaller]:
    made = WebhookCaller(None, RealClock())  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


async def asked(port: int, bundle: str, credential: Credential | None = None) -> bytes:
    async with caller() as calls:
        target = Target(url=f"https://127.0.0.1:{port}/", ca_bundle=bundle)
        shown = {} if credential is None else {"credential": credential}
        return await calls.post(target, b"{}", timeout_seconds=10, **shown)


async def why_not(port: int, bundle: str, credential: Credential | None = None) -> str:
    with pytest.raises(WebhookError) as refused:
        await asked(port, bundle, credential)
    return str(refused.value)


@pytest.mark.parametrize(
    "key", [on_p256, on_p521, ed25519.Ed25519PrivateKey.generate, lambda: rsa.generate_private_key(65537, 2048)]
)
async def test_keys_may_be_of_any_kind_that_go_knows(key: Callable[[], Key], tmp_path: Path) -> None:
    authority = ca(key=key())
    async with served(server(authority, key=key()), tmp_path) as port:
        assert await asked(port, authority.bundle) == b"{}"


async def test_a_servers_certificate_that_is_trusted_itself_will_do(tmp_path: Path) -> None:
    own = issued("a server", authority=True, names=(LOOPBACK,))
    async with served(own, tmp_path) as port:
        assert await asked(port, own.bundle) == b"{}"


async def test_a_servers_certificate_may_be_an_authoritys(tmp_path: Path) -> None:
    authority = ca()
    async with served(server(authority, authority=True), tmp_path) as port:
        assert await asked(port, authority.bundle) == b"{}"


@pytest.mark.parametrize("is_authority", [False, True])
async def test_an_authority_vouches_for_the_names_that_it_may_and_no_others(is_authority: bool, tmp_path: Path) -> None:
    elsewhere = x509.NameConstraints([x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))], None)
    authority = ca(limits=elsewhere)
    async with served(server(authority, authority=is_authority), tmp_path) as port:
        assert "tls: " in await why_not(port, authority.bundle)


async def test_a_servers_certificate_may_be_issued_by_an_intermediate_authority(tmp_path: Path) -> None:
    root = ca()
    between = issued("in between", root, authority=True)
    async with served(server(between), tmp_path, between) as port:
        assert await asked(port, root.bundle) == b"{}"
        assert await asked(port, between.bundle) == b"{}"


NAMES = (x509.DNSName("a.example.com"), x509.DNSName("b"), x509.IPAddress(ipaddress.ip_address("10.1.2.3")))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"names": NAMES}, "certificate is valid for 10.1.2.3, not 127.0.0.1"),
        ({"names": NAMES[:2]}, "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"),
        ({"days": (-3, -2)}, "certificate has expired or is not yet valid: current time "),
        ({"days": (2, 3)}, "certificate has expired or is not yet valid: current time "),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_told_in_gos_words(
    options: dict[str, object], told: str, tmp_path: Path
) -> None:
    authority = ca()
    async with served(server(authority, **options), tmp_path) as port:
        url = rf"https://127\.0\.0\.1:{port}/\?timeout=10s"
        expected = rf'Post "{url}": tls: failed to verify certificate: x509: {re.escape(told)}'
        assert re.match(expected, await why_not(port, authority.bundle))


async def test_an_authority_vouches_for_nobody_once_its_time_is_over(tmp_path: Path) -> None:
    authority = ca(days=(-3, -2))
    async with served(server(authority), tmp_path) as port:
        told = await why_not(port, authority.bundle)
        assert "x509: certificate has expired or is not yet valid: current time " in told
        successor = issued("an authority", authority=True, key=authority.key)
        both = base64.b64encode(authority.pem + successor.pem).decode()
        assert await asked(port, both) == b"{}"


@pytest.mark.parametrize("is_authority", [False, True])
async def test_a_servers_certificate_that_another_one_is_trusted_for_is_told(
    is_authority: bool, tmp_path: Path
) -> None:
    stale, own = (issued("a server", authority=is_authority, names=(LOOPBACK,)) for _ in range(2))
    async with served(own, tmp_path) as port:
        assert (await why_not(port, stale.bundle)).endswith("x509: certificate signed by unknown authority")


async def test_of_a_wrong_name_and_a_strange_authority_the_name_is_told(tmp_path: Path) -> None:
    async with served(server(ca(), names=NAMES), tmp_path) as port:
        assert (await why_not(port, ca().bundle)).endswith("certificate is valid for 10.1.2.3, not 127.0.0.1")


async def test_an_answer_may_be_packed(tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        await read_body(reader, head)
        assert head.headers["accept-encoding"] == "gzip"
        body = gzip.compress(b'{"packed": true}')
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    authority = ca()
    async with listening(handle, tls=server_context(server(authority), tmp_path)) as port:
        assert await asked(port, authority.bundle) == b'{"packed": true}'


async def test_a_strange_authority_is_told(tmp_path: Path) -> None:
    async with served(server(ca()), tmp_path) as port:
        told = await why_not(port, ca().bundle)
        assert told.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")


async def test_without_a_bundle_whoever_this_machine_trusts_may_vouch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = ca()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    async with served(server(authority), tmp_path) as port:
        assert (await why_not(port, "")).endswith("x509: certificate signed by unknown authority")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert await asked(port, "") == b"{}"


async def test_a_bundle_without_certificates_is_told(tmp_path: Path) -> None:
    bundle = base64.b64encode(b"nothing").decode()
    told = await why_not(1, bundle)
    assert told.endswith("unable to load root certificates: unable to parse bytes as PEM block")


async def test_a_client_certificate_is_shown_to_who_asks(tmp_path: Path) -> None:
    authority, clients = ca(), ca()
    own = issued("a client", clients)
    async with served(server(authority), tmp_path, clients=clients) as port:
        assert await asked(port, authority.bundle, Credential(certificate=own.pem, key=own.key_pem)) == b"{}"


async def test_who_refuses_a_client_certificate_is_told_of(tmp_path: Path) -> None:
    authority, strange = ca(), issued("a client", issued("another authority", authority=True))
    context = server_context(server(authority), tmp_path, clients=ca())

    def refuse(listener: socket.socket) -> None:
        # Not asyncio's, which does not send what it has to say before it closes.
        connection, _ = listener.accept()
        with connection, suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for credential, told in (
            (None, "certificate required"),
            (Credential(certificate=strange.pem, key=strange.key_pem), "unknown certificate authority"),
        ):
            refusing = asyncio.ensure_future(asyncio.to_thread(refuse, listener))
            assert (await why_not(port, authority.bundle, credential)).endswith(f": remote error: tls: {told}")
            await refusing


async def test_a_certificate_with_another_ones_key_is_told(tmp_path: Path) -> None:
    authority = ca()
    one, other = issued("a client", authority), issued("a client", authority)
    async with served(server(authority), tmp_path) as port:
        told = await why_not(port, authority.bundle, Credential(certificate=one.pem, key=other.key_pem))
    assert told == "tls: private key does not match public key"


# --- what is no answer


async def test_who_speaks_no_tls_is_told() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(handle) as port:
        told = await why_not(port, ca().bundle)
    assert told.endswith("tls: first record does not look like a TLS handshake")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", 'Post "{url}": EOF'),
        (b"nonsense\r\n\r\n", 'Post "{url}": net/http: HTTP/1.x transport connection broken: malformed HTTP response'),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
            "unexpected error when reading response body. Please retry. Original error: unexpected EOF",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n", "redirection"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            "unexpected error when reading response body. Please retry. Original error: gzip: ",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "0-length response with status code: 204"),
    ],
)
async def test_an_answer_that_is_none_is_told(sent: bytes, told: str, tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, await read_head(reader))
        writer.write(sent)
        await writer.drain()
        writer.close()

    authority = ca()
    async with listening(handle, tls=server_context(server(authority), tmp_path)) as port:
        found = await why_not(port, authority.bundle)
    assert told.format(url=f"https://127.0.0.1:{port}/?timeout=10s") in found


async def test_a_connection_that_has_ended_meanwhile_is_made_anew(tmp_path: Path) -> None:
    authority, connections = ca(), 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_body(reader, await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with listening(handle, tls=server_context(server(authority), tmp_path)) as port, caller() as calls:
        target = Target(url=f"https://127.0.0.1:{port}/", ca_bundle=authority.bundle)
        for _ in range(5):
            assert await calls.post(target, b"{}", timeout_seconds=10) == b"{}"
            [client] = calls._clients.values()
            while client.keeps("127.0.0.1", port):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
    assert connections == 5


async def test_who_waits_when_the_server_ends_is_told() -> None:
    asked_for = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for.set()
        await reader.read()

    async with listening(handle) as port:
        made = WebhookCaller(None, RealClock())  # type: ignore[arg-type]
        target = Target(url=f"https://127.0.0.1:{port}/", ca_bundle=ca().bundle)
        call = asyncio.ensure_future(made.post(target, b"{}", timeout_seconds=10))
        await asked_for.wait()
        await made.close()
        with pytest.raises(WebhookError, match="the API server is shutting down"):
            await call


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://127.0.0.1:1/x", "dial tcp 127.0.0.1:1: connect: connection refused"),
        ("https://localhost:1/x", ":1: connect: connection refused"),
        ("https://no-such-host.invalid/x", "dial tcp: lookup no-such-host.invalid: "),
        ("https://127.0.0.1:99999/x", "dial tcp: address 99999: invalid port"),
    ],
)
async def test_who_cannot_be_reached_is_told(url: str, told: str) -> None:
    async with caller() as calls:
        with pytest.raises(WebhookError, match=re.escape(told)):
            await calls.post(Target(url=url, ca_bundle=ca().bundle), b"{}", timeout_seconds=10)


async def test_a_token_that_is_no_header_is_told() -> None:
    told = await why_not(1, ca().bundle, Credential(authorization="Bearer a\nb"))
    assert 'net/http: invalid header field value for "Authorization"' in told
