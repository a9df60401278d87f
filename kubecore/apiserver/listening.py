"""The ports of a server: HTTPS, plain HTTP on loopback, gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from kubecore.apiserver.grpc.front_transport import FrontTransport
from kubecore.apiserver.grpc.listener import GrpcListener
from kubecore.apiserver.transport.front_door import BatchHandler, FrontDoor, listen_tls, told_where
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.config import APIServerConfig


class Listening:
    """0 is the number of a port that there is not."""

    def __init__(
        self,
        front: _native.Front,
        handler: BatchHandler,
        certificate: _native.ServingCertificate,
        config: APIServerConfig,
    ) -> None:
        """`handler` gets the requests that the front does not answer, `certificate` is shown at the ports with TLS."""
        self._front = front
        self._certificate = certificate
        self._config = config
        self._door = FrontDoor(front, handler)
        self._grpc: GrpcListener | None = None
        self.secure_port = 0
        self.insecure_port = 0
        self.grpc_port = 0

    def open(self) -> None:
        """On the running loop. Raises OSError for a port that cannot be had; `close` ends what was opened before."""
        config = self._config
        self._door.open()
        hosts = [config.bind_address]
        if config.service_address and config.bind_address != "::":
            hosts.append(config.service_address)
        self.secure_port = listen_tls(self._front, hosts, config.secure_port, self._certificate)
        if config.insecure_port:
            with told_where("127.0.0.1", config.insecure_port, "--insecure-port"):
                self.insecure_port = self._front.listen_plain("127.0.0.1", config.insecure_port)
        if config.grpc_port is not None:
            self._listen_grpc(config.bind_address, config.grpc_port)

    def _listen_grpc(self, host: str, port: int) -> None:
        self._grpc = GrpcListener(
            front=self._front,
            certificate=self._certificate,
            transport_for=FrontTransport,
            run_dir=self._config.data_dir / "grpc",
        )
        with told_where(host, port, "--grpc-port"):
            self.grpc_port = self._grpc.listen(host, port)

    def write_ports(self) -> None:
        """`ports.json`, for whoever let free ports be picked."""
        ports = {"secure": self.secure_port, "insecure": self.insecure_port, "grpc": self.grpc_port}
        content = orjson.dumps({name: port for name, port in ports.items() if port}) + b"\n"
        write_whole(self._config.data_dir / "ports.json", content)

    async def close(self, grace_seconds: float) -> None:
        """Not ready any more: requests and calls under way may finish within the grace."""
        self._front.set_ready(False)
        # Its calls are answered through the front.
        if self._grpc is not None:
            await self._grpc.close(grace_seconds)
        await self._door.close(grace_seconds)
