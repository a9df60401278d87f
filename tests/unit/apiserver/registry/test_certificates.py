"""Certificate requests, what becomes of them, and trust bundles."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from tests.unit.apiserver.registry.writing import Writer, changed

REQUESTS = Writer("certificatesigningrequests.certificates.k8s.io", namespaced=False)
BUNDLES = Writer("clustertrustbundles.certificates.k8s.io", namespaced=False)
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
APPROVED = {"type": "Approved", "status": "True"}
DENIED = {"type": "Denied", "status": "True"}
NOW = "2026-01-01T00:00:00Z"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pem_of_certificate(*, ca: bool = True) -> bytes:
    made = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(KEY, None)
    )
    return made.public_bytes(serialization.Encoding.PEM)


PEM_REQUEST = (
    x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(KEY, None).public_bytes(serialization.Encoding.PEM)
)
CERTIFICATE = pem_of_certificate()


def request(**spec: Any) -> dict[str, Any]:
    whole = {"request": b64(PEM_REQUEST), "signerName": "example.com/signer", "usages": ["client auth"], **spec}
    return {"metadata": {"name": "x"}, "spec": whole}


def with_conditions(stored: dict[str, Any], *conditions: dict[str, str]) -> dict[str, Any]:
    return changed(stored, "status.conditions", list(conditions))


def test_the_server_writes_down_who_asks() -> None:
    spec = REQUESTS.create(request(username="somebody else"))["spec"]
    assert (spec["username"], spec["uid"], spec["groups"]) == ("tester", "u1", ["testers"])


def test_a_request_is_signed_by_its_own_key() -> None:
    forged = bytearray(x509.load_pem_x509_csr(PEM_REQUEST).public_bytes(serialization.Encoding.DER))
    forged[-1] ^= 1
    text = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n"
    (problem,) = REQUESTS.problems(request(request=b64(text % base64.encodebytes(bytes(forged)))))
    assert problem.endswith(": x509: signature verification failure")
    (problem,) = REQUESTS.problems(request(request="YQ=="))
    assert problem == 'spec.request: Invalid value: "YQ==": PEM block type must be CERTIFICATE REQUEST'


def test_usages_are_known_and_named_once() -> None:
    found = REQUESTS.problems(request(usages=["client auth", "client auth", "juggling"]))
    assert found[0] == 'spec.usages[1]: Duplicate value: "client auth"'
    assert found[1].startswith('spec.usages[2]: Unsupported value: "juggling": supported values: "any", "cert sign", ')


@pytest.mark.parametrize(
    ("signer", "problem"),
    [
        (
            "example.com",
            'Invalid value: "example.com": '
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            "local/x",
            'Invalid value: "local": should be a domain with at least two segments separated by dots',
        ),
        (
            "kubernetes.io/legacy-unknown",
            'Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version',
        ),
    ],
)
def test_a_signer_has_a_domain_and_a_path(signer: str, problem: str) -> None:
    assert REQUESTS.problems(request(signerName=signer)) == [f"spec.signerName: {problem}"]


def test_only_an_approval_decides() -> None:
    stored = REQUESTS.create(request())
    approved = with_conditions(stored, APPROVED)
    assert REQUESTS.update_problems(stored, approved, subresource="status") == [
        'status.conditions: Forbidden: updates may not add a condition of type "Approved"'
    ]


def test_a_decision_says_when_it_was_made_and_cannot_be_taken_back() -> None:
    strategy, stored = REQUESTS.strategy, REQUESTS.create(request())
    decided = with_conditions(stored, dict(APPROVED))
    ctx = REQUESTS.context("update", "x", "approval")
    strategy.prepare_for_update(ctx, decided, stored)
    assert decided["status"]["conditions"] == [{**APPROVED, "lastUpdateTime": NOW, "lastTransitionTime": NOW}]
    assert not strategy.validate_update(ctx, decided, stored)
    (cause,) = strategy.validate_update(ctx, with_conditions(stored), decided)
    assert cause.message == 'Forbidden: updates may not remove a condition of type "Approved"'


def test_a_request_is_not_both_approved_and_denied() -> None:
    stored = REQUESTS.create(request())
    causes = REQUESTS.strategy.validate_update(
        REQUESTS.context("update", "x", "approval"), with_conditions(stored, APPROVED, DENIED), stored
    )
    assert [cause.message for cause in causes] == [
        'Invalid value: "Denied": Approved and Denied conditions are mutually exclusive'
    ]


def test_a_certificate_is_one_and_stays() -> None:
    stored = REQUESTS.create(request())
    issued = changed(stored, "status.certificate", b64(CERTIFICATE))
    assert not REQUESTS.update_problems(stored, issued, subresource="status")
    again = changed(stored, "status.certificate", b64(CERTIFICATE * 2))
    assert REQUESTS.update_problems(issued, again, subresource="status") == [
        "status.certificate: Forbidden: updates may not modify existing certificate content"
    ]
    nonsense = changed(stored, "status.certificate", b64(PEM_REQUEST))
    assert REQUESTS.update_problems(stored, nonsense, subresource="status") == [
        'status.certificate: Invalid value: "<certificate data>": '
        'only CERTIFICATE PEM blocks are allowed, found "CERTIFICATE REQUEST"'
    ]


def bundle(name: str = "x", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"trustBundle": CERTIFICATE.decode(), **spec}}


def test_a_bundle_is_named_for_its_signer() -> None:
    assert not BUNDLES.problems(bundle("example.com:signer:x", signerName="example.com/signer"))
    assert BUNDLES.problems(bundle(signerName="example.com/signer")) == [
        'metadata.name: Invalid value: "x": '
        "ClusterTrustBundle for signerName example.com/signer must be named with prefix example.com:signer:"
    ]
    assert BUNDLES.problems(bundle("a:b")) == [
        'metadata.name: Invalid value: "a:b": ClusterTrustBundle without signer name must not have ":" in its name'
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "at least one trust anchor must be provided"),
        (CERTIFICATE * 2, "duplicate trust anchor (indices [0 1])"),
        (pem_of_certificate(ca=False), "entry 0 does not have the CA bit set"),
        (PEM_REQUEST, "entry 0 has bad block type: CERTIFICATE REQUEST"),
        (CERTIFICATE.replace(b"MII", b"AAA", 1).replace(b"MIH", b"AAA", 1), "entry 0 does not parse as X.509"),
        (CERTIFICATE.replace(b"E-----\n", b"E-----\nA: b\n\n", 1), "entry 0 has PEM block headers"),
    ],
)
def test_a_bundle_holds_certificate_authorities_once_each(text: bytes, what: str) -> None:
    assert BUNDLES.problems(bundle(trustBundle=text.decode())) == [
        f'spec.trustBundle: Invalid value: "<value omitted>": {what}'
    ]


def test_what_stands_between_certificates_is_passed_over() -> None:
    assert not BUNDLES.problems(bundle(trustBundle=f"# ours\n{CERTIFICATE.decode()}\n# the end"))
