"""PodCertificateRequests: a pod's wish for a certificate, proof of whose key it is, and what became of it.

After ValidatePodCertificateRequestCreate and ...StatusUpdate of kubernetes `pkg/apis/certificates/validation`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any

from kubecore.api import meta
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names, pem
from kubecore.apiserver.registry.validation.certificates import validate_signer_name
from kubecore.apiserver.registry.validation.conditions import validate_conditions
from kubecore.apiserver.registry.validation.metadata import ANNOTATIONS_LIMIT
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MOST_UID, _MOST_KEY, _MOST_CHAIN = 128, 10 * 1024, 100 * 1024
_HOUR, _DAY, _LONGEST = 3600, 24 * 3600, 91 * 24 * 3600
_KEY, _PROOF, _CHAIN = "spec.pkixPublicKey", "spec.proofOfPossession", "status.certificateChain"
_ENDS = ("Issued", "Denied", "Failed")
_SKEW, _REFRESH = timedelta(minutes=5), timedelta(minutes=10)
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_GO_CURVES = {"secp224r1": "P-224"}


# --- requests


def validate_pod_request(problems: Problems, spec: JSON) -> None:
    signer = spec.get("signerName") or ""
    validate_signer_name(problems, signer, "spec.signerName")
    _annotations(problems, spec.get("unverifiedUserAnnotations") or {}, "spec.unverifiedUserAnnotations")
    for whose in ("pod", "serviceAccount", "node"):
        problems.check(f"spec.{whose}Name", spec.get(f"{whose}Name") or "", names.dns_subdomain)
        uid = spec.get(f"{whose}UID") or ""
        if not uid:
            problems.invalid(f"spec.{whose}UID", "", "must not be empty")
        if len(uid.encode()) > _MOST_UID:
            problems.too_long(f"spec.{whose}UID", _MOST_UID)
    seconds = spec.get("maxExpirationSeconds")
    if seconds is None:
        problems.required("spec.maxExpirationSeconds", "must be set")
        return
    most = _DAY if _is_kubernetes_own(signer) else _LONGEST
    if not _HOUR <= seconds <= most:
        problems.invalid("spec.maxExpirationSeconds", seconds, f"must be in the range [{_HOUR}, {most}]")
    for path in (_KEY, _PROOF):
        if len(_bytes(spec.get(path.removeprefix("spec.")))) > _MOST_KEY:
            problems.too_long(path, _MOST_KEY)
            return
    _proof(problems, spec)


def _is_kubernetes_own(signer: str) -> bool:
    host = signer.partition("/")[0]
    return host == "kubernetes.io" or host.endswith(".kubernetes.io")


def _annotations(problems: Problems, annotations: dict[str, str], path: str) -> None:
    for key in map(str.lower, annotations):
        if not key:
            problems.required(path)
        elif errors := names.qualified_name(key):
            for error in errors:
                problems.invalid(path, key, error)
        elif "/" not in key:
            problems.invalid(path, key, 'must be a domain-prefixed key (such as "acme.io/foo")')
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_LIMIT:
        problems.too_long(path, ANNOTATIONS_LIMIT)


def _proof(problems: Problems, spec: JSON) -> None:
    """The key must be of a kind, and the pod's uid signed by it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    key = _public_key(spec)
    uid, proof = (spec.get("podUID") or "").encode(), _bytes(spec.get("proofOfPossession"))
    verify: Callable[[], None]
    match key:
        case None:
            problems.invalid(_KEY, spec.get("pkixPublicKey"), "must be a valid PKIX-serialized public key")
            return
        case ed25519.Ed25519PublicKey():
            verify = lambda: key.verify(proof, uid)  # noqa: E731
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                curve = f"curve {_GO_CURVES.get(key.curve.name, key.curve.name)}"
                problems.invalid(_KEY, curve, "elliptic public keys must use curve P256 or P384")
                return
            verify = lambda: key.verify(proof, uid, ec.ECDSA(hashes.SHA256()))  # noqa: E731
        case rsa.RSAPublicKey():
            if key.key_size not in (3072, 4096):
                detail = "RSA keys must have modulus size 3072 or 4096"
                problems.invalid(_KEY, f"{key.key_size}-bit modulus", detail)
                return
            salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
            verify = lambda: key.verify(proof, uid, salted, hashes.SHA256())  # noqa: E731
        case _:
            told = "unknown public key type; supported types are Ed25519, ECDSA, and RSA"
            problems.invalid(_KEY, spec.get("pkixPublicKey"), told)
            return
    try:
        verify()
    except InvalidSignature:
        problems.wrong(_PROOF, "could not verify proof-of-possession signature")


