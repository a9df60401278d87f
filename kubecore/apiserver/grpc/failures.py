"""What went wrong, in gRPC's words: Kubernetes' Status to a status code, with the Status in the details."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb

DETAILS_KEY = "grpc-status-details-bin"
_TYPE_URL = "type.googleapis.com/kubecore.v1.KubernetesStatus"
# The message and the details are headers, of which many clients take 8 KiB in all and fail a call that has more.
_MOST_HEADER_BYTES = 6144
_MOST_MESSAGE_BYTES = 1536

_BY_REASON = {
    "AlreadyExists": grpc.StatusCode.ALREADY_EXISTS,
    "Conflict": grpc.StatusCode.ABORTED,
    "Expired": grpc.StatusCode.OUT_OF_RANGE,
    "Timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
}

_BY_CODE = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    409: grpc.StatusCode.ABORTED,
    410: grpc.StatusCode.OUT_OF_RANGE,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def code_of(error: StatusError) -> grpc.StatusCode:
    found = _BY_REASON.get(error.reason) or _BY_CODE.get(error.code)
    if found is not None:
        return found
    return grpc.StatusCode.INTERNAL if error.code >= 500 else grpc.StatusCode.FAILED_PRECONDITION


def rpc_status(error: StatusError) -> pb.RpcStatus:
    """The google.rpc.Status of an error."""
    number: int = code_of(error).value[0]
    detail = pb.KubernetesStatus(json=error.to_json()).SerializeToString()
    return pb.RpcStatus(code=number, message=error.message, details=[AnyMessage(type_url=_TYPE_URL, value=detail)])


def fitting(error: StatusError) -> StatusError:
    """The error, or where its message and details are too long for headers: its message cut, and without its causes."""
    if sent_bytes(error) <= _MOST_HEADER_BYTES:
        return error
    short = {key: value for key, value in (error.details or {}).items() if key != "causes"}
    shorter = StatusError(error.code, error.reason, _cut(error.message), short or None)
    if rpc_status(shorter).ByteSize() * 4 // 3 + _MOST_MESSAGE_BYTES <= _MOST_HEADER_BYTES:
        return shorter
    return StatusError(error.code, error.reason, shorter.message)


def trailer(error: StatusError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the details of an error which fits."""
    return ((DETAILS_KEY, rpc_status(error).SerializeToString()),)


def sent_bytes(error: StatusError) -> int:
    """Of its message and its details."""
    # The details are sent in base64.
    return _message_bytes(error.message) + rpc_status(error).ByteSize() * 4 // 3


def _message_bytes(message: str) -> int:
    """Of a message as a header has it: what is not printable ASCII, and %, takes three bytes for one."""
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in message.encode())


def _cut(message: str) -> str:
    taken = 0
    for index, character in enumerate(message):
        taken += _message_bytes(character)
        if taken > _MOST_MESSAGE_BYTES:
            return message[:index] + "..."
    return message
