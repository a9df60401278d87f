"""Asks a running proxy for its tables (see `status`)."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

_SECONDS = 10.0


class ProxyUnreachable(Exception):
    """Nobody answers; the text says where."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def ask(path: Path, server: str = "") -> dict[str, Any]:
    """`mode` and `services`, of the proxy at the Unix socket, or at `server` (HOST:PORT) unless that is empty."""
    where = server or str(path)
    connection = http.client.HTTPConnection(server, timeout=_SECONDS) if server else _UnixConnection(path)
    try:
        connection.request("GET", "/services")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or error
        advice = "--server: a proxy's --metrics-bind-address" if server else "--data-dir: of a running `kubecore up`"
        raise ProxyUnreachable(f"no service proxy answers at {where}: {reason} ({advice})") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise ProxyUnreachable(f"{where} is no service proxy of kubecore: {answer.status} {answer.reason}")
    told: dict[str, Any] = json.loads(body)
    return told
