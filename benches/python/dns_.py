"""The cluster's DNS beside CoreDNS with kubeadm's configuration, both following one API server with 1,000 Services."""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _kubernetes import built
from _load import Load
from _report import Target, compared, interleaved
from _servers import CORE, LOAD_CPU, SERVER_CPU, Server, free_port, kubecore, pinned, program, running, scratch

SERVICES, HEADLESS, PODS_EACH = 1_000, 100, 3
QUERIES, IN_FLIGHT, CLIENTS = 200_000, 64, 8
DOMAIN = "default.svc.cluster.local"
TARGET = Target("100,000 queries/s per core", 100_000, "at least")
_COREFILE = """
cluster.local:{port} {{
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    loadbalance
}}
"""


def main() -> None:
    with kubecore(cpu=LOAD_CPU) as cluster, tempfile.TemporaryDirectory() as scratch_folder:
        folder = Path(scratch_folder)
        fill(cluster)
        kubeconfig = folder / "dns.kubeconfig"
        line = [sys.executable, "-P", "-m", "kubecore", "kubeconfig", "user", "--client-name", "system:coredns"]
        written = subprocess.run([*line, "--data-dir", str(cluster.data_dir)], capture_output=True, check=True)
        kubeconfig.write_bytes(written.stdout)
        with ours(kubeconfig) as server, coredns(kubeconfig) as peer:
            for name, asked in kinds().items():
                file = folder / "queries"
                file.write_text(asked)
                a, b = interleaved(queries(server, file), queries(peer, file))
                per_core = sorted(one.per_core for one in a)[len(a) // 2]
                target = {"target": TARGET, "value": per_core} if name == "mixed" else {}
                compared(f"dns: {name}", a, b, "CoreDNS", **target)


def fill(cluster: Server) -> None:
    """Services with a named port, and headless ones with three pods each."""
    port = {"name": "http", "protocol": "TCP", "port": 80}
    for number in range(SERVICES + HEADLESS):
        headless = number >= SERVICES
        name = f"headless-{number - SERVICES}" if headless else f"svc-{number}"
        spec: dict[str, object] = {"ports": [port], **({"clusterIP": "None"} if headless else {})}
        cluster.call("POST", f"{CORE}/services", {"metadata": {"name": name}, "spec": spec})
        if headless:
            pods = [f"10.244.{number % 200}.{host}" for host in range(1, PODS_EACH + 1)]
            endpoints = [{"addresses": [pod], "conditions": {"ready": True}} for pod in pods]
            labels = {"kubernetes.io/service-name": name}
            piece = {"metadata": {"name": name, "labels": labels}, "addressType": "IPv4", "ports": [port]}
            path = CORE.replace("/api/v1", "/apis/discovery.k8s.io/v1") + "/endpointslices"
            cluster.call("POST", path, {**piece, "endpoints": endpoints})


def kinds() -> dict[str, str]:
    """dnsperf's queries. Mixed: what pods ask, half of it addresses that are there, a fifth names of a search path that
    are not."""
    choose = random.Random(5)

    def service() -> str:
        return f"svc-{choose.randrange(SERVICES)}.{DOMAIN}"

    def mixed() -> str:
        turn = choose.random()
        if turn < 0.5:
            return f"{service()} A"
        if turn < 0.7:
            return f"{service()} AAAA"
        return f"{service()}.{DOMAIN} A" if turn < 0.9 else f"_http._tcp.{service()} SRV"

    headless = [f"headless-{choose.randrange(HEADLESS)}.{DOMAIN} A" for _ in range(5_000)]
    return {"mixed": "\n".join(mixed() for _ in range(20_000)), "headless": "\n".join(headless)}


@contextlib.contextmanager
def ours(kubeconfig: Path) -> Iterator[Server]:
    port = free_port()
    line = [sys.executable, "-P", "-m", "kubecore", "dns", "--kubeconfig", str(kubeconfig), "--port", str(port)]
    with scratch("dns-bench-") as folder, running(pinned(SERVER_CPU, *line), port, Path(folder)) as server:
        wait_for_answers(port)
        yield server


@contextlib.contextmanager
def coredns(kubeconfig: Path) -> Iterator[Server]:
    port = free_port()
    with scratch("coredns-bench-") as folder:
        corefile = Path(folder) / "Corefile"
        corefile.write_text(_COREFILE.format(port=port, kubeconfig=kubeconfig))
        line = pinned(SERVER_CPU, str(built("coredns")), "-conf", str(corefile))
        with running(line, port, Path(folder)) as server:
            wait_for_answers(port)
            yield server


def wait_for_answers(port: int) -> None:
    """Until the last Service that was made has its address."""
    asked = [program("dig"), "+short", "@127.0.0.1", "-p", str(port), f"headless-{HEADLESS - 1}.{DOMAIN}"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(subprocess.run(asked, capture_output=True, text=True).stdout.split()) == PODS_EACH:
            return
        time.sleep(0.1)
    raise RuntimeError(f"port {port} does not know the cluster")


def queries(server: Server, file: Path) -> Callable[[], Load]:
    """As many as `QUERIES`, each of which must be answered, and half of them at least with records."""
    turns = QUERIES // len(file.read_text().splitlines())
    call = [program("dnsperf"), "-s", "127.0.0.1", "-p", str(server.port), "-d", str(file), "-n", str(turns)]
    call += ["-c", str(CLIENTS), "-q", str(IN_FLIGHT), "-O", "suppress=timeout"]

    def run() -> Load:
        before = server.cpu_seconds()
        done = subprocess.run(pinned(LOAD_CPU, *call), capture_output=True, text=True, check=True).stdout
        cpu = server.cpu_seconds() - before
        figures = {name: float(re.search(pattern, done)[1]) for name, pattern in _FIGURES.items()}  # type: ignore[index]
        if figures["completed"] != figures["sent"] or figures["good"] < figures["sent"] / 2:
            raise RuntimeError(f"{json.dumps(figures)}\n{done}")
        return Load(int(figures["completed"]), figures["seconds"], cpu)

    return run


_FIGURES = {
    "sent": r"Queries sent: +(\d+)",
    "completed": r"Queries completed: +(\d+)",
    "good": r"NOERROR (\d+)",
    "seconds": r"Run time \(s\): +([\d.]+)",
}


if __name__ == "__main__":
    main()
