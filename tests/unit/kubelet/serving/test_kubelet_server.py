"""The kubelet's port, whose HTTP is served by Rust, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import trustme

from kubecore.kubelet.serving.server import KubeletServer, ServerConfig
from tests.unit.kubelet.conftest import Node

GET = "GET {} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class Serving:
    """A server at a port of its own."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(folder / "ca.crt")
        config = ServerConfig(0, None, None, folder / "ca.crt", folder)
        self.server = KubeletServer(node.kubelet, node.api.client("kubelet"), config, node.clock)
        self.server.listen("127.0.0.1")
        self._task = asyncio.create_task(self.server.serve())

    async def get(self, path: str) -> bytes:
        """As an administrator."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        named = {"common_name": "admin", "organization_name": "system:masters"}
        self._ca.issue_cert("client.example", **named).configure_cert(context)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, ssl=context)
        writer.write(GET.format(path).encode())
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return answer

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.server.close()


async def test_nothing_is_left_of_a_server_that_is_closed(node: Node, tmp_path: Path) -> None:
    serving = Serving(node, tmp_path)
    assert b"kubelet_node_name" in await serving.get("/metrics")
    await serving.close()
    left = weakref.ref(serving.server)
    del serving
    gc.collect()
    assert left() is None


async def test_metrics_that_cannot_be_rendered_are_a_request_that_has_ended(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> bytes:
        raise ValueError("no such number")

    serving, told = Serving(node, tmp_path), []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_value))
    with monkeypatch.context() as broken:
        broken.setattr(node.kubelet.metrics, "render", failing)
        await serving.get("/metrics")
    labels = 'long_running="false",method="GET",path="metrics",server_type="readwrite"'
    assert f"kubelet_http_requests_duration_seconds_count{{{labels}}} 1".encode() in await serving.get("/metrics")
    assert [str(one) for one in told] == ["no such number"]
    await serving.close()
