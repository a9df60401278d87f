"""Load in which every request differs from the one before: a connection each, one request in flight, from the other
core. The client parses no more than it must; the figure to look at is the server's CPU.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from _load import Load
from _servers import LOAD_CPU, Server, trusting

_SILENCE_SECONDS = 60


class Connection:
    """HTTP/1.1 to `url`, over TLS where it says so."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self._socket: socket.socket = socket.create_connection((parts.hostname, parts.port), timeout=_SILENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context := trusting(url):
            self._socket = context.wrap_socket(self._socket)

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError("the connection was ended")
        return data

    def ask(self, request: bytes) -> bytes:
        """The whole answer to one request. Raises RuntimeError unless it succeeds."""
        self.send(request)
        data = self.receive()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.receive()
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", data[: end + 2])
        whole = end + 4 + int(length.group(1)) if length else 0
        while len(data) < whole if whole else not data.endswith(b"\r\n0\r\n\r\n"):
            data += self.receive()
        if data[9:10] != b"2":
            raise RuntimeError(data[:2000].decode(errors="replace"))
        return data


def request(method: str, path: str, *, token: str, body: bytes = b"", media_type: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def held(server: Server, url: str, conversations: Sequence[Iterator[bytes]]) -> Load:
    """All conversations at once, until each has had all its answers."""
    connections = [Connection(url) for _ in conversations]
    answered, failed = [0] * len(conversations), list[Exception]()

    def hold(index: int) -> None:
        os.sched_setaffinity(0, {int(LOAD_CPU)})
        try:
            for one in conversations[index]:
                connections[index].ask(one)
                answered[index] += 1
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=hold, args=(index,)) for index in range(len(conversations))]
    cpu, began = server.cpu_seconds(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, spent = time.monotonic() - began, server.cpu_seconds() - cpu
    for connection in connections:
        connection.close()
    if failed:
        raise failed[0]
    return Load(sum(answered), seconds, spent)
