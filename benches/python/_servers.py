"""Servers under load: kubecore and its peers from Debian, each pinned to one core, and what the kernel's books say of
their CPU time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SERVER_CPU, LOAD_CPU = "0", "1"
CORE = "/api/v1/namespaces/default"
_READY_SECONDS = 60
_USED_BYTES = 6 << 30


def free_port() -> int:
    """None of those that the kernel gives to whoever asks for any: the server's own sockets could take it first."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Server:
    """A running server: its process, the port that the load goes to, and how long it took to get ready."""

    process: subprocess.Popen[str]
    port: int
    data_dir: Path
    url: str = ""
    ready_seconds: float = 0.0
    ports: dict[str, int] = field(default_factory=dict)
    store: Server | None = None
    """A server of its own that keeps this one's objects: what it takes is counted in."""
    admin_url: str = ""
    """Where `call` asks, by default the port over plain HTTP."""
    admin_token: str = ""

    def cpu_seconds(self) -> float:
        """CPU time of all threads so far."""
        return running_cpu_seconds(self.process.pid) + (self.store.cpu_seconds() if self.store else 0.0)

    def rss_mib(self) -> float:
        return self._status("VmRSS") / 1024 + (self.store.rss_mib() if self.store else 0.0)

    def threads(self) -> int:
        return self._status("Threads")

    def _status(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found.group(1))

    def call(self, method: str, path: str, body: object | None = None) -> bytes:
        """One request as an administrator. Raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.admin_token:
            headers["Authorization"] = f"Bearer {self.admin_token}"
        url = f"{self.admin_url or f'http://127.0.0.1:{self.port}'}{path}"
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=60, context=trusting(url)) as answer:
            return bytes(answer.read())


def running_cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far, from /proc/PID/task/*/schedstat (nanoseconds on a core)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def trusting(url: str) -> ssl.SSLContext | None:
    """Servers of a bench have certificates that nobody else knows."""
    return ssl._create_unverified_context() if url.startswith("https:") else None


def pinned(cpu: str | None, *command: str) -> list[str]:
    return ["taskset", "-c", cpu, *command] if cpu else [*command]


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing: benches/install-peers brings it")
    return found


def scratch(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """A directory on a real disk: where BENCH_DIR says, else the system's place for temporary files."""
    return tempfile.TemporaryDirectory(prefix=prefix, dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True)


@contextmanager
def running(command: Sequence[str], port: int, folder: Path, *, ready_line: str = "") -> Iterator[Server]:
    """The server until the block ends: ready when it says `ready_line`, or when its port takes connections."""
    started = time.monotonic()
    output = subprocess.PIPE if ready_line else subprocess.DEVNULL
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, text=True)
    server = Server(process, port, folder)
    try:
        if ready_line:
            assert process.stdout is not None
            line = process.stdout.readline()
            if ready_line not in line:
                raise RuntimeError(f"{command[0]} said {line!r}\n{(folder / 'stderr').read_text()[-2000:]}")
            server.url = line.strip().partition(": ")[2].partition(" ")[0]
        else:
            _wait_for(port, process)
        server.ready_seconds = time.monotonic() - started
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"server did not listen within {_READY_SECONDS} s")


def require_optimised_build() -> None:
    """Figures of a development build say nothing: refuses to take any."""
    from kubecore import _native

    if not _native.OPTIMISED:
        raise SystemExit(f"{_native.__file__} is a development build: `make install` installs an optimised one")
    use_memory()


@functools.cache
def use_memory() -> None:
    """Has some GiB of the machine's memory used once. What a virtual machine has never used has to be got from its host
    first, which took 3 to 6 ms for 2 MiB (0.3 where it had been used): who comes to it first would pay for it."""
    free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    size = min(free // 2, _USED_BYTES) // mmap.PAGESIZE * mmap.PAGESIZE
    with mmap.mmap(-1, size) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:: mmap.PAGESIZE] = b"x" * (size // mmap.PAGESIZE)


@contextmanager
def kubecore(
    command: str = "apiserver", *arguments: str, cpu: str | None = SERVER_CPU, data_dir: Path | None = None
) -> Iterator[Server]:
    """`kubecore apiserver` (or another command) on one core, with a plain HTTP port besides the TLS and gRPC ones."""
    require_optimised_build()
    with scratch("kubecore-bench-") as folder:
        data = data_dir or Path(folder)
        port = free_port()
        # -P: the working directory may be a checkout, whose own extension is another build.
        line = [sys.executable, "-P", "-m", "kubecore", command, "--data-dir", str(data), "--secure-port", "0"]
        line += ["--insecure-port", str(port), "--grpc-port", "0", *arguments]
        with running(pinned(cpu, *line), port, Path(folder), ready_line="is ready") as server:
            server.ports = json.loads((data / "ports.json").read_text())
            server.data_dir = data
            if command == "apiserver":  # there is no controller to make what pods need
                server.call("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": "default"}})
            yield server


@contextmanager
def etcd(*, cpu: str | None = SERVER_CPU, pki: Path | None = None, binary: str = "") -> Iterator[Server]:
    """Debian's etcd (or another `binary`) with its defaults, on one core; over TLS when given kubecore's `pki`
    directory."""
    with scratch("etcd-bench-") as folder:
        client, peer = free_port(), free_port()
        scheme = "https" if pki else "http"
        url, peer_url = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        line = [binary or program("etcd"), "--data-dir", f"{folder}/data", "--log-level", "error"]
        line += ["--listen-client-urls", url, "--advertise-client-urls", url]
        line += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        line += ["--initial-cluster", f"default={peer_url}"]
        metrics = client
        if pki:
            metrics = free_port()
            line += ["--cert-file", str(pki / "apiserver.crt"), "--key-file", str(pki / "apiserver.key")]
            line += ["--listen-metrics-urls", f"http://127.0.0.1:{metrics}"]
        with running(pinned(cpu, *line), client, Path(folder)) as server:
            _wait_for_leader(metrics)
            server.url = url
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


def token(server: Server, *, group: str = "", **rules: list[str]) -> str:
    """A service account's token. RBAC lets it do `resource=[verbs]` of the API group in the namespace default and
    nothing else."""
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    server.call("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": "bench"}})
    granted = [{"apiGroups": [group], "resources": [name], "verbs": verbs} for name, verbs in rules.items()]
    server.call("POST", f"{rbac}/roles", {"metadata": {"name": "bench"}, "rules": granted})
    subject = {"kind": "ServiceAccount", "name": "bench", "namespace": "default"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bench"}
    binding = {"metadata": {"name": "bench"}, "subjects": [subject], "roleRef": ref}
    server.call("POST", f"{rbac}/rolebindings", binding)
    body = {"spec": {"expirationSeconds": 7200}}
    answer = server.call("POST", f"{CORE}/serviceaccounts/bench/token", body)
    return str(json.loads(answer)["status"]["token"])
