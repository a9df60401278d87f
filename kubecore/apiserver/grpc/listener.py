"""The gRPC port: it listens from the start and costs nothing until somebody calls.

The first connection waits in the socket's backlog while grpc is loaded and its server started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore._native import Front, ServingCertificate
    from kubecore.apiserver.grpc.server import GrpcServer, TransportFor

log = logging.getLogger("kubecore.apiserver.grpc")

_BACKLOG = 1024


class GrpcListener:
    """The port, and the server behind it once there was a first connection.

    `transport_for(call, metadata, telling)` gives the API server as whoever calls, through `front`, whose limits hold
    here, too.
    `run_dir` is for a socket of its own; nobody else is let in there.
    """

    def __init__(
        self,
        *,
        front: Front,
        certificate: ServingCertificate,
        transport_for: TransportFor,
        run_dir: Path,
    ) -> None:
        self._front = front
        self._certificate = certificate
        self._transport_for = transport_for
        self._socket: socket.socket | None = None
        self._starting: asyncio.Task[None] | None = None
        self._server: GrpcServer | None = None
        self._run_dir = run_dir
        self._directory: int | None = None

    def listen(self, host: str, port: int) -> int:
        """Listens, on the running loop; returns the port (0 picked a free one). OSError when it cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._first_connection)
        return int(self._socket.getsockname()[1])

    async def close(self, grace_seconds: float) -> None:
        """Refuses new calls; those under way may finish within the grace. Idempotent."""
        if self._socket is None:
            return
        listener, self._socket = self._socket, None
        if self._starting is None:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        else:
            await asyncio.wait((self._starting,))
        if self._server is not None:
            await self._server.stop(grace_seconds)
        listener.close()
        if self._directory is not None:
            os.close(self._directory)

    def _first_connection(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._starting = asyncio.create_task(self._start_guarded(self._socket), name="grpc-start")

    async def _start_guarded(self, listener: socket.socket) -> None:
        try:
            await self._start(listener)
        except Exception:
            log.exception("the gRPC server could not be started")
            listener.close()

    async def _start(self, listener: socket.socket) -> None:
        # On a thread, so that other requests are answered while grpc is loaded.
        grpc_server = await asyncio.to_thread(_load_server)
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = os.open(self._run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        server = grpc_server(
            front=self._front,
            listener=listener,
            certificate=self._certificate,
            # The name of a socket is limited to 107 bytes, which a data directory may well exceed: this one is short.
            run_dir=Path(f"/proc/self/fd/{self._directory}"),
            transport_for=self._transport_for,
        )
        await server.start()
        self._server = server


def _load_server() -> type[GrpcServer]:
    from kubecore.apiserver.grpc.server import GrpcServer

    return GrpcServer
