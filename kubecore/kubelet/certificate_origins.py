"""Which cluster has signed a certificate that is kept for a node."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509


def of_another_cluster(kept: bytes, given: bytes, authorities: bytes, now: datetime) -> bool:
    """Whether `kept` is of another cluster than the node's kubeconfig, which has the certificate `given` and names
    these `authorities`; all PEM, the latter two may be empty.

    A cluster may have its clients' certificates signed by an authority that kubeconfigs do not name. Then `kept` is of
    the same cluster if it has the issuer of `given`. While `given` is of no use either, `kept` is another cluster's
    only where an authority has the name of its issuer and has not signed it.

    An authority that was replaced by another of its name looks like that of another cluster: only the server could tell
    them apart. The node then asks for a certificate anew, with what its kubeconfig has.
    """
    own, known, others = _read(kept), _read(authorities), _read(given)
    if not own or any(_has_signed(by, one) for one in own for by in known):
        return False
    namesakes = any(by.subject == own[-1].issuer for by in known)
    if others and others[0].not_valid_before_utc <= now < others[0].not_valid_after_utc:
        return not _have_one_issuer(own[0], others[0], by_name=not namesakes)
    return namesakes


def _read(certificates: bytes) -> list[x509.Certificate]:
    """None of what are no certificates."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(certificates)
    except ValueError:
        return []


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _have_one_issuer(one: x509.Certificate, other: x509.Certificate, *, by_name: bool) -> bool:
    """By the identifier of its key; where a certificate has none, `by_name`: whether its name is enough."""
    keys = [_issuers_key(certificate) for certificate in (one, other)]
    return one.issuer == other.issuer and (by_name if None in keys else keys[0] == keys[1])


def _issuers_key(certificate: x509.Certificate) -> bytes | None:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
