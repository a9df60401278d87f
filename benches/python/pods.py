"""One real node: how long a pod takes to start, by runtime and beside containerd, 200 pods and what they cost at rest,
what a container may say, and a command in it. Root, for the network of pods; figures have targets of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from _cluster import all_running, until
from _report import ROUNDS, Target, median, row, spread
from _servers import CORE, Server, kubecore, program, running_cpu_seconds, scratch

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.support.small_image import SmallImage, programs

Object = dict[str, Any]

STARTS, PODS, IDLE_SECONDS = 20, 200, 30
SAID_BYTES = 500_000_000
IMAGE = "docker.io/library/bench:1"
HOST = Target("p50 <= 60 ms", 60.0, "at most")
OCI = Target("p50 <= 200 ms", 200.0, "at most")
ALL = Target("<= 15 s", 15.0, "at most")
IDLE = Target("<= 3% of a core", 3.0, "at most")
MEMORY = Target("<= 1 MB", 1.0, "at most")
SAID = Target(">= 100 MB/s", 100.0, "at least")
EXEC = Target("<= 10 ms beyond the process", 10.0, "at most")


def keeper(server: Server) -> int:
    """The pid of the process that containers run under."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == server.process.pid and b"kubecore.kubelet.keeper.process" in words:
                return int(entry.name)
    raise RuntimeError("the node has no keeper")


def cpu(server: Server) -> float:
    """Seconds, of the cluster and the keeper."""
    return server.cpu_seconds() + running_cpu_seconds(keeper(server))


def memory(server: Server) -> float:
    """MB that are the two processes' own."""
    kib = 0
    for pid in (server.process.pid, keeper(server)):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
    return kib * 1024 / 1e6


def pod(name: str, *command: str, **spec: Any) -> Object:
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    whole = {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


class Watch:
    """Pods as they become, each a line of JSON."""

    def __init__(self, server: Server) -> None:
        version = json.loads(server.call("GET", f"{CORE}/pods?limit=1"))["metadata"]["resourceVersion"]
        connection = socket.create_connection(("127.0.0.1", server.port))
        path = f"{CORE}/pods?watch=1&resourceVersion={version}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._lines = connection.makefile("rb")

    def until(self, name: str, phase: str) -> None:
        for line in self._lines:
            if line.startswith(b"{"):
                seen = json.loads(line)["object"]
                if seen["metadata"]["name"] == name and seen["status"].get("phase") == phase:
                    return
        raise RuntimeError("the watch has ended")


def started(server: Server, watch: Watch, name: str, **spec: Any) -> float:
    """Milliseconds from the request to Running in a watch."""
    begun = time.monotonic()
    server.call("POST", f"{CORE}/pods", pod(name, "sleep", "3600", **spec))
    watch.until(name, "Running")
    took = (time.monotonic() - begun) * 1e3
    server.call("DELETE", f"{CORE}/pods/{name}")
    return took


@contextmanager
def containerd(image: Path) -> Iterator[list[str]]:
    """Debian's, by itself; the beginning of a `ctr` command line."""
    with scratch("containerd-bench-") as data, tempfile.TemporaryDirectory(prefix="ctd") as state:
        address = f"{state}/c.sock"
        config = Path(data) / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{data}/root"\nstate = "{state}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{address}"\n'
        )
        with (Path(data) / "stderr").open("w") as errors:
            process = subprocess.Popen([program("containerd"), "--config", str(config)], stderr=errors)
        ctr = [program("ctr"), "--address", address]
        try:
            until(lambda: subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0)
            subprocess.run([*ctr, "images", "import", str(image)], check=True, capture_output=True)
            yield ctr
        finally:
            process.terminate()
            process.wait()


def started_by_containerd(ctr: list[str], name: str) -> float:
    begun = time.monotonic()
    subprocess.run([*ctr, "run", "--detach", "--null-io", IMAGE, name, "sleep", "3600"], check=True)
    took = (time.monotonic() - begun) * 1e3
    subprocess.run([*ctr, "task", "delete", "--force", name], check=True, capture_output=True)
    subprocess.run([*ctr, "container", "delete", name], check=True, capture_output=True)
    return took


def starts(server: Server, image: Path) -> None:
    watch = Watch(server)
    started(server, watch, "first")
    started(server, watch, "first-oci", runtimeClassName="oci")
    before = cpu(server)
    host = [started(server, watch, f"host-{number}") for number in range(STARTS)]
    each = (cpu(server) - before) / STARTS * 1e3
    told = f"{spread(host)} ms, {each:.1f} ms of CPU each with its removal"
    row("pods: start, host", told, target=HOST.text, verdict=HOST.verdict(median(host)))
    oci, peer = [], []
    with containerd(image) as ctr:
        for number in range(STARTS):
            oci.append(started(server, watch, f"oci-{number}", runtimeClassName="oci"))
            peer.append(started_by_containerd(ctr, f"peer-{number}"))
    told = f"containerd (ctr run, no pod, no network): {spread(peer)} ms"
    ratio = f"x {median(oci) / median(peer):.3g}"
    row("pods: start, oci", f"{spread(oci)} ms", told, ratio, OCI.text, OCI.verdict(median(oci)))


