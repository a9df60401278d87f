"""A DNS client of the standard library alone, so that it can also be run inside of pods as it stands.

As a program it answers what it is told on standard output: one JSON line for each `NAME TYPE` argument pair.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}
NAMES = {number: name for name, number in TYPES.items()}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(frozen=True)
class Record:
    name: str
    type: str
    ttl: int
    value: str


@dataclass(frozen=True)
class Answer:
    code: str
    records: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)

    def values(self, kind: str = "") -> list[str]:
        return sorted(one.value for one in self.records if kind in ("", one.type))


def query(name: str, kind: str, *, number: int = 4711) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + wire + struct.pack("!2H", TYPES[kind], 1)


def decode(wire: bytes) -> Answer:
    _, flags, questions, answers, authorities, additional = struct.unpack("!6H", wire[:12])
    at = 12
    for _ in range(questions):
        at = _name(wire, at)[1] + 4
    records = []
    for _ in range(answers + authorities + additional):
        record, at = _record(wire, at)
        records.append(record)
    code = CODES.get(flags & 0x0F, str(flags & 0x0F))
    return Answer(code, records[:answers], [one for one in records[answers + authorities :] if one.type != "41"])


def ask(server: tuple[str, int], name: str, kind: str = "A", *, tcp: bool = False, seconds: float = 30.0) -> Answer:
    wire = query(name, kind)
    if not tcp:
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(seconds)
            sock.connect(server)
            sock.send(wire)
            return decode(sock.recv(65535))
    with socket.create_connection(server, timeout=seconds) as stream, stream.makefile("rb") as reader:
        stream.sendall(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", reader.read(2))
        return decode(reader.read(length))


def name_servers(path: str = "/etc/resolv.conf") -> list[str]:
    lines = Path(path).read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver ")]


def _record(wire: bytes, at: int) -> tuple[Record, int]:
    name, at = _name(wire, at)
    kind, _, ttl, length = struct.unpack("!2HIH", wire[at : at + 10])
    at += 10
    data = wire[at : at + length]
    shown = NAMES.get(kind, str(kind))
    if shown in ("A", "AAAA"):
        value = str(ip_address(data))
    elif shown in ("CNAME", "NS", "PTR", "SOA"):
        value = _name(wire, at)[0]
    elif shown == "SRV":
        value = "{} {} {} ".format(*struct.unpack("!3H", data[:6])) + _name(wire, at + 6)[0]
    elif shown == "TXT":
        value = data[1 : 1 + data[0]].decode()
    else:
        value = data.hex()
    return Record(name, shown, ttl, value), at + length


def _name(wire: bytes, at: int) -> tuple[str, int]:
    labels, end = [], 0
    while (length := wire[at]) != 0:
        if length >= 0xC0:
            end = end or at + 2
            at = (length & 0x3F) << 8 | wire[at + 1]
            continue
        labels.append(wire[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels) + ".", end or at + 1


def main(arguments: list[str]) -> None:
    server = (name_servers()[0], 53)
    for name, kind in zip(arguments[::2], arguments[1::2], strict=True):
        print(json.dumps(asdict(ask(server, name, kind))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
