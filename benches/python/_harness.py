"""What the benches share: servers pinned to one core, load on the other, CPU per operation from the kernel's books.

Every bench runs kubecore and its peer in turn, several rounds, and prints medians and ratios: the machine is shared
and noisy, so a single absolute figure says little.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CPU, LOAD_CPU = "0", "1"
ROUNDS = 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server: its process and the port that the load goes to."""

    process: subprocess.Popen[str]
    port: int
    data_dir: Path
    url: str = ""

    def cpu_seconds(self) -> float:
        """CPU time of all threads so far, from /proc/PID/task/*/schedstat (nanoseconds on a core)."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]


def pinned(cpu: str, *command: str) -> list[str]:
    return ["taskset", "-c", cpu, *command]


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("server did not listen within a minute")


@contextmanager
def _running(command: list[str], port: int, folder: Path, ready_line: bool) -> Iterator[Server]:
    output = subprocess.PIPE if ready_line else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, text=True)
    server = Server(process, port, folder)
    try:
        if ready_line:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "is ready" not in line:
                raise RuntimeError(f"server said {line!r}")
            server.url = line.split(": ", 1)[1].split(" ")[0]
        _wait_for(port, process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def kubecore(command: str = "apiserver", *arguments: str, cpu: str | None = SERVER_CPU) -> Iterator[Server]:
    """`kubecore apiserver` (or another command) on one core, with a plain HTTP port besides the TLS one."""
    with tempfile.TemporaryDirectory(prefix="kubecore-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        port = free_port()
        call = [sys.executable, "-m", "kubecore", command, "--data-dir", folder, "--secure-port", "0"]
        call += ["--insecure-port", str(port), "--grpc-port", "0", *arguments]
        with _running(pinned(cpu, *call) if cpu else call, port, Path(folder), True) as server:
            yield server


@contextmanager
def etcd(*, cpu: str = SERVER_CPU) -> Iterator[Server]:
    """Debian's etcd, its defaults, on one core."""
    program = shutil.which("etcd")
    if program is None:
        raise SystemExit("etcd is missing: benches/install-peers brings it")
    with tempfile.TemporaryDirectory(prefix="etcd-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        client, peer = free_port(), free_port()
        urls = [f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"]
        call = [program, "--data-dir", folder, "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0]]
        call += ["--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1]]
        call += ["--initial-cluster", f"default={urls[1]}", "--log-level", "error"]
        with _running(pinned(cpu, *call), client, Path(folder), False) as server:
            _wait_for_leader(client)
            yield server


def _wait_for_leader(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if b"true" in answer.read():
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("etcd did not elect itself")


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def grpc_frame(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


@dataclass(frozen=True)
class Load:
    """What one round of load gave: operations done, wall seconds, and the server's CPU seconds."""

    operations: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.operations / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu / self.operations * 1e6


def h2load(
    server: Server,
    url: str,
    *,
    requests: int,
    clients: int,
    body: bytes | None = None,
    headers: Sequence[str] = (),
    http1: bool = False,
) -> Load:
    """Drive `url` with Debian's h2load from the other core. Every request must succeed."""
    with tempfile.NamedTemporaryFile() as data:
        call = ["h2load", "-n", str(requests), "-c", str(clients), "-t", "1", "-m", "1"]
        call += ["--h1"] if http1 else (["-p", "h2c"] if url.startswith("http:") else [])
        if body is not None:
            data.write(body)
            data.flush()
            call += ["-d", data.name]
        for header in headers:
            call += ["-H", header]
        before, started = server.cpu_seconds(), time.monotonic()
        done = subprocess.run(pinned(LOAD_CPU, *call, url), capture_output=True, text=True, check=True)
        seconds, cpu = time.monotonic() - started, server.cpu_seconds() - before
    succeeded = int(re.search(r"(\d+) succeeded", done.stdout).group(1))  # type: ignore[union-attr]
    good = int(re.search(r"status codes: (\d+) 2xx", done.stdout).group(1))  # type: ignore[union-attr]
    if succeeded != requests or good != requests:
        raise RuntimeError(f"{url}: {requests - good} of {requests} failed\n{done.stdout}")
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", done.stdout)
    if finished is not None:
        seconds = float(finished.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished.group(2)]
    return Load(requests, seconds, cpu)


ETCD_HEADERS = ("content-type: application/grpc", "te: trailers")


def call(port: int, method: str, path: str, body: object | None = None) -> bytes:
    """One request to kubecore's plain port."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, method=method, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def pod(name: str, *, size: int = 3700) -> dict[str, object]:
    """A pod whose stored form is about `size` bytes."""
    env = [{"name": f"VARIABLE_{i}", "value": "x" * 40} for i in range(max(0, (size - 1500) // 75))]
    container = {"name": "main", "image": "registry.example/app:1", "command": ["sleep", "1"], "env": env}
    labels = {"app": "bench", "tier": "back"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [container], "schedulerName": "none", "automountServiceAccountToken": False},
    }


def config_map(size: int, **metadata: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": "x" * (size - 250)}}


def interleaved(
    ours: Callable[[], Load], peer: Callable[[], Load], rounds: int = ROUNDS
) -> tuple[list[Load], list[Load]]:
    """Ours and the peer's in turn, so that drift of the machine hits both."""
    a: list[Load] = []
    b: list[Load] = []
    for _ in range(rounds):
        a.append(ours())
        b.append(peer())
    return a, b


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def report(name: str, ours: Sequence[Load], peer: Sequence[Load], peer_name: str) -> None:
    """Print one row of the table in benches/README.md."""
    rate, peer_rate = median([r.rate for r in ours]), median([r.rate for r in peer])
    cpu, peer_cpu = median([r.cpu_us for r in ours]), median([r.cpu_us for r in peer])
    print(
        f"| {name} | {rate:,.0f}/s | {cpu:.1f} us | {peer_name} {peer_rate:,.0f}/s | {peer_cpu:.1f} us "
        f"| rate x {rate / peer_rate:.2f}, CPU x {cpu / peer_cpu:.2f} |",
        flush=True,
    )
