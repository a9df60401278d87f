"""Errors of the API: `StatusError` carries a Status in Kubernetes' words, `FieldError` makes its causes.

The wording follows k8s.io/apimachinery `pkg/api/errors/errors.go` and `pkg/util/validation/field/errors.go`, because
clients and scripts match on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kubecore.api.quoting import in_gos_json, quoted

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a failure: machine-readable reason, message without the field, and the field's path."""

    reason: str
    message: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message

    def to_dict(self) -> JSON:
        out: JSON = {}
        if self.reason:
            out["reason"] = self.reason
        if self.message:
            out["message"] = self.message
        if self.field:
            out["field"] = self.field
        return out


class StatusError(Exception):
    """A request failed; holds everything the answering Status says.

    `headers` are extra response headers (Retry-After, WWW-Authenticate). `plain`: over HTTP it is this line of text.
    `unexplained`: what was answered is no Status, and the message its text.
    """

    plain = ""
    unexplained = False

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: JSON | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = list(headers)

    def __repr__(self) -> str:
        return f"StatusError({self.code}, {self.reason!r}, {self.message!r})"

    def to_status(self) -> JSON:
        """The Status object (v1) a client receives."""
        status: JSON = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status

    def to_json(self) -> bytes:
        return orjson.dumps(self.to_status())

    @property
    def causes(self) -> list[JSON]:
        return list((self.details or {}).get("causes") or [])

    def has_cause(self, reason: str) -> bool:
        return any(cause.get("reason") == reason for cause in self.causes)

    @classmethod
    def from_status(cls, status: Mapping[str, Any], code: int = 0) -> StatusError:
        """The error a client raises for a Status it was answered; `code` is the HTTP status, for a Status without."""
        return cls(
            int(status.get("code") or code or 500),
            str(status.get("reason") or ""),
            str(status.get("message") or ""),
            None if status.get("details") is None else dict(status["details"]),
        )

    @classmethod
    def from_body(cls, code: int, body: bytes) -> StatusError:
        """The error for an HTTP answer, whatever its body is."""
        try:
            status = orjson.loads(body)
        except orjson.JSONDecodeError:
            status = None
        if isinstance(status, dict) and status.get("kind") == "Status":
            return cls.from_status(status, code)
        text = body[:2048].decode("utf-8", "replace").strip()
        reason = _REASONS.get(code, "InternalError" if code >= 500 else "Unknown")
        error = cls(code, reason, text or f"HTTP {code}")
        error.unexplained = True
        return error


_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def qualified(group: str, plural: str) -> str:
    """`deployments.apps`, or `pods` for the core group: how messages name a resource."""
    return f"{plural}.{group}" if group else plural


def _details(name: str, group: str, kind: str, **more: Any) -> JSON:
    details: JSON = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details.update(more)
    return details


# --- Status constructors. `group` and `plural` name the resource; messages and details are upstream's.


def not_found(group: str, plural: str, name: str) -> StatusError:
    message = f"{qualified(group, plural)} {quoted(name)} not found"
    return StatusError(404, "NotFound", message, _details(name, group, plural))


