"""What a certificate request asks for, who of the cluster's signers it is for, and the certificate it gets.

(kubernetes `pkg/apis/certificates/helpers.go`, `pkg/controller/certificates/signer` and `authority`.)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from kubecore.certificate_validity import validity

if TYPE_CHECKING:
    from kubecore.clock import Clock

API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = (API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY)

LONGEST = timedelta(days=365)
_SHORTEST = timedelta(minutes=10)
_BACKDATED = timedelta(minutes=5)
_SHORT_LIVED = timedelta(hours=8)

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED = {
    "any": Usage.ANY_EXTENDED_KEY_USAGE,
    "server auth": Usage.SERVER_AUTH,
    "client auth": Usage.CLIENT_AUTH,
    "code signing": Usage.CODE_SIGNING,
    "email protection": Usage.EMAIL_PROTECTION,
    "s/mime": Usage.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": Usage.TIME_STAMPING,
    "ocsp signing": Usage.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}
# Of certificates that programs outside are shown; those that clients show, the API server judges by its own clock.
_JUDGED_OUTSIDE = {Usage.SERVER_AUTH, Usage.ANY_EXTENDED_KEY_USAGE}
# Of a subject, beside the common name and the serial number.
_PARTS = (
    NameOID.COUNTRY_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.STREET_ADDRESS,
    NameOID.POSTAL_CODE,
)
_OF_KUBELETS = {KUBELET_CLIENT: "client auth", KUBELET_SERVING: "server auth"}


class UnusableRequest(ValueError):
    """The bytes are no certificate request."""


class NotAllowed(ValueError):
    """The signer does not sign this; says why."""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request and the usages it is to be good for."""

    content: x509.CertificateSigningRequest
    usages: Sequence[str]

    @classmethod
    def parse(cls, encoded: str, usages: Sequence[str]) -> CertificateRequest:
        """`encoded` is base64 of PEM, as spec.request has it. Raises UnusableRequest."""
        try:
            content = x509.load_pem_x509_csr(base64.b64decode(encoded))
            content.public_key()
        except (ValueError, TypeError, binascii.Error) as error:
            raise UnusableRequest(str(error)) from error
        return cls(content, usages)

    @property
    def common_name(self) -> str:
        """Of several the last one counts, as in Go."""
        return next(reversed(self._subject(NameOID.COMMON_NAME)), "")

    def subject(self) -> x509.Name:
        """What Go makes of the subject that it has read: known parts in its order, and one common name. All is written
        in one way, so that nobody who reads it, as who judges a client does, finds another name than was approved."""
        parts = [(oid, list(dict.fromkeys(self._subject(oid)))) for oid in _PARTS]
        parts += [(oid, self._subject(oid)[-1:]) for oid in (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER)]
        return x509.Name([_together(oid, values) for oid, values in parts if any(values)])

    @property
    def organizations(self) -> list[str]:
        return self._subject(NameOID.ORGANIZATION_NAME)

    def names(self) -> list[x509.GeneralName]:
        """Its subjectAltNames."""
        try:
            extension = self.content.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return []
        return list(extension.value)

    def _subject(self, oid: x509.ObjectIdentifier) -> list[str]:
        return [str(attribute.value) for attribute in self.content.subject.get_attributes_for_oid(oid)]


def _together(oid: x509.ObjectIdentifier, values: Sequence[str]) -> x509.RelativeDistinguishedName:
    # Unvalidated, for names of nodes may be longer than X.520 lets a common name be.
    return x509.RelativeDistinguishedName([x509.NameAttribute(oid, one, _validate=False) for one in values if one])


def check(request: CertificateRequest, signer: str) -> None:
    """Raises NotAllowed for what the signer does not sign."""
    if signer == API_CLIENT:
        for usage in request.usages:
            if usage not in ("digital signature", "key encipherment", "client auth"):
                raise NotAllowed(f"invalid usage for client certificate: {usage}")
        if "client auth" not in request.usages:
            raise NotAllowed("missing required usage for client certificate: client auth")
    elif signer in _OF_KUBELETS:
        _check_kubelet(request, serving=signer == KUBELET_SERVING, usage=_OF_KUBELETS[signer])


