"""Why whoever was asked outside has not answered, or not with what one could use, as clients in Go word it.

After upstream k8s.io/client-go rest/request.go and k8s.io/apimachinery pkg/api/errors/errors.go.
"""

from __future__ import annotations

import errno
import ssl
from typing import Any, cast

import orjson

from kubecore.api.quoting import quoted
from kubecore.server_trust import refusal

JSON = dict[str, Any]
JSON_TYPE = "application/json"

_DIALING = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.ETIMEDOUT: "i/o timeout",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
}
_BROKEN = "net/http: HTTP/1.x transport connection broken"


def said(error: BaseException) -> str:
    """Why a connection failed, in Go's words where they are known by them."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return refusal(cast(ssl.SSLCertVerificationError, error.certificate_error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return _dialing(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{_BROKEN}: malformed HTTP response"
    if isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == errno.ECONNRESET:
        return "read: connection reset by peer"
    return str(error) or type(error).__name__


def _dialing(error: Any) -> str:
    cause = error.os_error
    if cause.errno is None:
        # No Service to dial; or who was dialed has closed the connection before there was TLS.
        return str(cause) or "EOF"
    why = _DIALING.get(cause.errno) or cause.strerror or str(cause)
    return f"dial tcp {error.host}:{error.port}: {why}"


_TOLD = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
_NOT_ACCEPTABLE = "the server was unable to respond with a content type that the client supports"


def refused(status: int, body: bytes, content_type: str) -> str:
    """Of an answer that is no success: a Status says it itself, of other bodies only texts are told."""
    if 300 <= status < 400:
        return f"the server answered with a redirection ({status}), which is not followed"
    if (told := failure(body)) is not None:
        return str(told.get("message") or "")
    if status in _TOLD:
        return _TOLD[status]
    is_text = not content_type or content_type.strip().lower().startswith("text/")
    text = body[:2048].decode("utf-8", "replace").strip() if is_text else "unknown"
    if status == 406 and text in ("", "unknown"):
        return _NOT_ACCEPTABLE
    if status in (403, 406, 415) and text:
        return text
    if status >= 500:
        return f"an error on the server ({quoted(text)}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"


def failure(body: bytes) -> JSON | None:
    """The Status of a failure, where the body is one."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != ("v1", "Status"):
        return None
    return found if found.get("status") == "Failure" else None


def empty(status: int, content_type: str) -> str:
    """Of a success without anything in it."""
    return f"0-length response with status code: {status} and content type: {content_type or JSON_TYPE}"