def _public_key(spec: JSON) -> Any:
    """None for what is no key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        return load_der_public_key(_bytes(spec.get("pkixPublicKey")))
    except (ValueError, UnsupportedAlgorithm):
        return None


def _bytes(encoded: str | None) -> bytes:
    try:
        return base64.b64decode(encoded or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


# --- what became of them


def validate_pod_answer(problems: Problems, spec: JSON, status: JSON, before: JSON, now: datetime) -> None:
    conditions = status.get("conditions") or []
    _ends(problems, conditions)
    validate_conditions(problems, conditions, "status.conditions")
    if problems:
        return
    kinds = _true(conditions)
    if _true(before.get("conditions") or []):
        if not same(status, before):
            problems.wrong("status", "immutable after PodCertificateRequest is issued, denied, or failed")
    elif kinds & {"Denied", "Failed"}:
        if not same(status, {"conditions": conditions}):
            told = "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
            problems.wrong("status", told)
    elif "Issued" in kinds:
        _issued(problems, spec, status, now)
    elif not same(status, before):
        problems.wrong("status", 'status is immutable unless transitioning to "Issued", "Denied", or "Failed"')


def _true(conditions: list[JSON]) -> set[str]:
    return {one["type"] for one in conditions if one.get("type") in _ENDS and one.get("status") == "True"}


def _ends(problems: Problems, conditions: list[JSON]) -> None:
    known = 0
    for index, condition in enumerate(conditions):
        # The path is upstream's.
        kind, path = condition.get("type") or "", f"status.conditions.[{index}]"
        if kind not in _ENDS:
            problems.unsupported(f"{path}.type", kind, sorted(_ENDS))
            continue
        known += 1
        if known > 1:
            told = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            problems.invalid(f"{path}.type", kind, told)
        if condition.get("status") != "True":
            problems.unsupported(f"{path}.status", condition.get("status") or "", ["True"])


def _issued(problems: Problems, spec: JSON, status: JSON, now: datetime) -> None:
    from cryptography import x509

    chain = status.get("certificateChain") or ""
    if len(chain.encode()) > _MOST_CHAIN:
        problems.too_long(_CHAIN, _MOST_CHAIN)
        return
    found = list(pem.blocks(chain.encode()))
    if not found:
        problems.invalid(_CHAIN, chain, "issued certificate chain must contain at least one certificate")
        return
    if found[0].label != "CERTIFICATE":
        problems.invalid(_CHAIN, chain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")
        return
    try:
        leaf = x509.load_der_x509_certificate(found[0].content)
    except (ValueError, x509.InvalidVersion):
        problems.invalid(_CHAIN, chain, "leaf certificate does not parse as valid X.509")
        return
    _alternative_names(problems, leaf)
    if _key_of(leaf) != _public_key(spec):
        problems.invalid(_CHAIN, chain, "leaf certificate was not issued to the requested public key")
        return
    if not _timely(problems, spec, status, leaf, now):
        return
    for block in found[1:]:
        if block.label != "CERTIFICATE":
            # Misspelt upstream.
            problems.invalid(_CHAIN, chain, "issued certificate chain must consist entirely of CERTFICATE PEM blocks")
            return
        try:
            x509.load_der_x509_certificate(block.content)
        except (ValueError, x509.InvalidVersion):
            problems.invalid(_CHAIN, chain, "intermediate certificate does not parse as valid X.509")
            return


def _key_of(leaf: Any) -> Any:
    """None for one of a kind that nobody may ask for."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _alternative_names(problems: Problems, leaf: Any) -> None:
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return
    for name in found.get_values_for_type(x509.DNSName):
        if not name:
            problems.invalid(_CHAIN, name, "leaf certificate should not contain empty DNSName")
        if ".." in name:
            problems.invalid(_CHAIN, name, "leaf certificate's DNSName should not contain '..'")
        if name.startswith(".") or name.endswith("."):
            problems.invalid(_CHAIN, name, "leaf certificate's DNSName should not start or end with '.'")
    for address in found.get_values_for_type(x509.RFC822Name):
        if "@" not in parseaddr(address)[1]:
            problems.invalid(_CHAIN, address, "leaf certificate should not contain invalid EmailAddress")


def _timely(problems: Problems, spec: JSON, status: JSON, leaf: Any, now: datetime) -> bool:
    """Whether the times of the status are those of the certificate, and within what was asked for."""
    told = len(problems)
    for name in ("notBefore", "notAfter"):
        if not status.get(name):
            problems.required(f"status.{name}", "must be present and consistent with the issued certificate")
    if not status.get("beginRefreshAt"):
        detail = "must be present and in the range [notbefore+10min, notafter-10min]"
        problems.required("status.beginRefreshAt", detail)
    if len(problems) > told:
        return False
    begin, end, refresh = (meta.parse_time(status[name]) for name in ("notBefore", "notAfter", "beginRefreshAt"))
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    nanoseconds = int(lifetime.total_seconds()) * 1_000_000_000
    most = spec.get("maxExpirationSeconds") or 0
    for is_wrong, path, value, detail in (
        (
            begin != leaf.not_valid_before_utc,
            "status.notBefore",
            status["notBefore"],
            "must be set to the NotBefore time encoded in the leaf certificate",
        ),
        (
            not now - _SKEW < begin < now + _SKEW,
            "status.notBefore",
            status["notBefore"],
            "must be set to within 5 minutes of kube-apiserver's current time",
        ),
        (
            end != leaf.not_valid_after_utc,
            "status.notAfter",
            status["notAfter"],
            "must be set to the NotAfter time encoded in the leaf certificate",
        ),
        (lifetime < timedelta(hours=1), _CHAIN, nanoseconds, "leaf certificate lifetime must be >= 1 hour"),
        (
            lifetime > timedelta(seconds=most),
            _CHAIN,
            nanoseconds,
            f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})",
        ),
        (
            refresh < begin + _REFRESH,
            "status.beginRefreshAt",
            status["beginRefreshAt"],
            "must be at least 10 minutes after status.notBefore",
        ),
        (
            refresh > end - _REFRESH,
            "status.beginRefreshAt",
            status["beginRefreshAt"],
            "must be at least 10 minutes before status.notAfter",
        ),
    ):
        if is_wrong:
            problems.invalid(path, value, detail)
            return False
    return True
