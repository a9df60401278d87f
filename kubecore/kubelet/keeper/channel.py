"""Messages, with descriptors if need be, between two processes over a Unix stream socket."""

from __future__ import annotations

import array
import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

from kubecore.kubelet.runtime.processes import close_all

_HEAD = struct.Struct("<IH")
"""Of a message: bytes, and descriptors that come with it."""
_CHUNK = 256 * 1024
_MOST_DESCRIPTORS = 64

OnMessage = Callable[[bytes, list[int]], None]
"""The descriptors are the callee's to close."""


class Channel:
    """One end. Both callbacks run on the event loop; `on_closed` is called once, however it ends."""

    def __init__(self, connection: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._arrived: deque[int] = deque()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._writing = False
        self.open = True
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """The descriptors are the channel's from now on. Nothing is sent once it is closed."""
        if not self.open:
            close_all(*descriptors)
            return
        framed = memoryview(_HEAD.pack(len(message), len(descriptors)) + message)
        self._outgoing.append((framed, list(descriptors)))
        if not self._writing:
            self._flush()

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        close_all(*self._arrived, *(one for _, descriptors in self._outgoing for one in descriptors))
        self._outgoing.clear()
        self._arrived.clear()
        self._on_closed()

    def _flush(self) -> None:
        while self._outgoing:
            left, descriptors = self._outgoing[0]
            rights = array.array("i", descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
            try:
                sent = self._socket.sendmsg([left], ancillary)
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            close_all(*descriptors)
            if sent < len(left):
                self._outgoing[0] = (left[sent:], [])
            else:
                self._outgoing.popleft()
        if bool(self._outgoing) == self._writing:
            return
        self._writing = bool(self._outgoing)
        if self._writing:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _CHUNK, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._arrived.extend(descriptors)
        if not data:
            self.close()
            return
        self._incoming += data
        while self.open and len(self._incoming) >= _HEAD.size:
            size, count = _HEAD.unpack_from(self._incoming)
            end = _HEAD.size + size
            if len(self._incoming) < end:
                return
            message = bytes(self._incoming[_HEAD.size : end])
            del self._incoming[:end]
            self._on_message(message, [self._arrived.popleft() for _ in range(count)])