def is_kubelet_client(request: CertificateRequest) -> bool:
    """Whether a kubelet asks for a certificate to identify itself with."""
    try:
        check(request, KUBELET_CLIENT)
    except NotAllowed:
        return False
    return True


def _check_kubelet(request: CertificateRequest, *, serving: bool, usage: str) -> None:
    if request.organizations != ["system:nodes"]:
        raise NotAllowed("subject organization is not system:nodes")
    kinds = [type(name) for name in request.names()]
    if serving and not {x509.DNSName, x509.IPAddress} & set(kinds):
        raise NotAllowed("DNS or IP subjectAltName is required")
    refused: list[tuple[type[x509.GeneralName], str]] = [
        (x509.RFC822Name, "Email"),
        (x509.UniformResourceIdentifier, "URI"),
    ]
    if not serving:
        refused = [(x509.DNSName, "DNS"), refused[0], (x509.IPAddress, "IP"), refused[1]]
    for kind, called in refused:
        if kind in kinds:
            raise NotAllowed(f"{called} subjectAltNames are not allowed")
    needed = {"digital signature", "key encipherment", usage}
    # keys other than RSA's have no use for encipherment
    if set(request.usages) not in (needed, needed - {"key encipherment"}):
        raise NotAllowed(f"usages did not match [{' '.join(sorted(needed))}]")
    if not request.common_name.startswith("system:node:"):
        raise NotAllowed("subject common name does not begin with system:node:")


def lifetime(seconds: int | None) -> timedelta:
    """For how long a certificate is given when so long was asked for."""
    return LONGEST if seconds is None else max(min(timedelta(seconds=seconds), LONGEST), _SHORTEST)


class Signer:
    """Signs with a certificate authority's pair (PEM). Raises ValueError for what is no such pair."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self._authority = x509.load_pem_x509_certificate(certificate)
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("the authority's key is neither an EC nor an RSA key")
        self._key = loaded

    def sign(self, request: CertificateRequest, lasting: timedelta, clock: Clock) -> bytes:
        """PEM of the certificate: the request's `subject()`, key and names, its usages, and never an authority.

        Raises NotAllowed for usages that nobody knows, ValueError when the authority has expired.
        """
        ends = self._authority.not_valid_after_utc
        now = clock.now()
        if now >= ends:
            raise ValueError(f"refusing to sign a certificate that expired in the past: NotAfter={ends}")
        content, subject = request.content, request.subject()
        lasting -= timedelta() if lasting < _SHORT_LIVED else _BACKDATED
        not_before, not_after = now - _BACKDATED, now + lasting
        if any(_EXTENDED.get(usage) in _JUDGED_OUTSIDE for usage in request.usages):
            not_before, not_after = validity(clock, lasting, backdated=_BACKDATED)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._authority.subject)
            .public_key(content.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(min(not_after, ends))
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        # in the order that Go's library has
        for extension, critical in [
            *_usage_extensions(request.usages),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (issuer, False),
        ]:
            builder = builder.add_extension(extension, critical=critical)
        if names := request.names():
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not subject.rdns)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _usage_extensions(usages: Sequence[str]) -> list[tuple[x509.ExtensionType, bool]]:
    unknown = [usage for usage in usages if usage not in _KEY_USAGES and usage not in _EXTENDED]
    if unknown:
        raise NotAllowed(f"unrecognized usage values: {unknown}")
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    flags = {_KEY_USAGES[usage] for usage in usages if usage in _KEY_USAGES}
    if flags:
        extensions.append((_key_usage(flags), True))
    extended = sorted({_EXTENDED[usage] for usage in usages if usage in _EXTENDED}, key=lambda one: one.dotted_string)
    if extended:
        extensions.append((x509.ExtendedKeyUsage(extended), False))
    return extensions


def _key_usage(flags: set[str]) -> x509.KeyUsage:
    agreement = "key_agreement" in flags
    return x509.KeyUsage(
        digital_signature="digital_signature" in flags,
        content_commitment="content_commitment" in flags,
        key_encipherment="key_encipherment" in flags,
        data_encipherment="data_encipherment" in flags,
        key_agreement=agreement,
        key_cert_sign="key_cert_sign" in flags,
        crl_sign="crl_sign" in flags,
        # these two say something of key agreement, and nothing without it
        encipher_only=agreement and "encipher_only" in flags,
        decipher_only=agreement and "decipher_only" in flags,
    )
