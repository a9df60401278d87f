"""The gRPC listener: who calls, what of, and how failures are told.

grpcio can either ignore client certificates or insist on them, and a caller may have a token instead. So TLS is ended
in Rust (`TlsTunnel`), which asks for a certificate without insisting, and hands the bytes on to grpcio's server over a
Unix socket in a directory of our own; each connection comes from a socket with a name of its own, by which the tunnel
finds it again: who is at its end, and at which address.

A connection on which nothing is asked ends as one of REST does. What anybody may ask for as long as they like (health,
reflection) is no reason to keep it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
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
from kubecore.apiserver.grpc.failures import code_of, fitting, sent_bytes, trailer
from kubecore.apiserver.grpc.service import Transport
from kubecore.apiserver.grpc.telling import Telling

if TYPE_CHECKING:
    from kubecore.apiserver.grpc.front_transport import Metadata

log = logging.getLogger("kubecore.apiserver.grpc")

Asked = Callable[[grpc.aio.ServicerContext], None]
TransportFor = Callable[[_native.TunnelCall, "Metadata", Telling], Transport]

SERVICE = pb.DESCRIPTOR.services_by_name["Objects"].full_name
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
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


class _Reflection:
    """`asked` hears of each call."""

    def __init__(self, names: Iterable[str], asked: Asked) -> None:
        self._servicer = ReflectionServicer(names)
        self._asked = asked

    async def ServerReflectionInfo(
        self,
        request_iterator: AsyncIterable[reflection_pb2.ServerReflectionRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        self._asked(context)
        async for answer in self._servicer.ServerReflectionInfo(request_iterator, context):
            yield answer


def _reflect(server: grpc.aio.Server, asked: Asked, *services: str) -> None:
    """Under both names that clients ask by: v1 has the messages of v1alpha, of which alone the library knows."""
    servicer = _Reflection((*services, reflection.SERVICE_NAME, _REFLECTION_V1), asked)
    answer = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, _REFLECTION_V1):
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": answer})
        server.add_generic_rpc_handlers((handler,))


class GrpcServer:
    """Serves `kubecore.v1.Objects`, health and reflection on a socket that listens already, with TLS.

    `transport_for(call, metadata, telling)` gives the API server as whoever calls, through `front`, whose limits hold
    here, too.
    `run_dir` must be a directory only this user can enter.
    """

    def __init__(
        self,
        *,
        front: _native.Front,
        listener: Socket,
        certificate: _native.ServingCertificate,
        run_dir: Path,
        transport_for: TransportFor,
    ) -> None:
        self._front = front
        self._listener = listener
        self._certificate = certificate
        self._socket = run_dir / "grpc.sock"
        self._transport_for = transport_for
        self._server: grpc.aio.Server | None = None
        self._tunnel: _native.TlsTunnel | None = None
        self._health = HealthServicer()

    async def start(self) -> None:
        """Takes connections from the listener from now on."""
        limits = (
            ("grpc.max_concurrent_streams", self._front.max_streams),
            # So whoever is there is told before the tunnel cuts the connection.
            ("grpc.max_connection_idle_ms", int(self._front.idle_timeout * 1000)),
        )
        server = self._server = grpc.aio.server(options=(*_OPTIONS, *limits))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers()),))
        health_pb2_grpc.add_HealthServicer_to_server(_Health(self._health, self._notice), server)
        _reflect(server, self._notice, SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self._socket}")
        await server.start()
        self._socket.chmod(0o600)
        self._tunnel = _native.TlsTunnel(
            self._front, self._listener.fileno(), self._certificate, upstream=str(self._socket)
        )
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
            call, telling = self._call(context), Telling(context)
            try:
                answer = await operation(self._transport(call, context, telling), request)
            except Exception as error:
                await _abort(context, error, telling)
            context.set_trailing_metadata(telling.entries())
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle, request_deserializer=request_type.FromString)

    def _stream(
        self, operation: Callable[[Transport, _Request], AsyncIterator[Message]], request_type: type[_Request]
    ) -> grpc.RpcMethodHandler:
        async def handle(request: _Request, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            call, telling = self._call(context), Telling(context)
            try:
                async for message in operation(self._transport(call, context, telling), request):
                    await telling.begin()
                    yield message.SerializeToString()
            except Exception as error:
                await telling.begin()
                await _abort(context, error)

        return grpc.unary_stream_rpc_method_handler(handle, request_deserializer=request_type.FromString)

    def _call(self, context: grpc.aio.ServicerContext) -> _native.TunnelCall | None:
        """To be held until the call's end. None for who did not come through the tunnel."""
        return None if self._tunnel is None else self._tunnel.call(context.peer())

    def _transport(
        self, call: _native.TunnelCall | None, context: grpc.aio.ServicerContext, telling: Telling
    ) -> Transport:
        """The API server as whoever calls. Raises StatusError (401) for a stranger."""
        if call is None:
            raise errors.unauthorized()
        return self._transport_for(call, context.invocation_metadata() or (), telling)

    def _notice(self, context: grpc.aio.ServicerContext) -> None:
        """Something is asked on this connection now, by whoever that is."""
        self._call(context)


class _Health:
    """`asked` hears of each call."""

    def __init__(self, servicer: HealthServicer, asked: Asked) -> None:
        def noticed(answer: Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]) -> Any:
            async def noticing(request: Any, context: grpc.aio.ServicerContext) -> Any:
                asked(context)
                return await answer(request, context)

            return noticing

        self.Check, self.List, self.Watch = map(noticed, (servicer.Check, servicer.List, servicer.Watch))


async def _abort(context: grpc.aio.ServicerContext, error: Exception, telling: Telling | None = None) -> Any:
    """Ends the call with what the error says, and what is to be told at the end. Never returns."""
    if not isinstance(error, StatusError):
        if isinstance(error, grpc.aio.AbortError):
            raise error
        log.error("a gRPC call failed", exc_info=error)
        error = errors.internal_error(f"{type(error).__name__}: {error}")
    error = fitting(error)
    told = () if telling is None else telling.entries(beside=sent_bytes(error))
    await context.abort(code_of(error), error.message, (*told, *trailer(error)))
