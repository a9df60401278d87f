"""PodCertificateRequests, as kubernetes `pkg/apis/certificates/validation` judges them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from kubecore.api.errors import StatusError
from tests.support.pod_certificates import OWN, condition, encoded, request, signed
from tests.unit.apiserver.registry.writing import Writer

JSON = dict[str, Any]
KEY = "podcertificaterequests.certificates.k8s.io"
# The clock of `Writer`.
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def writer() -> Writer:
    return Writer(KEY)


def told(refused: pytest.ExceptionInfo[StatusError]) -> list[tuple[str, str]]:
    return [(cause["field"], cause["message"]) for cause in refused.value.details["causes"]]


@pytest.mark.parametrize(
    "key",
    [
        OWN,
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 3072),
    ],
    ids=["ed25519", "P256", "P521", "rsa"],
)
def test_whoever_proves_to_have_the_key_may_ask_for_a_day_by_default(writer: Writer, key: Any) -> None:
    assert writer.create(request(key))["spec"]["maxExpirationSeconds"] == 86_400


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"signerName": "nobody"}, "spec.signerName", "must be a fully qualified domain and path of the form"),
        ({"podName": "A B"}, "spec.podName", "a lowercase RFC 1123 subdomain"),
        ({"podUID": ""}, "spec.podUID", 'Invalid value: "": must not be empty'),
        ({"nodeUID": "u" * 129}, "spec.nodeUID", "Too long: may not be more than 128 bytes"),
        ({"maxExpirationSeconds": 60}, "spec.maxExpirationSeconds", "must be in the range [3600, 7862400]"),
        (
            {"signerName": "kubernetes.io/x", "maxExpirationSeconds": 86_401},
            "spec.maxExpirationSeconds",
            "Invalid value: 86401: must be in the range [3600, 86400]",
        ),
        ({"pkixPublicKey": "AAAA"}, "spec.pkixPublicKey", "must be a valid PKIX-serialized public key"),
        ({"pkixPublicKey": encoded(b"x" * 10_241)}, "spec.pkixPublicKey", "Too long: may not be more than 10240"),
        (
            {"proofOfPossession": signed(OWN, "another")},
            "spec.proofOfPossession",
            "Invalid value: could not verify proof-of-possession signature",
        ),
        ({"unverifiedUserAnnotations": {"plain": "x"}}, "spec.unverifiedUserAnnotations", "domain-prefixed key"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(writer: Writer, change: JSON, field: str, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        writer.create(request(**change))
    assert any(where == field and message in what for where, what in told(refused)), told(refused)


def test_keys_are_of_few_kinds(writer: Writer) -> None:
    for key, value in (
        (rsa.generate_private_key(65537, 2048), '"2048-bit modulus": RSA keys must have modulus size 3072 or 4096'),
        (ec.generate_private_key(ec.SECP224R1()), '"curve P-224": elliptic public keys must use curve P256 or P384'),
    ):
        with pytest.raises(StatusError) as refused:
            writer.create(request(key))
        assert told(refused) == [("spec.pkixPublicKey", f"Invalid value: {value}")]


def test_a_request_stays_as_it_was_made(writer: Writer) -> None:
    made = writer.create(request())
    with pytest.raises(StatusError) as refused:
        writer.update({**made, "spec": {**made["spec"], "podName": "other"}}, made)
    assert told(refused)[0][0] == "spec"


def issued(key: Any = OWN, hours: float = 2, start: datetime = NOW, **more: str) -> JSON:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "p")])
    end = start + timedelta(hours=hours)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(end)
    leaf = builder.sign(OWN, None).public_bytes(serialization.Encoding.PEM).decode()
    times = {"notBefore": start, "notAfter": end, "beginRefreshAt": start + timedelta(minutes=30)}
    shown = {field: when.strftime("%Y-%m-%dT%H:%M:%SZ") for field, when in times.items()}
    return {"conditions": [condition("Issued")], "certificateChain": leaf, **shown, **more}


def answered(writer: Writer, status: JSON, before: JSON | None = None, **spec: Any) -> list[tuple[str, str]]:
    """What is wrong with a status."""
    old = {**writer.create(request(**spec)), "status": before or {}}
    ctx = writer.context("update", "a", "status")
    found = writer.strategy.validate_status_update(ctx, {**old, "status": status}, old)
    return [(cause.field, cause.message) for cause in found]


def test_it_is_issued_denied_or_failed(writer: Writer) -> None:
    for status in (issued(), {"conditions": [condition("Denied")]}, {"conditions": [condition("Failed")]}):
        assert answered(writer, status) == []


@pytest.mark.parametrize(
    ("status", "field", "message"),
    [
        ({"conditions": [condition("Odd")]}, "status.conditions.[0].type", "Unsupported value"),
        ({"conditions": [condition("Issued", "False")]}, "status.conditions.[0].status", 'supported values: "True"'),
        (
            {"conditions": [condition("Denied"), condition("Failed")]},
            "status.conditions.[1].type",
            "There may be at most one condition",
        ),
        ({"certificateChain": "x"}, "status", "status is immutable unless transitioning"),
        ({**issued(), "conditions": [condition("Denied")]}, "status", "non-condition status fields must be empty"),
        (issued(certificateChain="x"), "status.certificateChain", "must contain at least one certificate"),
        (
            issued(ed25519.Ed25519PrivateKey.generate()),
            "status.certificateChain",
            "leaf certificate was not issued to the requested public key",
        ),
        (issued(notAfter=""), "status.notAfter", "Required value"),
        (
            issued(notAfter="2026-01-01T03:00:00Z"),
            "status.notAfter",
            'Invalid value: "2026-01-01T03:00:00Z": must be set to the NotAfter time encoded in the leaf certificate',
        ),
        (issued(start=NOW - timedelta(minutes=6)), "status.notBefore", "must be set to within 5 minutes"),
        (issued(hours=0.5), "status.certificateChain", "Invalid value: 1800000000000: leaf certificate lifetime"),
        (issued(hours=25), "status.certificateChain", "must be <= spec.maxExpirationSeconds (86400)"),
        (issued(beginRefreshAt="2026-01-01T00:05:00Z"), "status.beginRefreshAt", "10 minutes after status.notBefore"),
        (issued(beginRefreshAt="2026-01-01T01:55:00Z"), "status.beginRefreshAt", "10 minutes before status.notAfter"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(writer: Writer, status: JSON, field: str, message: str) -> None:
    ((where, what),) = answered(writer, status)
    assert (where, message in what) == (field, True), what


def test_what_has_become_of_a_request_is_for_ever(writer: Writer) -> None:
    denied = {"conditions": [condition("Denied")]}
    ((where, what),) = answered(writer, {"conditions": [condition("Failed")]}, denied)
    assert (where, what) == (
        "status",
        "Invalid value: immutable after PodCertificateRequest is issued, denied, or failed",
    )
    assert answered(writer, denied, denied) == []
