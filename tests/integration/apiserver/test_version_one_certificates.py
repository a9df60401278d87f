"""Client certificates without extensions, of X.509's version 1, as `openssl x509 -req` makes them: who holds the key is
judged by who has issued them, and told by a Status, as upstream does, which has Go's crypto/x509."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.server import APIServer

from .http import Http
from .serving import whoami

pytestmark = pytest.mark.asyncio(loop_scope="module")

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_VERSION_THREE = bytes.fromhex("a003020102")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def der(tag: int, *parts: bytes) -> bytes:
    inside = b"".join(parts)
    size = len(inside)
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (long if size < 0x80 else bytes([0x80 | len(long)]) + long) + inside


def of_version_one(server: APIServer, key: Key, *, issuer: Key | None = None, age_days: int = 0) -> KeyPair:
    """Of jane in the group dev. Issued by the server's authority, or by who only has its name."""
    folder = server.config.data_dir / "pki"
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = issuer or serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    made = named(authority, key, age_days).sign(signer, hashes.SHA256())
    said = made.tbs_certificate_bytes
    inside = said[2:] if said[1] < 0x80 else said[2 + (said[1] & 0x7F) :]
    assert inside.startswith(_VERSION_THREE)
    plain = der(0x30, inside.removeprefix(_VERSION_THREE))
    signature = signer.sign(plain, ec.ECDSA(hashes.SHA256()))
    whole = x509.load_der_x509_certificate(der(0x30, plain, _ECDSA_WITH_SHA256, der(3, b"\0", signature)))
    assert whole.version is x509.Version.v1
    pem = serialization.Encoding.PEM
    return KeyPair(whole.public_bytes(pem), private(key))


def of_version_three(server: APIServer, key: Key) -> KeyPair:
    folder = server.config.data_dir / "pki"
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    made = named(authority, key).add_extension(usage, critical=False).sign(signer, hashes.SHA256())
    return KeyPair(made.public_bytes(serialization.Encoding.PEM), private(key))


def named(authority: x509.Certificate, key: Key, age_days: int = 0) -> x509.CertificateBuilder:
    names = [(NameOID.COMMON_NAME, "jane"), (NameOID.ORGANIZATION_NAME, "dev")]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(*name) for name in names]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc - timedelta(days=age_days))
        .not_valid_after(authority.not_valid_before_utc + timedelta(days=90 - age_days))
    )


def private(key: Key) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


KEYS: dict[str, Callable[[], Key]] = {
    "elliptic": elliptic,
    "of the largest curve": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", KEYS)
async def test_who_has_one_of_the_clusters_authority_is_whom_it_names(
    server: APIServer, tmp_path: Path, kind: str, newest: ssl.TLSVersion
) -> None:
    async with Http(server, tmp_path, pair=of_version_one(server, KEYS[kind]()), newest=newest) as http:
        status, told = await whoami(http)
    assert (status, told["username"], told["groups"]) == (201, "jane", ["dev", "system:authenticated"])


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_keys_may_be_on_the_largest_curve(server: APIServer, tmp_path: Path, newest: ssl.TLSVersion) -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    pair = of_version_three(server, key)
    async with Http(server, tmp_path, pair=pair, newest=newest) as http:
        status, told = await whoami(http)
    assert (status, told["username"]) == (201, "jane")


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("wrong", ["foreign", "over", "to come"])
async def test_what_is_wrong_with_one_is_told_by_a_status(
    server: APIServer, tmp_path: Path, wrong: str, newest: ssl.TLSVersion
) -> None:
    age = {"foreign": 0, "over": 100, "to come": -10}[wrong]
    issuer = elliptic() if wrong == "foreign" else None
    pair = of_version_one(server, elliptic(), issuer=issuer, age_days=age)
    async with Http(server, tmp_path, pair=pair, newest=newest) as http:
        assert (await http.call("GET", "/api")).status == 401
