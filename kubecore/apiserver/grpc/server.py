"""The gRPC listener: who calls, what of, and how failures are told.

grpcio can either ignore client certificates or insist on them, and a caller may have a token instead. So TLS is ended
in Rust (`TlsTunnel`), which asks for a certificate without insisting, and hands the bytes on to grpcio's server over a
Unix socket in a directory of our own; each connection comes from a socket with a name of its own, by which the
certificate is found again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from socket import socket as Socket
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from kubecore import _native
from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb
from kubecore.apiserver.grpc import service
from kubecore.apiserver.grpc.failures import code_of, fitting, trailer
from kubecore.apiserver.grpc.service import Transport

if TYPE_CHECKING:
    from kubecore._native import UserInfo

log = logging.getLogger("kubecore.apiserver.grpc")

Authenticate = Callable[[str | None, bytes | None], Awaitable["UserInfo | None"]]
TransportFor = Callable[["UserInfo"], Transport]

SERVICE = pb.DESCRIPTOR.services_by_name["Objects"].full_name
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
_BEARER = "bearer "
_OPTIONS = (
    # A request may be as large as the REST API takes (3 MiB) and its typed fields.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    # Clients that ping an idle watch are welcome.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)

_Request = TypeVar("_Request", bound=Message)


def _reflect(server: grpc.aio.Server, *services: str) -> None:
    """Under both names that clients ask by: v1 has the messages of v1alpha, of which alone the library knows."""
    names = (*services, reflection.SERVICE_NAME, _REFLECTION_V1)
    reflection.enable_server_reflection(names, server)
    answer = grpc.stream_stream_rpc_method_handler(
        ReflectionServicer(names).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": answer})
    server.add_generic_rpc_handlers((handler,))


class GrpcServer:
    """Serves `kubecore.v1.Objects`, health and reflection on a socket that listens already, with TLS.

    `authenticate(token, certificate)` names the caller, or None for bad credentials; `transport_for` gives the API
    server's handler chain for that identity. `run_dir` must be a directory only this user can enter.
    """

    def __init__(
        self,
        *,
        listener: Socket,
        certificate: _native.ServingCertificate,
        run_dir: Path,
        authenticate: Authenticate,
        transport_for: TransportFor,
    ) -> None:
        self._listener = listener
        self._certificate = certificate
        self._socket = run_dir / "grpc.sock"
        self._authenticate = authenticate
        self._transport_for = transport_for
        self._server: grpc.aio.Server | None = None
        self._tunnel: _native.TlsTunnel | None = None
        self._health = HealthServicer()

    async def start(self) -> None:
        """Takes connections from the listener from now on."""
        server = self._server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers()),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _reflect(server, SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self._socket}")
        await server.start()
        self._socket.chmod(0o600)
        self._tunnel = _native.TlsTunnel(self._listener.fileno(), self._certificate, upstream=str(self._socket))
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("gRPC on %s:%d", *self._listener.getsockname()[:2])

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, lets those under way finish within the grace, ends watches at its end."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace_seconds)
        if self._tunnel is not None:
            self._tunnel.close()
        self._socket.unlink(missing_ok=True)

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "Get": self._unary(service.get, pb.GetRequest),
            "Create": self._unary(service.create, pb.CreateRequest),
            "Update": self._unary(service.update, pb.UpdateRequest),
            "Patch": self._unary(service.patch, pb.PatchRequest),
            "Delete": self._unary(service.delete, pb.DeleteRequest),
            "Batch": self._unary(service.batch, pb.BatchRequest),
            "List": self._stream(service.list_pages, pb.ListRequest),
            "Watch": self._stream(service.watch, pb.WatchRequest),
        }

    def _unary(
        self, operation: Callable[[Transport, _Request], Awaitable[Message]], request_type: type[_Request]
    ) -> grpc.RpcMethodHandler:
        async def handle(request: _Request, context: grpc.aio.ServicerContext) -> bytes:
            try:
                answer = await operation(await self._caller(context), request)
            except Exception as error:
                await _abort(context, error)
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle, request_deserializer=request_type.FromString)

    def _stream(
        self, operation: Callable[[Transport, _Request], AsyncIterator[Message]], request_type: type[_Request]
    ) -> grpc.RpcMethodHandler:
        async def handle(request: _Request, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            try:
                async for message in operation(await self._caller(context), request):
                    yield message.SerializeToString()
            except Exception as error:
                await _abort(context, error)

        return grpc.unary_stream_rpc_method_handler(handle, request_deserializer=request_type.FromString)

    async def _caller(self, context: grpc.aio.ServicerContext) -> Transport:
        """The API server as whoever calls. Raises StatusError (401) for bad credentials."""
        token = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
                token = value[len(_BEARER) :].strip()
        certificate = None if self._tunnel is None else self._tunnel.certificate(context.peer())
        user = await self._authenticate(token, certificate)
        if user is None:
            raise errors.unauthorized()
        return self._transport_for(user)


async def _abort(context: grpc.aio.ServicerContext, error: Exception) -> Any:
    """Ends the call with what the error says. Never returns."""
    if not isinstance(error, StatusError):
        if isinstance(error, grpc.aio.AbortError):
            raise error
        log.error("a gRPC call failed", exc_info=error)
        error = errors.internal_error(f"{type(error).__name__}: {error}")
    error = fitting(error)
    await context.abort(code_of(error), error.message, trailer(error))