def no_such_path() -> StatusError:
    """The 404 for a path or resource the server does not know."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def no_such_service() -> StatusError:
    """The 404 for a path that nothing of the server is at, which it answers in plain text."""
    error = no_such_path()
    error.plain = "404 page not found"
    return error


def already_exists(group: str, plural: str, name: str) -> StatusError:
    message = f"{qualified(group, plural)} {quoted(name)} already exists"
    return StatusError(409, "AlreadyExists", message, _details(name, group, plural))


def generate_name_conflict(group: str, plural: str, name: str) -> StatusError:
    """The 409 after all tries to find a free generated name failed."""
    message = (
        f"{qualified(group, plural)} {quoted(name)} already exists, the server was not able to generate a unique name"
    )
    return StatusError(409, "AlreadyExists", message, _details(name, group, plural), [("Retry-After", "1")])


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group: str, plural: str, name: str, detail: str = MODIFIED) -> StatusError:
    message = f"Operation cannot be fulfilled on {qualified(group, plural)} {quoted(name)}: {detail}"
    return StatusError(409, "Conflict", message, _details(name, group, plural))


def apply_conflict(message: str, conflicts: Iterable[tuple[str, str]]) -> StatusError:
    """409 of a server-side apply: one cause per field, (what the conflict is with, path)."""
    causes = [Cause("FieldManagerConflict", text, field).to_dict() for text, field in conflicts]
    return StatusError(409, "Conflict", message, {"causes": causes})


def invalid(kind: str, name: str, causes: Iterable[Cause], *, group: str = "") -> StatusError:
    """422 for an object that fails validation; the message joins the distinct causes."""
    listed = list(causes)
    texts = list(dict.fromkeys(str(cause) for cause in listed))
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    message = f"{qualified(group, kind)} {quoted(name)} is invalid: {joined}"
    details = _details(name, group, kind, causes=[cause.to_dict() for cause in listed])
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return StatusError(401, "Unauthorized", message)


def forbidden(group: str, plural: str, name: str, detail: str, *, causes: Iterable[Cause] = ()) -> StatusError:
    """403 as admission plugins and authorizers word it; `detail` says why."""
    if not plural:
        message = f"forbidden: {detail}"
    elif not name:
        message = f"{qualified(group, plural)} is forbidden: {detail}"
    else:
        message = f"{qualified(group, plural)} {quoted(name)} is forbidden: {detail}"
    details = _details(name, group, plural)
    listed = [cause.to_dict() for cause in causes]
    if listed:
        details["causes"] = listed
    return StatusError(403, "Forbidden", message, details)


def method_not_supported(group: str, plural: str, verb: str) -> StatusError:
    message = f'{verb} is not supported on resources of kind "{qualified(group, plural)}"'
    return StatusError(405, "MethodNotAllowed", message, _details("", group, plural))


def method_not_allowed() -> StatusError:
    """The 405 for a path that is known but not with this method."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def not_supported(group: str, plural: str, verb: str) -> StatusError:
    """The 405 for a verb that a resource lacks, where upstream knows of which resource it tells."""
    message = f'{verb} is not supported on resources of kind "{qualified(group, plural)}"'
    return StatusError(405, "MethodNotAllowed", message, _details("", group, plural))


def not_acceptable(accepted: Iterable[str]) -> StatusError:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return StatusError(406, "NotAcceptable", message)


