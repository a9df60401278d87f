"""The certificate that the API server shows is renewed while it serves."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from kubecore import _native
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock, VirtualClock

from .serving import served


async def serial(port: int) -> int:
    """Of the certificate that a new connection is shown."""
    context = ssl._create_unverified_context()
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_whoever_connects_after_a_renewal_is_shown_the_new_one(tmp_path: Path) -> None:
    server = APIServer(
        APIServerConfig(data_dir=tmp_path, secure_port=0, grpc_port=0, storage=LMDBConfig(sync=False)), RealClock()
    )
    await server.start()
    try:
        authority = ssl.create_default_context(cadata=server.authority.certificate.decode())
        reader, writer = await asyncio.open_connection("127.0.0.1", server.secure_port, ssl=authority)
        credentials = grpc.ssl_channel_credentials(server.authority.certificate)
        async with grpc.aio.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            await channel.channel_ready()
        first = await serial(server.secure_port)
        server.identity.renew_serving()
        assert await serial(server.secure_port) == first, "it has time left"
        (tmp_path / "pki" / "apiserver.crt").unlink()
        server.identity.renew_serving()
        assert await serial(server.secure_port) != first
        assert await serial(server.grpc_port) == await serial(server.secure_port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "a connection goes on with what it began with"
        writer.close()
    finally:
        await server.stop()


async def served_by(port: int, authority: bytes) -> x509.Certificate:
    """What a client is shown that trusts the authority alone, and goes on only if that does."""
    context = ssl.create_default_context(cadata=authority.decode())
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown)


async def test_a_certificate_that_nears_its_end_is_renewed_by_itself_for_rest_and_grpc(tmp_path: Path) -> None:
    """It is a year's, and due a month before its end; by what is told of time and what the machine says."""
    made = datetime.now(UTC)
    async with served(tmp_path, VirtualClock(made), grpc_port=0) as server:
        before = [
            await served_by(port, server.authority.certificate) for port in (server.secure_port, server.grpc_port)
        ]
    assert before[0] == before[1]
    clock = VirtualClock(made + timedelta(days=334, hours=12))
    async with served(tmp_path, clock, grpc_port=0) as server:
        authority = server.authority.certificate
        ports = (server.secure_port, server.grpc_port)
        kubeconfig = server.kubeconfig.read_bytes()
        assert [await served_by(port, authority) for port in ports] == before, "it has time left"
        await clock.advance(23 * 3600)
        assert [await served_by(port, authority) for port in ports] == before, "it is looked at once a day"
        await clock.advance(2 * 3600)
        after = [await served_by(port, authority) for port in ports]
        assert after[0] == after[1] != before[0]
        assert after[0].not_valid_after_utc - before[0].not_valid_after_utc > timedelta(days=300)
        assert server.kubeconfig.read_bytes() != kubeconfig, "so is the administrator's"
        await clock.advance(31 * 86_400)
        assert before[0].not_valid_after_utc < clock.now(), "whoever showed the old one would be turned away by now"
        assert [await served_by(port, authority) for port in ports] == after
        credentials = grpc.ssl_channel_credentials(authority)
        async with grpc.aio.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)


def test_a_pair_that_is_none_is_refused_and_the_one_there_was_stays(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path, RealClock())
    one, other = authority.serving("one", ["localhost"]), authority.serving("other", ["localhost"])
    shown = _native.ServingCertificate(one.certificate, one.key)
    for certificate, key in ((b"", one.key), (one.certificate, b""), (one.certificate, other.key)):
        with pytest.raises(ValueError):
            _native.ServingCertificate(certificate, key)
        with pytest.raises(ValueError):
            shown.replace(certificate, key)
    shown.replace(other.certificate, other.key)
