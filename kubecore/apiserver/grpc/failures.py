"""What went wrong, in gRPC's words: Kubernetes' Status to a status code, with the Status in the details."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb

DETAILS_KEY = "grpc-status-details-bin"
_TYPE_URL = "type.googleapis.com/kubecore.v1.KubernetesStatus"
# Trailers are headers: what does not fit into them is cut off.
_MOST_DETAILS = 6144

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


def trailer(error: StatusError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the details."""
    details = rpc_status(error).SerializeToString()
    if len(details) > _MOST_DETAILS:
        short = StatusError(error.code, error.reason, error.message[:1024])
        details = rpc_status(short).SerializeToString()
    return ((DETAILS_KEY, details),)
