"""Why whoever was asked outside has not answered, or not with what one could use, as clients in Go word it.

After upstream k8s.io/client-go rest/request.go.
"""

from __future__ import annotations

import errno
import re
import ssl
from typing import Any, cast

import orjson

from kubecore.api.unexplained import unexplained
from kubecore.server_trust import refusal

JSON = dict[str, Any]
JSON_TYPE = "application/json"

_DIALING = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.ETIMEDOUT: "i/o timeout",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
}
# The first address of a name, in the event loop's words.
_DIALED = re.compile(r"Connect call failed \('([^']+)', \d+")
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
    dialed = _DIALED.search(str(cause))
    return f"dial tcp {joined(dialed[1] if dialed else error.host, error.port)}: {why}"


def joined(host: str, port: int) -> str:
    """As Go's net.JoinHostPort."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refused(status: int, body: bytes, content_type: str) -> str:
    """Of an answer that is no success: a Status says it itself, of other bodies only texts are told."""
    if 300 <= status < 400:
        return f"the server answered with a redirection ({status}), which is not followed"
    if (told := failure(body)) is not None:
        return str(told.get("message") or "")
    is_text = not content_type or content_type.strip().lower().startswith("text/")
    return unexplained(status, body[:2048].decode("utf-8", "replace").strip()) if is_text else unexplained(status)


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
