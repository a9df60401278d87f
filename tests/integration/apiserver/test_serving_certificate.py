"""The certificate that the API server shows is renewed while it serves."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from kubecore import _native
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock


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
        server._renew_serving()
        assert await serial(server.secure_port) == first, "it has time left"
        (tmp_path / "pki" / "apiserver.crt").unlink()
        server._renew_serving()
        assert await serial(server.secure_port) != first
        assert await serial(server.grpc_port) == await serial(server.secure_port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "a connection goes on with what it began with"
        writer.close()
    finally:
        await server.stop()


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
