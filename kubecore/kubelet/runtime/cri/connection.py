"""A container runtime's socket, and what goes over it: calls of the Container Runtime Interface.

The messages are of the package `container-runtime-interface-api`, which the extra `cri` brings.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from kubecore.kubelet.runtime.interface import TOO_LATE, RuntimeFailure

DEFAULT_ENDPOINT = "unix:///run/containerd/containerd.sock"

_SCHEME = "unix://"
# As upstream: a command's output, and lists of many containers, are longer than gRPC allows unasked.
_LARGEST_MESSAGE = 16 * 1024 * 1024
CALL_SECONDS = 120.0
"""Upstream's `--runtime-request-timeout`."""
PULL_SECONDS = 3600.0


class CriLack(Exception):
    """There is nothing to talk to, or with; the text says what to install."""


def check(endpoint: str) -> None:
    """Raises CriLack."""
    if not endpoint.startswith(_SCHEME):
        raise CriLack(f"container runtime endpoint {endpoint!r} is not of the form unix:///path/of/the.sock")
    if importlib.util.find_spec("cri_api") is None:
        raise CriLack("runtime cri needs the package container-runtime-interface-api: pip install 'kubecore[cri]'")
    path = endpoint.removeprefix(_SCHEME)
    if not Path(path).is_socket():
        raise CriLack(
            f"no container runtime listens at {path}: install and start one (containerd and runc from your "
            "distribution), or say where it is with --container-runtime-endpoint"
        )


class Connection:
    """`call` asks the runtime, `images` the image service, which may be somewhere else."""

    def __init__(self, endpoint: str, image_endpoint: str = "") -> None:
        check(endpoint)
        check(image_endpoint or endpoint)
        # Neither costs clusters without such a runtime anything.
        import grpc

        self._grpc = grpc
        self.api: Any = importlib.import_module("cri_api.v1.api_pb2")
        stubs = importlib.import_module("cri_api.v1.api_pb2_grpc")
        self._channel = self._open(endpoint)
        self._runtime = stubs.RuntimeServiceStub(self._channel)
        self._image_channel = self._open(image_endpoint) if image_endpoint else self._channel
        self._images = stubs.ImageServiceStub(self._image_channel)

    def _open(self, endpoint: str) -> Any:
        options = [("grpc.max_receive_message_length", _LARGEST_MESSAGE)]
        return self._grpc.aio.insecure_channel(f"unix:{endpoint.removeprefix(_SCHEME)}", options=options)

    async def close(self) -> None:
        await self._channel.close()
        if self._image_channel is not self._channel:
            await self._image_channel.close()

    async def call(self, name: str, *, reason: str, seconds: float = CALL_SECONDS, **fields: Any) -> Any:
        """Raises RuntimeFailure with this reason, NotFound for what there is not, TimeoutError when the runtime says so
        itself."""
        return await self._call(self._runtime, name, reason, seconds, fields)

    async def ask_images(self, name: str, *, reason: str, seconds: float = CALL_SECONDS, **fields: Any) -> Any:
        return await self._call(self._images, name, reason, seconds, fields)

    async def _call(self, stub: Any, name: str, reason: str, seconds: float, fields: dict[str, Any]) -> Any:
        request = getattr(self.api, f"{name}Request")(**fields)
        codes = self._grpc.StatusCode
        try:
            return await getattr(stub, name)(request, timeout=seconds)
        except self._grpc.aio.AioRpcError as error:
            text = error.details() or error.code().name
            if error.code() is codes.DEADLINE_EXCEEDED:
                raise TimeoutError(TOO_LATE) from error
            if error.code() is codes.NOT_FOUND:
                raise RuntimeFailure("NotFound", text) from error
            if error.code() is codes.UNAVAILABLE:
                text = f"the container runtime does not answer: {text}"
            raise RuntimeFailure(reason, text) from error