def many(server: Server) -> None:
    resting, begun, before = memory(server), time.monotonic(), cpu(server)
    for number in range(PODS):
        server.call("POST", f"{CORE}/pods", pod(f"many-{number}", "sleep", "3600"))
    until(lambda: all_running(server, f"{CORE}/pods", PODS))
    seconds, each = time.monotonic() - begun, (cpu(server) - before) / PODS * 1e3
    told = f"{seconds:.1f} s, {each:.1f} ms of CPU each"
    row(f"pods: {PODS} until they run", told, target=ALL.text, verdict=ALL.verdict(seconds))
    time.sleep(IDLE_SECONDS)
    before = cpu(server)
    time.sleep(IDLE_SECONDS)
    share = (cpu(server) - before) / IDLE_SECONDS * 100
    row(f"pods: {PODS} at rest", f"{share:.1f}% of a core", target=IDLE.text, verdict=IDLE.verdict(share))
    each = (memory(server) - resting) / PODS
    told = f"{each:.2f} MB, of cluster and keeper"
    row("pods: memory of each", told, target=MEMORY.text, verdict=MEMORY.verdict(each))
    server.call("DELETE", f"{CORE}/pods")
    until(lambda: not json.loads(server.call("GET", f"{CORE}/pods?limit=1"))["items"])


def said(server: Server) -> None:
    """A container that says lines of 100 bytes as fast as they are read."""
    watch, rates, costs = Watch(server), [], []
    line = "x" * 99
    for number in range(ROUNDS + 1):
        name, before = f"says-{number}", running_cpu_seconds(keeper(server))
        command = ("sh", "-c", f"sleep 0.5; yes {line} | head -c {SAID_BYTES}")
        server.call("POST", f"{CORE}/pods", pod(name, *command, restartPolicy="Never"))
        watch.until(name, "Running")
        begun = time.monotonic()
        watch.until(name, "Succeeded")
        rates.append(SAID_BYTES / 1e6 / (time.monotonic() - begun))
        costs.append((running_cpu_seconds(keeper(server)) - before) / (SAID_BYTES / 1e6) * 1e3)
    told = f"{spread(rates[1:])} MB/s, {median(costs[1:]):.2f} ms of CPU a MB"
    row("pods: one container's log", told, target=SAID.text, verdict=SAID.verdict(median(rates[1:])))


async def _commands(server: Server, name: str) -> list[float]:
    url = f"http://127.0.0.1:{server.port}{CORE}/pods/{name}/exec?container=main&command=true&stdout=1&stderr=1"
    took = []
    async with aiohttp.ClientSession() as session:
        for _ in range(10 * STARTS):
            begun = time.monotonic()
            async with session.ws_connect(url, protocols=("v5.channel.k8s.io",)) as channel:
                while (await channel.receive()).data[:1] != b"\x03":
                    """Nothing is said but the outcome, on channel 3."""
                took.append((time.monotonic() - begun) * 1e3)
    return took


def commands(server: Server) -> None:
    watch = Watch(server)
    server.call("POST", f"{CORE}/pods", pod("entered", "sleep", "3600"))
    watch.until("entered", "Running")
    before = cpu(server)
    took = asyncio.run(_commands(server, "entered"))
    each = (cpu(server) - before) / len(took) * 1e3
    alone = []
    for _ in took:
        begun = time.monotonic()
        subprocess.run(["true"], check=True)
        alone.append((time.monotonic() - begun) * 1e3)
    beyond = median(took) - median(alone)
    told = f"{spread(took)} ms, {each:.1f} ms of CPU each; the process alone {median(alone):.2f} ms"
    row("pods: exec of `true`", told, target=EXEC.text, verdict=EXEC.verdict(beyond))


def main() -> None:
    with scratch("pods-bench-") as folder:
        image = SmallImage([programs()], {}, [IMAGE]).docker_archive(Path(folder) / "image.tar")
        data = Path(folder) / "data"
        load = [sys.executable, "-P", "-m", "kubecore", "image", "load", "--data-dir", str(data), str(image)]
        subprocess.run(load, check=True, capture_output=True)
        with kubecore("up", "--max-pods", str(PODS + 10), cpu=None, data_dir=data) as server:
            until(lambda: b'"Ready","status":"True"' in server.call("GET", "/api/v1/nodes").replace(b" ", b""))
            for part in (lambda: starts(server, image), lambda: said(server), lambda: commands(server)):
                part()
            server.call("DELETE", f"{CORE}/pods")
            until(lambda: not json.loads(server.call("GET", f"{CORE}/pods?limit=1"))["items"])
            many(server)


if __name__ == "__main__":
    main()
