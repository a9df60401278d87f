"""Load from Debian's h2load, and the few bytes of protobuf and HTTP/2 framing that talking to etcd takes."""

from __future__ import annotations

import re
import resource
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from _servers import LOAD_CPU, Server, pinned, program

GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
JSON_HEADERS = ("content-type: application/json",)


@dataclass(frozen=True)
class Load:
    """What one round of load gave: operations done, wall seconds, the server's CPU seconds and the generator's."""

    operations: int
    seconds: float
    cpu: float
    generator_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Operations a second of wall time."""
        return self.operations / self.seconds

    @property
    def cpu_us(self) -> float:
        """The server's CPU per operation, in microseconds."""
        return self.cpu / self.operations * 1e6

    @property
    def per_core(self) -> float:
        """Operations a second of one core of the server's."""
        return self.operations / self.cpu


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def grpc_frame(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def etcd_put(key: bytes, value: bytes) -> bytes:
    """A PutRequest."""
    return field(1, key) + field(2, value)


def etcd_range(start: bytes, end: bytes = b"") -> bytes:
    """A RangeRequest: one key, or those from `start` up to `end`."""
    return field(1, start) + (field(2, end) if end else b"")


def etcd_txn(puts: Sequence[bytes]) -> bytes:
    """A TxnRequest that does all the PutRequests."""
    return b"".join(field(2, field(2, put)) for put in puts)


def generator_cpu() -> float:
    """CPU seconds of the child processes waited for so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def h2load(
    server: Server,
    url: str,
    *,
    requests: int,
    clients: int,
    body: bytes | None = None,
    headers: Sequence[str] = (),
    http1: bool = False,
    answer_bytes: int = 0,
    weight: int = 1,
) -> Load:
    """Drive `url` with h2load from the other core, one request in flight per client.

    Every request must succeed, and its answer's body have `answer_bytes` at least: a failed gRPC call is a 200
    without one. A request counts as `weight` operations.
    """
    with tempfile.NamedTemporaryFile() as data:
        call = [program("h2load"), "-n", str(requests), "-c", str(clients), "-t", "1", "-m", "1"]
        call += ["--h1"] if http1 else (["-p", "h2c"] if url.startswith("http:") else [])
        if body is not None:
            data.write(body)
            data.flush()
            call += ["-d", data.name]
        for header in headers:
            call += ["-H", header]
        books, before, started = generator_cpu(), server.cpu_seconds(), time.monotonic()
        done = subprocess.run(pinned(LOAD_CPU, *call, url), capture_output=True, text=True, check=True)
        seconds, cpu = time.monotonic() - started, server.cpu_seconds() - before
    _check(done.stdout, url, requests, answer_bytes)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", done.stdout)
    if finished is not None:
        seconds = float(finished.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished.group(2)]
    return Load(requests * weight, seconds, cpu, generator_cpu() - books)


def _check(output: str, url: str, requests: int, answer_bytes: int) -> None:
    def number(pattern: str) -> int:
        found = re.search(pattern, output)
        return int(found.group(1)) if found else 0

    good = min(number(r"(\d+) succeeded"), number(r"status codes: (\d+) 2xx"))
    if good != requests:
        raise RuntimeError(f"{url}: {requests - good} of {requests} failed\n{output}")
    # "traffic: 12.34MB (12345678) total, 1.2KB (1234) headers (space savings 95%), 12.0MB (12345678) data"
    received = number(r"\((\d+)\) data")
    if received < requests * answer_bytes:
        raise RuntimeError(f"{url}: answers of {received / requests:.0f} B, not {answer_bytes}: errors?\n{output}")