def no_representation(made: Iterable[str]) -> StatusError:
    """The 406 for a client that takes no media type that is made at all."""
    return StatusError(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {', '.join(made)}", {})


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return StatusError(415, "UnsupportedMediaType", message)


def too_large(message: str) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def expired(message: str) -> StatusError:
    """410 for a resourceVersion or continue token older than what is kept."""
    return StatusError(410, "Expired", message)


def too_many_requests(message: str, retry_after: int = 1, *, causes: Iterable[Cause] = ()) -> StatusError:
    details: JSON = {"retryAfterSeconds": retry_after} if retry_after else {}
    listed = [cause.to_dict() for cause in causes]
    if listed:
        details["causes"] = listed
    headers = [("Retry-After", str(retry_after))] if retry_after else []
    return StatusError(429, "TooManyRequests", message, details, headers)


def service_unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def timeout(message: str, retry_after: int = 0) -> StatusError:
    details: JSON = {"retryAfterSeconds": retry_after} if retry_after else {}
    return StatusError(504, "Timeout", f"Timeout: {message}", details)


def internal_error(detail: object) -> StatusError:
    details: JSON = {"causes": [{"message": str(detail)}]}
    return StatusError(500, "InternalError", f"Internal error occurred: {detail}", details)


def plain_error(causes: Sequence[Cause]) -> StatusError:
    """500 of no reason: where upstream's handlers give on what is wrong as it is, and not as an Invalid."""
    return StatusError(500, "", aggregated([str(cause) for cause in causes]))


def not_implemented(what: str) -> StatusError:
    """501 for a part of the API this server does not have; `what` is a full sentence for the user."""
    return StatusError(501, "NotImplemented", what)


def aggregated(messages: Sequence[str]) -> str:
    """What several errors say, in one: each once, in brackets where there are several (apimachinery
    `pkg/util/errors`)."""
    told = tuple(dict.fromkeys(messages))
    return told[0] if len(told) == 1 else f"[{', '.join(told)}]" if told else ""


def is_not_found(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.code == 404


def is_conflict(error: BaseException) -> bool:
    """A write lost the race against another one; AlreadyExists is not a conflict though its code is 409 too."""
    return isinstance(error, StatusError) and error.reason == "Conflict"


def is_already_exists(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "AlreadyExists"


def is_gone(error: BaseException) -> bool:
    """The revision asked for is no longer kept: list again."""
    return isinstance(error, StatusError) and error.reason in ("Expired", "Gone")


# --- Field errors


def _shown(value: object) -> str:
    """How a bad value appears in a message: strings quoted, null as null, lists and objects as JSON."""
    if isinstance(value, str):
        return quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)


class FieldError:
    """Constructors of field causes; `path` is like `spec.containers[0].name`."""

    @staticmethod
    def required(path: str, detail: str = "") -> Cause:
        return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", path)

    @staticmethod
    def invalid(path: str, value: object, detail: str) -> Cause:
        shown = f"Invalid value: {_shown(value)}"
        return Cause("FieldValueInvalid", f"{shown}: {detail}" if detail else shown, path)

    @staticmethod
    def type_invalid(path: str, value: object, detail: str) -> Cause:
        return Cause("FieldValueTypeInvalid", f"Invalid value: {_shown(value)}: {detail}", path)

    @staticmethod
    def not_supported(path: str, value: object, allowed: Iterable[str]) -> Cause:
        values = ", ".join(quoted(one) for one in allowed)
        # Go's types of values to choose from are of their own, which are shown as JSON.
        shown = f"Unsupported value: {in_gos_json(value) if isinstance(value, str) else _shown(value)}"
        return Cause("FieldValueNotSupported", f"{shown}: supported values: {values}" if values else shown, path)

    @staticmethod
    def duplicate(path: str, value: object, detail: str = "") -> Cause:
        shown = f"Duplicate value: {_shown(value)}"
        return Cause("FieldValueDuplicate", f"{shown}: {detail}" if detail else shown, path)

    @staticmethod
    def not_found(path: str, value: object, detail: str = "") -> Cause:
        shown = f"Not found: {_shown(value)}"
        return Cause("FieldValueNotFound", f"{shown}: {detail}" if detail else shown, path)

    @staticmethod
    def forbidden(path: str, detail: str) -> Cause:
        return Cause("FieldValueForbidden", f"Forbidden: {detail}", path)

    @staticmethod
    def internal(path: str, detail: str) -> Cause:
        return Cause("InternalError", f"Internal error: {detail}", path)

    @staticmethod
    def too_long(path: str, maximum: int) -> Cause:
        return Cause("FieldValueTooLong", f"Too long: may not be more than {maximum} bytes", path)

    @staticmethod
    def too_many(path: str, actual: int, maximum: int) -> Cause:
        plural = "item" if maximum == 1 else "items"
        return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {maximum} {plural}", path)

    @staticmethod
    def immutable(path: str, value: object) -> Cause:
        """The field may not change after creation."""
        return FieldError.invalid(path, value, "field is immutable")


def combine(parts: Iterable[Sequence[Cause]]) -> list[Cause]:
    """All causes of several checks, in order."""
    return [cause for part in parts for cause in part]
