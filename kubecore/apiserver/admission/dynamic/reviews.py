"""AdmissionReviews: what a webhook is asked, and what its answer says.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/request/admissionreview.go and errors/statuserror.go.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from kubecore.api.errors import StatusError
from kubecore.api.quoting import quoted
from kubecore.apiserver.admission.dynamic.options import operation_options
from kubecore.apiserver.admission.dynamic.subjects import kind_of
from kubecore.apiserver.webhooks.answers import unparsed

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.subjects import Form, Subject
    from kubecore.apiserver.registry.strategy import User

JSON = dict[str, Any]

_GROUP = "admission.k8s.io"
VERSIONS = ("v1", "v1beta1")
_JSON_PATCH = "JSONPatch"
# The last one that HTTP has room for.
_LAST_CODE = 999
_HEADS = 1024


def request_of(subject: Subject, target: Resource) -> bytes:
    """An AdmissionRequest without uid and objects, seen as the target: JSON."""
    request: JSON = {}
    if subject.name:
        request["name"] = subject.name
    if subject.namespace:
        request["namespace"] = subject.namespace
    request["operation"] = subject.operation
    request["userInfo"] = _user(subject.ctx.user)
    request["dryRun"] = subject.ctx.dry_run
    request["options"] = operation_options(subject.ctx, subject.operation)
    return b"%b,%b" % (_head(subject, target), orjson.dumps(request)[1:])


# By what they tell: JSON without its end.
_heads: dict[tuple[str, ...], bytes] = {}


def _head(subject: Subject, target: Resource) -> bytes:
    """What requests of the same sort have in common."""
    asked, subresource = subject.resource, subject.subresource
    named = (asked.api_version, asked.kind, asked.plural, target.api_version, target.kind, target.plural, subresource)
    found = _heads.get(named)
    if found is None:
        if len(_heads) >= _HEADS:
            _heads.clear()
        told = _as_target(target, subresource) | {
            f"request{name[0].upper()}{name[1:]}": value for name, value in _as_target(asked, subresource).items()
        }
        found = _heads[named] = orjson.dumps(told)[:-1]
    return found


def _as_target(resource: Resource, subresource: str) -> JSON:
    told: JSON = {
        "kind": kind_of(resource, subresource)._asdict(),
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
    }
    if subresource:
        told["subResource"] = subresource
    return told


def _user(user: User) -> JSON:
    told: JSON = {}
    if user.username:
        told["username"] = user.username
    if user.uid:
        told["uid"] = user.uid
    if user.groups:
        told["groups"] = list(user.groups)
    if user.extra:
        told["extra"] = {name: list(values) for name, values in user.extra.items()}
    return told


def review(version: str, uid: str, request: bytes, form: Form) -> bytes:
    """The AdmissionReview that is sent."""
    head = f'{{"kind":"AdmissionReview","apiVersion":"{_GROUP}/{version}","request":{{"uid":"{uid}",'
    objects = b'"object":%b,"oldObject":%b' % (form.object or b"null", form.old or b"null")
    return b"%b%b,%b}}" % (head.encode(), request[1:-1], objects)


class _Response(msgspec.Struct):
    uid: str = ""
    allowed: bool = False
    status: JSON | None = None
    patch: str | None = None
    patchType: str | None = None
    auditAnnotations: dict[str, str] | None = None
    warnings: list[str] | None = None


class _Review(msgspec.Struct):
    apiVersion: str = ""
    kind: str = ""
    response: _Response | None = None


_REVIEW = msgspec.json.Decoder(_Review)


class Unreadable(Exception):
    """An answer that is no AdmissionReview at all."""


class BadAnswer(Exception):
    """An AdmissionReview that says what none may say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`patch` is a JSON patch, empty for none."""

    allowed: bool
    status: JSON | None = None
    patch: bytes = b""
    patch_type: str = ""
    annotations: JSON = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def answer_of(body: bytes, version: str, uid: str, *, mutating: bool) -> Answer:
    """Raises Unreadable, BadAnswer."""
    try:
        read = _REVIEW.decode(body)
        patch = base64.b64decode(read.response.patch, validate=True) if read.response and read.response.patch else b""
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        raise Unreadable(unparsed(body, error)) from None
    _check_kind(read, version)
    found = read.response
    if found is None:
        raise BadAnswer("webhook response was absent")
    patch_type = found.patchType or ""
    if version == "v1":
        _check(read, found, patch, uid, mutating=mutating)
    else:
        patch_type = _JSON_PATCH if patch else ""
    return Answer(
        allowed=found.allowed,
        status=found.status,
        patch=patch if mutating else b"",
        patch_type=patch_type,
        annotations=found.auditAnnotations or {},
        warnings=found.warnings or [],
    )


def _check_kind(read: _Review, version: str) -> None:
    """As upstream decodes an answer: what it does not say of itself is as expected."""
    given, kind, expected = read.apiVersion, read.kind or "AdmissionReview", f"{_GROUP}/{version}"
    if kind != "AdmissionReview" or (given and given not in [f"{_GROUP}/{one}" for one in VERSIONS]):
        told = f"no kind {quoted(kind)} is registered for version {quoted(given or expected)}"
        raise Unreadable(f'{told} in scheme "pkg/runtime/scheme.go:111"')
    if given and given != expected:
        other = given.removeprefix(f"{_GROUP}/")
        told = f"converting ({other}.AdmissionReview) to ({version}.AdmissionReview): unknown conversion"
        raise Unreadable(told)


def _check(read: _Review, found: _Response, patch: bytes, uid: str, *, mutating: bool) -> None:
    """What only v1 asks for."""
    if found.uid != uid:
        raise BadAnswer(f"expected response.uid={quoted(uid)}, got {quoted(found.uid)}")
    expected = f"{_GROUP}/v1"
    if (read.apiVersion, read.kind) != (expected, "AdmissionReview"):
        given = read.apiVersion if "/" in read.apiVersion else f"/{read.apiVersion}"
        raise BadAnswer(f"expected webhook response of {expected}, Kind=AdmissionReview, got {given}, Kind={read.kind}")
    if not mutating:
        for name, has in (("patch", bool(patch)), ("patchType", found.patchType is not None)):
            if has:
                raise BadAnswer(f"validating webhook may not return response.{name}")
    elif patch and found.patchType is None:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    elif not patch and found.patchType is not None:
        raise BadAnswer("webhook returned response.patchType but not response.patch")
    elif found.patchType == "":
        raise BadAnswer('webhook returned invalid response.patchType of ""')


class Denial(StatusError):
    """A webhook has refused the request."""


def denial(name: str, status: JSON | None) -> Denial:
    """The error that a webhook's refusal is."""
    status = status or {}
    code = status.get("code")
    code = code if isinstance(code, int) and code >= 400 else 400
    if code > _LAST_CODE:
        code = 500
    by = f"admission webhook {quoted(name)} denied the request"
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    told = f"{by}: {message or reason}" if message or reason else f"{by} without explanation"
    details = status.get("details")
    details = details if isinstance(details, dict) else None
    wait = (details or {}).get("retryAfterSeconds")
    headers = [("Retry-After", str(wait))] if isinstance(wait, int) and wait > 0 else []
    return Denial(code, reason, told, details, headers)
