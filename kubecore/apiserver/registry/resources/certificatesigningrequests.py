"""CertificateSigningRequests: who asks is written down by the server."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_USAGES = frozenset(
    {
        "signing",
        "digital signature",
        "content commitment",
        "key encipherment",
        "key agreement",
        "data encipherment",
        "cert sign",
        "crl sign",
        "encipher only",
        "decipher only",
        "any",
        "server auth",
        "client auth",
        "code signing",
        "email protection",
        "s/mime",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "timestamping",
        "ocsp signing",
        "microsoft sgc",
        "netscape sgc",
    }
)
_SHORTEST = 600


class CertificateSigningRequestStrategy(Unversioned):
    resource_key = "certificatesigningrequests.certificates.k8s.io"
    name_errors = staticmethod(names.path_segment)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec["username"] = ctx.user.username
        if ctx.user.uid:
            spec["uid"] = ctx.user.uid
        if ctx.user.groups:
            spec["groups"] = list(ctx.user.groups)
        if ctx.user.extra:
            spec["extra"] = {key: list(values) for key, values in ctx.user.extra.items()}

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        # A request stays as it was made.
        obj["spec"] = old["spec"]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        if ctx.operation == "CREATE" and not _is_request(spec.get("request") or ""):
            problems.invalid("spec.request", spec.get("request") or "", "PEM block type must be CERTIFICATE REQUEST")
        usages = spec.get("usages") or []
        if not usages:
            problems.required("spec.usages", "usages must be provided")
        for index, usage in enumerate(usages):
            if usage not in _USAGES:
                problems.unsupported(f"spec.usages[{index}]", usage, _USAGES)
            elif usage in usages[:index]:
                problems.duplicate(f"spec.usages[{index}]", usage)
        _signer(problems, spec.get("signerName") or "")
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < _SHORTEST:
            problems.invalid(
                "spec.expirationSeconds",
                seconds,
                f"may not specify a duration less than {_SHORTEST} seconds (10 minutes)",
            )
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems += validate_conditions(obj.get("status") or {}, old.get("status") or {})
        before = (old.get("status") or {}).get("certificate")
        if before:
            problems.immutable("status.certificate", (obj.get("status") or {}).get("certificate"), before)
        return problems


def _is_request(encoded: str) -> bool:
    try:
        text = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    return b"-----BEGIN CERTIFICATE REQUEST-----" in text or b"-----BEGIN NEW CERTIFICATE REQUEST-----" in text


def _signer(problems: Problems, name: str) -> None:
    path = "spec.signerName"
    if not name:
        problems.required(path)
        return
    domain, slash, rest = name.partition("/")
    if not slash or not rest or "." not in domain or names.dns_subdomain(domain):
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        problems.invalid(path, name, detail)


def validate_conditions(status: JSON, old: JSON) -> list[Cause]:
    """Approved, Denied and Failed stay once they are said; a request is never both approved and denied."""
    problems, path = Problems(), "status.conditions"
    conditions = status.get("conditions") or []
    present = {one.get("type") for one in conditions}
    for index, one in enumerate(conditions):
        if not one.get("type"):
            problems.required(f"{path}[{index}].type")
        problems.one_of(f"{path}[{index}].status", one.get("status"), ("False", "True", "Unknown"), required=True)
        if one.get("type") in ("Approved", "Denied", "Failed") and one.get("status") not in ("True", None):
            problems.unsupported(f"{path}[{index}].status", one.get("status"), ("True",))
    if {"Approved", "Denied"} <= present:
        problems.invalid(path, "Denied", "Approved and Denied conditions are mutually exclusive")
    for kind in ("Approved", "Denied", "Failed"):
        if kind not in present and any(one.get("type") == kind for one in old.get("conditions") or []):
            problems.forbidden(path, f'updates may not remove a condition of type "{kind}"')
    return problems
