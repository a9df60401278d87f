"""Certificates that vouch for themselves, for servers that were given none."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from kubecore.certificate_validity import validity

if TYPE_CHECKING:
    from kubecore.clock import Clock

_LIFETIME, _BACKDATED = timedelta(days=365), timedelta(hours=1)


def make(
    common_name: str, clock: Clock, *, hosts: Iterable[str] = (), addresses: Iterable[str] = ()
) -> tuple[bytes, bytes]:
    """A certificate and its private key (PKCS#8), both in PEM, valid for a year."""
    # Lazily: most servers are given a certificate, and the library is slow to load.
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    not_before, not_after = validity(clock, _LIFETIME, backdated=_BACKDATED)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
