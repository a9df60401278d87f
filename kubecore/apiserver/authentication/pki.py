"""The server's own certificates: a CA made on first start, serving and client certificates signed by it.

Everything is ECDSA P-256: keys are made in microseconds, which start-up time needs. Files lie in `DIR/pki` under the
names kubeadm gives them; private keys are readable by their owner only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecore.certificate_validity import holds, validity
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.clock import Clock

_CA_YEARS = 10
_LEAF_DAYS = 365
_RENEW_BEFORE = timedelta(days=30)
# Clocks of clients may be a little behind ours.
_BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM of a certificate (chain) and of its private key (PKCS #8)."""

    certificate: bytes
    key: bytes


class PKIError(Exception):
    """A file of the PKI directory is unusable; says which."""


class CertificateAuthority:
    """Signs certificates for this cluster; remembers them in its directory, its own in `file`."""

    def __init__(self, directory: Path, clock: Clock, *, file: str = "ca", name: str = "kubernetes") -> None:
        self._directory = directory
        self._clock = clock
        self._file = file
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.pair = self._load(file) or self._make_ca(name)
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate)
        key = serialization.load_pem_private_key(self.pair.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PKIError(f"{directory / file}.key is no EC key")
        self._key = key

    @property
    def certificate(self) -> bytes:
        """PEM of the CA's certificate: what clients trust."""
        return self.pair.certificate

    def serving(self, name: str, hosts: Sequence[str]) -> KeyPair:
        """A serving certificate for these DNS names and addresses; kept while it covers them and has time left."""
        kept = self._load(name)
        if kept is not None and self._covers(kept, hosts):
            return kept
        return self._store(name, self._issue(name, (), hosts, [ExtendedKeyUsageOID.SERVER_AUTH]))

    def client(self, file: str, username: str, groups: Sequence[str] = ()) -> KeyPair:
        """A client certificate (CN user, O groups), kept in `file` while it has time left."""
        kept = self._load(file)
        if kept is not None and self._is(kept, username, groups):
            return kept
        return self._store(file, self.issue_client(username, groups))

    def issue_client(self, username: str, groups: Sequence[str] = ()) -> KeyPair:
        """A new client certificate, not kept anywhere."""
        return self._issue(username, groups, (), [ExtendedKeyUsageOID.CLIENT_AUTH])

    # --- signing

    def _make_ca(self, common_name: str) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            self._builder(name, name, key.public_key(), timedelta(days=365 * _CA_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        return self._store(self._file, _pair(certificate, key))

    def _issue(
        self, common_name: str, organizations: Sequence[str], hosts: Sequence[str], usages: list[x509.ObjectIdentifier]
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer = self._certificate.subject
        builder = (
            self._builder(subject, issuer, key.public_key(), timedelta(days=_LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        return _pair(builder.sign(self._key, hashes.SHA256()), key)

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        lifetime: timedelta,
    ) -> x509.CertificateBuilder:
        not_before, not_after = validity(self._clock, lifetime, backdated=_BACKDATED)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )

    # --- files

    def _load(self, name: str) -> KeyPair | None:
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        if not (certificate.exists() and key.exists()):
            return None
        pair = KeyPair(certificate.read_bytes(), key.read_bytes())
        try:
            public = x509.load_pem_x509_certificate(pair.certificate).public_key()
            whole = public == serialization.load_pem_private_key(pair.key, None).public_key()
        except (ValueError, TypeError) as error:
            raise PKIError(f"{certificate} or its key is unusable: {error}") from error
        if not whole and name == self._file:
            raise PKIError(f"{key} is not the key of {certificate}")
        # A process killed in the midst of a renewal leaves the new key beside the old certificate: no pair.
        return pair if whole else None

    def _store(self, name: str, pair: KeyPair) -> KeyPair:
        write_private(self._directory / f"{name}.key", pair.key)
        write_whole(self._directory / f"{name}.crt", pair.certificate)
        return pair

    def _fresh(self, certificate: x509.Certificate) -> bool:
        return holds(certificate, self._clock, _RENEW_BEFORE)

    def _covers(self, pair: KeyPair, hosts: Sequence[str]) -> bool:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        if not self._fresh(certificate) or certificate.issuer != self._certificate.subject:
            return False
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(extension.value) == set(_names(hosts))

    def _is(self, pair: KeyPair, username: str, groups: Sequence[str]) -> bool:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        subject = certificate.subject
        names = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        organizations = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        return self._fresh(certificate) and names == [username] and organizations == list(groups)


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=ca,
        crl_sign=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def have_in_common(one: bytes, other: bytes) -> bool:
    """Whether two PEM bundles share a certificate; what is no bundle shares none."""
    try:
        held = x509.load_pem_x509_certificates(one)
        return any(certificate in held for certificate in x509.load_pem_x509_certificates(other))
    except ValueError:
        return False


def holds_certificates(bundle: bytes) -> bool:
    """Whether there is one to trust in a PEM bundle."""
    try:
        return bool(x509.load_pem_x509_certificates(bundle))
    except ValueError:
        return False


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read, from the first byte on; as a whole or not at all."""
    write_whole(path, content, mode=0o600)
