"""Certificate requests, what became of them, and trust bundles.

After kubernetes `pkg/apis/certificates/validation/validation.go` and ValidateSignerName of
`pkg/apis/core/validation/names.go`.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.registry.validation import names, pem
from kubecore.apiserver.registry.validation.problems import Problems

if TYPE_CHECKING:
    from cryptography import x509

JSON = dict[str, Any]

_USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_SHORTEST = 600
_LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
_STATUSES = ("False", "True", "Unknown")
_DECISIONS = ("Approved", "Denied")
_LASTING = (*_DECISIONS, "Failed")
_DOMAIN, _SIGNER = 253, 253 + 253 + 63 + 1 + 1
_BUNDLE_SIZE = 1 << 20


# --- requests


def validate_request(problems: Problems, spec: JSON) -> None:
    if wrong := _wrong_request(spec.get("request") or ""):
        problems.invalid("spec.request", spec.get("request"), wrong)
    usages = spec.get("usages") or []
    if not usages:
        problems.required("spec.usages")
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            problems.unsupported(f"spec.usages[{index}]", usage, _USAGES)
        if usage in usages[:index]:
            problems.duplicate(f"spec.usages[{index}]", usage)
    signer = spec.get("signerName") or ""
    if signer == _LEGACY_SIGNER:
        problems.invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version")
    else:
        validate_signer_name(problems, signer, "spec.signerName")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _SHORTEST:
        detail = f"may not specify a duration less than {_SHORTEST} seconds (10 minutes)"
        problems.invalid("spec.expirationSeconds", seconds, detail)


def parsed_request(encoded: str) -> x509.CertificateSigningRequest:
    """A certificate request, base64 of PEM. Raises ValueError."""
    from cryptography.x509 import load_der_x509_csr

    first = next(pem.blocks(_decoded(encoded)), None)
    if first is None or first.label != "CERTIFICATE REQUEST":
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    try:
        return load_der_x509_csr(first.content)
    except ValueError as error:
        raise ValueError(f"asn1: structure error: {error}") from None


def _wrong_request(encoded: str) -> str:
    """What is wrong with a certificate request, base64 of PEM; "" when nothing."""
    from cryptography import exceptions

    try:
        request = parsed_request(encoded)
    except ValueError as error:
        return str(error)
    try:
        valid = request.is_signature_valid
    except (ValueError, exceptions.UnsupportedAlgorithm):
        return "x509: cannot verify signature: algorithm unimplemented"
    return "" if valid else "x509: signature verification failure"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""


def validate_signer_name(problems: Problems, name: str, path: str) -> None:
    """A domain and a path, as `example.com/my-signer`."""
    if not name:
        problems.required(path)
        return
    parts = name.split("/")
    if len(parts) != 2:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        problems.invalid(path, name, detail)
        return
    domain, rest = parts
    if len(domain.encode()) > _DOMAIN:
        problems.too_long(path, _DOMAIN)
    _labels(problems, domain, names.dns_label, path)
    if "." not in domain:
        problems.invalid(path, domain, "should be a domain with at least two segments separated by dots")
    _labels(problems, rest, names.dns_subdomain, path)
    if len(name.encode()) > _SIGNER:
        problems.too_long(path, _SIGNER)


def _labels(problems: Problems, dotted: str, rule: Any, path: str) -> None:
    """What is wrong with the first of the labels that is wrong."""
    for label in dotted.split("."):
        errors = rule(label)
        for error in errors:
            problems.invalid(path, dotted, f'validating label "{label}": {error}')
        if errors:
            return


# --- what became of a request


def validate_request_update(problems: Problems, status: JSON, old: JSON, *, subresource: str) -> None:
    """Decisions are made through `approval` alone, the certificate comes through `status` alone; both stay."""
    conditions, before = status.get("conditions") or [], old.get("conditions") or []
    if conditions != before:
        _conditions(problems, conditions)
    for kind in _LASTING:
        count, had = (sum(one.get("type") == kind for one in some) for some in (conditions, before))
        if count < had:
            problems.forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"')
        elif count > had and kind in _DECISIONS and subresource != "approval":
            problems.forbidden("status.conditions", f'updates may not add a condition of type "{kind}"')
    certificate, stored = status.get("certificate") or "", old.get("certificate") or ""
    if certificate == stored:
        return
    if not wrong_certificates(stored) and (wrong := wrong_certificates(certificate)):
        problems.invalid("status.certificate", "<certificate data>", wrong)
    if subresource != "status":
        problems.forbidden("status.certificate", "updates may not set certificate content")
    elif stored:
        problems.forbidden("status.certificate", "updates may not modify existing certificate content")


def _conditions(problems: Problems, conditions: list[JSON]) -> None:
    path = "status.conditions"
    for index, condition in enumerate(conditions):
        where, kind, status = f"{path}[{index}]", condition.get("type") or "", condition.get("status") or ""
        earlier = [one.get("type") or "" for one in conditions[:index]]
        if not kind:
            problems.required(f"{where}.type")
        problems.one_of(f"{where}.status", status, ("True",) if kind in _LASTING else _STATUSES, required=True)
        if kind in _DECISIONS and any(one != kind and one in _DECISIONS for one in earlier):
            problems.invalid(path, kind, "Approved and Denied conditions are mutually exclusive")
        if kind in earlier:
            problems.duplicate(f"{where}.type", kind)


def wrong_certificates(encoded: str) -> str:
    """What is wrong with certificates, base64 of PEM; "" when nothing, or when there are none."""
    if not encoded:
        return ""
    count = 0
    for block in pem.blocks(_decoded(encoded)):
        if block.label != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block.label}"'
        if block.headers:
            return "no PEM block headers are permitted"
        if not block.content:
            return "found CERTIFICATE PEM block containing 0 certificates"
        count += 1
        if _certificate(block.content) is None:
            return "x509: malformed certificate"
    return "" if count else "must contain at least one CERTIFICATE PEM block"


def _certificate(der: bytes) -> Any:
    """A certificate of `cryptography`, or None."""
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


# --- trust bundles


def trust_bundle_name(name: str, signer: str) -> list[str]:
    """A bundle's name begins with its signer's, if it has one."""
    if not signer:
        if ":" in name:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return names.dns_subdomain(name)
    prefix = signer.replace("/", ":") + ":"
    if not name.startswith(prefix):
        return [f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"]
    return names.dns_subdomain(name.removeprefix(prefix))


def validate_trust_bundle(problems: Problems, bundle: str, path: str) -> None:
    if len(bundle.encode()) > _BUNDLE_SIZE:
        problems.too_long(path, _BUNDLE_SIZE)
        return
    found: dict[bytes, list[int]] = {}
    wrong: list[str] = []
    for index, block in enumerate(pem.blocks(bundle.encode())):
        if what := _wrong_anchor(block):
            wrong.append(f"entry {index} {what}")
        else:
            found.setdefault(block.content, []).append(index)
    if not wrong and not found:
        wrong.append("at least one trust anchor must be provided")
    elif not wrong:
        repeated = [" ".join(map(str, indexes)) for indexes in found.values() if len(indexes) > 1]
        wrong += [f"duplicate trust anchor (indices [{indexes}])" for indexes in repeated]
    for what in wrong:
        problems.invalid(path, "<value omitted>", what)


def _wrong_anchor(block: pem.Block) -> str:
    if block.label != "CERTIFICATE":
        return f"has bad block type: {block.label}"
    if block.headers:
        return "has PEM block headers"
    certificate = _certificate(block.content)
    if certificate is None:
        return "does not parse as X.509"
    from cryptography import x509

    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return "does not have the CA bit set"
    return "" if constraints.ca else "does not have the CA bit set"
