"""Many watchers read by one cheap client: it counts a marker that every event carries, so that it costs every server's
protocol the same, and decodes nothing.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from _load import GRPC_HEADERS, Load, etcd_range, field, grpc_frame
from _servers import Server

MARKER = "MARKERmarkerMARK"
_MARK = MARKER.encode()
_LARGEST_WINDOW = 2**31 - 1
_SILENCE_SECONDS = 30


class Counting:
    """Counts the marker in what one socket brings, also where it is cut in two by a read."""

    def __init__(self, one: socket.socket) -> None:
        self._socket, self._tail = one, b""

    def read(self, buffer: bytearray) -> int:
        """Markers completed by one read. What was read is looked at in place: the client must not be the limit."""
        length = self._socket.recv_into(buffer)
        if not length:
            raise RuntimeError("a watch was ended")
        rest = len(_MARK) - 1
        seam = self._tail + buffer[: min(rest, length)]
        # Neither side of the seam is long enough to hold a marker by itself.
        found = buffer.count(_MARK, 0, length) + seam.count(_MARK)
        self._tail = bytes(buffer[length - rest : length]) if length >= rest else bytes(seam[-rest:])
        return found


def counted(sockets: Sequence[socket.socket], events: int, burst: Callable[[], object], server: Server) -> Load:
    """Run `burst`, which makes `events` events, and read until every socket has had all of them."""
    poll, buffer = select.epoll(), bytearray(1 << 18)
    readers = {}
    for one in sockets:
        one.setblocking(False)
        poll.register(one.fileno(), select.EPOLLIN)
        readers[one.fileno()] = Counting(one)
    expected, seen = len(sockets) * events, 0
    maker = threading.Thread(target=burst)
    cpu, books, started = server.cpu_seconds(), time.thread_time(), time.monotonic()
    maker.start()
    try:
        while seen < expected:
            ready = poll.poll(_SILENCE_SECONDS)
            if not ready:
                raise RuntimeError(f"only {seen} of {expected} events came")
            for descriptor, _ in ready:
                seen += readers[descriptor].read(buffer)
        seconds = time.monotonic() - started
        return Load(expected, seconds, server.cpu_seconds() - cpu, time.thread_time() - books)
    finally:
        maker.join()
        poll.close()


@contextlib.contextmanager
def closing(sockets: Sequence[socket.socket]):  # type: ignore[no-untyped-def]
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def settle(server: Server) -> None:
    """Wait until the server has been idle for half a second: it has taken all watchers on, or let them go."""
    before = server.cpu_seconds()
    while True:
        time.sleep(0.5)
        now = server.cpu_seconds()
        if now - before < 0.01:
            return
        before = now


def watch_kubecore(port: int, path: str, revision: str) -> socket.socket:
    """One HTTP/1.1 connection with one watch."""
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(f"GET {path}?watch=1&resourceVersion={revision} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return one


def watch_etcd(port: int, prefix: bytes) -> socket.socket:
    """One HTTP/2 connection with one Watch stream, its windows so large that no update is ever due."""
    one = socket.create_connection(("127.0.0.1", port))
    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.Watch/Watch"), (":authority", "x")]
    headers += [(name, value) for name, _, value in (header.partition(": ") for header in GRPC_HEADERS)]
    create = field(1, etcd_range(prefix, prefix[:-1] + bytes([prefix[-1] + 1])))
    one.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(4, 0, 0, struct.pack(">HI", 4, _LARGEST_WINDOW))
        + _frame(8, 0, 0, struct.pack(">I", _LARGEST_WINDOW - 65535))
        + _frame(4, 1, 0, b"")
        + _frame(1, 4, 1, b"".join(_literal(name, value) for name, value in headers))
        + _frame(0, 0, 1, grpc_frame(create))
    )
    return one


def _literal(name: str, value: str) -> bytes:
    """A header that is never indexed (HPACK); both parts shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
