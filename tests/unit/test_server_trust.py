"""Whom clients of ours trust: as Go's clients do, whatever stands in the bundle."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
import trustme

from kubecore.server_trust import refusal, trusting

ROOT = trustme.CA()
BETWEEN = ROOT.create_child_ca()
SERVER = BETWEEN.issue_cert("server.example")


def shaken(client: ssl.SSLContext, certificate: trustme.LeafCert, name: str = "server.example") -> None:
    """A handshake with a server that shows this certificate and its chain. Raises what the client says."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(server)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert sides[0].getpeercert()


def pem(certificate: trustme.Blob) -> str:
    return certificate.bytes().decode()


@pytest.mark.parametrize(
    "bundle",
    [ROOT.cert_pem, BETWEEN.cert_pem, SERVER.cert_chain_pems[0]],
    ids=["of a root", "of an intermediate authority", "of the server itself"],
)
def test_any_certificate_of_the_chain_may_be_trusted(bundle: trustme.Blob) -> None:
    shaken(trusting(pem(bundle)), SERVER)


def test_another_certificate_of_the_same_authority_is_not_trusted_for_that() -> None:
    other = BETWEEN.issue_cert("server.example")
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shaken(trusting(pem(other.cert_chain_pems[0])), SERVER)
    said = refusal(caught.value)
    assert said == "tls: failed to verify certificate: x509: certificate signed by unknown authority"


def test_a_trusted_certificate_must_be_for_the_name_all_the_same() -> None:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shaken(trusting(pem(SERVER.cert_chain_pems[0])), SERVER, "other.example")
    said = refusal(caught.value)
    assert said == "tls: failed to verify certificate: x509: certificate is not valid for other.example"


def test_a_certificate_whose_time_is_over_is_refused() -> None:
    over = ROOT.issue_cert("server.example", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shaken(trusting(pem(ROOT.cert_pem)), over)
    said = refusal(caught.value)
    assert said == "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"


def test_what_is_no_certificate_cannot_be_trusted() -> None:
    with pytest.raises(ssl.SSLError):
        trusting("nonsense")
