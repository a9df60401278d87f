"""The kernel's side of the messages that mode ipvs sends: what it is told is kept, what it is asked is answered."""

from __future__ import annotations

import errno
import struct
from typing import Any

from kubecore.netlink import DUMP, attribute, attributes

FAMILY = 31


class FakeKernel:
    """Stands for the socket. `services` has by (family, protocol, address, port, mark), as bytes, what a service was
    made with; `destinations` by the same the (address, port) → weight of each. Destinations at `full_at` find no memory
    left."""

    def __init__(self, *, has_ipvs: bool = True) -> None:
        self.has_ipvs = has_ipvs
        self.services: dict[tuple[bytes, ...], dict[int, bytes]] = {}
        self.destinations: dict[tuple[bytes, ...], dict[tuple[bytes, bytes], int]] = {}
        self.active: dict[bytes, int] = {}
        self.commands: list[int] = []
        self.full_at: bytes | None = None
        self._replies: list[bytes] = []

    def close(self) -> None:
        pass

    def clear(self) -> None:
        """As `ipvsadm -C` does."""
        self.services.clear()
        self.destinations.clear()

    def recv(self, _: int) -> bytes:
        return self._replies.pop(0)

    def send(self, data: bytes) -> None:
        length, family, flags, sequence, _ = struct.unpack_from("=IHHII", data)
        command, body = data[16], data[20:length]
        try:
            if family != FAMILY:
                if not self.has_ipvs:
                    raise FileNotFoundError(errno.ENOENT, "")
                self._reply(sequence, [attribute(1, struct.pack("=H", FAMILY))])
                return
            self.commands.append(command)
            found = self._obey(command, body)
        except OSError as error:
            self._end(sequence, 2, -(error.errno or 0))
            return
        self._reply(sequence, found or [])
        if found and not flags & DUMP:
            return
        self._end(sequence, 3 if found is not None else 2, 0)

    def _reply(self, sequence: int, found: list[bytes]) -> None:
        for one in found:
            self._replies.append(struct.pack("=IHHII", 20 + len(one), FAMILY, 0, sequence, 0) + bytes(4) + one)

    def _end(self, sequence: int, kind: int, code: int) -> None:
        self._replies.append(struct.pack("=IHHIIi", 20, kind, 0, sequence, 0, code))

    def _obey(self, command: int, body: bytes) -> list[bytes] | None:
        """Replies of a question, None of an order."""
        told = dict(attributes(body))
        service: dict[int, bytes] = dict(attributes(told.get(1, b"")))
        key = tuple(service.get(kind, b"") for kind in (1, 2, 3, 4, 5))
        if command == 4:
            counted = {12: attribute(1, struct.pack("=Q", 9)) + attribute(4, struct.pack("=Q", 1000))}
            if service and key not in self.services:
                raise OSError(errno.ESRCH, "")
            asked = [self.services[key]] if service else self.services.values()
            every = [{**made, **counted} for made in asked]
            return [attribute(1, b"".join(attribute(*one) for one in made.items())) for made in every]
        if command == 8:
            return [attribute(2, self._destination(*one)) for one in self.destinations.get(key, {}).items()]
        if (command == 1) == (key in self.services):
            raise OSError(errno.EEXIST if command == 1 else errno.ESRCH, "")
        if command in (1, 2):
            self.services[key] = service
            self.destinations.setdefault(key, {})
        elif command == 3:
            del self.services[key], self.destinations[key]
        else:
            self._obey_destination(command, self.destinations[key], dict(attributes(told[2])))
        return None

    def _obey_destination(self, command: int, held: dict[Any, int], told: dict[int, bytes]) -> None:
        where = told[1], told[2]
        if command == 5 and told[1] == self.full_at:
            raise OSError(errno.ENOMEM, "")
        if (command == 5) == (where in held):
            raise OSError(errno.EEXIST if command == 5 else errno.ENOENT, "")
        if command == 7:
            del held[where]
        else:
            held[where] = struct.unpack("=I", told[4])[0]

    def _destination(self, where: tuple[bytes, bytes], weight: int) -> bytes:
        numbers = {4: weight, 7: self.active.get(where[0], 0), 8: 0}
        plain = attribute(1, where[0]) + attribute(2, where[1])
        counted = attribute(12, attribute(1, struct.pack("=Q", 7)) + attribute(4, struct.pack("=Q", 900)))
        return plain + b"".join(attribute(kind, struct.pack("=I", one)) for kind, one in numbers.items()) + counted
