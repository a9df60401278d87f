"""Which servers we trust when we call them: those of webhooks, extensions, issuers, API servers, kubelets."""

from __future__ import annotations

import ssl

# `X509_V_ERR_*` of OpenSSL.
_EXPIRED, _NOT_YET_VALID, _NAME_MISMATCH, _ADDRESS_MISMATCH = 10, 9, 62, 64
_UNKNOWN = frozenset({2, 18, 19, 20, 21})


def trusting(authorities: str = "") -> ssl.SSLContext:
    """For clients that trust what these certificates (PEM) vouch for, or the system's. Raises ssl.SSLError.

    As with Go, which such certificates are made for, any one may be trusted, be it an intermediate authority's or the
    server's own: OpenSSL would follow them to a root, and newer Pythons would look for flaws in the chain.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if authorities:
        context.load_verify_locations(cadata=authorities)
    else:
        context.load_default_certs()
    return context


def refusal(error: ssl.SSLCertVerificationError) -> str:
    """Why a server's certificate is refused, in Go's words as far as it can be told."""
    if error.verify_code in _UNKNOWN:
        why = "certificate signed by unknown authority"
    elif error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        why = "certificate has expired or is not yet valid"
    elif error.verify_code in (_NAME_MISMATCH, _ADDRESS_MISMATCH):
        # "Hostname mismatch, certificate is not valid for 'name'."
        why = error.verify_message.partition(", ")[2].rstrip(".").replace("'", "")
    else:
        why = error.verify_message
    return f"tls: failed to verify certificate: x509: {why}"
