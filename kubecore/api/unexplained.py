"""What Kubernetes' clients say of an answer that is a failure and no Status.

After upstream k8s.io/apimachinery pkg/api/errors/errors.go, NewGenericServerResponse.
"""

from __future__ import annotations

from kubecore.api.quoting import quoted

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
_UNKNOWN = "unknown"
_NOT_ACCEPTABLE = "the server was unable to respond with a content type that the client supports"


def unexplained(status: int, text: str = _UNKNOWN) -> str:
    """`text` is the answer's, where it is one that can be told."""
    if status in _TOLD:
        return _TOLD[status]
    if status == 406 and text in ("", _UNKNOWN):
        return _NOT_ACCEPTABLE
    if status in (403, 406, 415) and text:
        return text
    if status >= 500:
        return f"an error on the server ({quoted(text)}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"
