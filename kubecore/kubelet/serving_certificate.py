"""A self-signed serving certificate for a kubelet that was given none, as upstream's kubelet makes itself one."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from kubecore.whole_file import write_whole


def ensure_certificate(directory: Path, node_name: str, address: str) -> tuple[Path, Path]:
    """Paths of certificate and key, made on first use; the key is readable by its owner only."""
    certificate, key = directory / "kubelet.crt", directory / "kubelet.key"
    if not (certificate.exists() and key.exists()):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(certificate, key, node_name, address)
    return certificate, key


def _make(certificate_path: Path, key_path: Path, node_name: str, address: str) -> None:
    # Lazily: most kubelets are given a certificate, and the library is slow to load.
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node_name}@kubelet")])
    names: list[x509.GeneralName] = [x509.DNSName(node_name), x509.IPAddress(ipaddress.ip_address(address))]
    # Certificates are judged by the machine's own time, whatever the cluster's clock says.
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The certificate comes last: while there is none, both are made anew.
    write_whole(key_path, private, mode=0o600)
    write_whole(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
