"""10,000 Services with three endpoints each into the kernel's tables, and one endpoint more or less: kubecore's flat
map beside the chains that kube-proxy's mode nftables writes (pkg/proxy/nftables/proxier.go), given to `nft -f` as text.

CPU seconds of everything up to the kernel's answer. kubecore's side begins with Services and EndpointSlices, the peer's
with its text ready: kube-proxy's own work, and that it lists its chains and sets before each change, is not counted.
Needs root; runs in a network namespace of its own.
"""

from __future__ import annotations

import base64
import hashlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _load import Load
from _report import ROUNDS, Target, interleaved, median, ratios, row, spread
from _servers import program

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for tests.support: what is measured is installed

from kubecore.proxy.nftables.ruleset import Site
from kubecore.proxy.nftables.table import NftablesTable
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import NodeView, virtual_servers
from tests.support.net_world import Namespace

SERVICES, ENDPOINTS, CHANGES = 10_000, 3, 10
FULL = Target("at least x 9", 9.0, "at least")
CHANGE = Target("at least x 20", 20.0, "at least")
USERSPACE = Target("<= 1 ms", 1.0, "at most")
NODE = NodeView("here")

Object = dict[str, Any]


def cluster_ip(number: int, first: int = 96) -> str:
    return f"10.{first + number // 65536}.{number // 256 % 256}.{number % 256}"


def endpoints(number: int, count: int) -> list[str]:
    return [cluster_ip(number * (ENDPOINTS + 1) + one, 200) for one in range(count)]


def objects(number: int, count: int = ENDPOINTS, *, ip: str = "") -> tuple[Object, list[Object]]:
    name, ip = f"service-{number}", ip or cluster_ip(number)
    port = {"name": "http", "protocol": "TCP", "port": 80}
    service = {
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [port]},
    }
    piece = {
        "metadata": {"name": f"{name}-a", "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [port],
        "endpoints": [
            {"addresses": [one], "conditions": {"ready": True}, "nodeName": "here"} for one in endpoints(number, count)
        ],
    }
    return service, [piece]


def chain(kind: str, name: str) -> str:
    digest = base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:8]
    return f"{kind}-{digest}-{name}"


def chains_of_all() -> Iterator[str]:
    """kube-proxy's table with everything that these Services need of it."""
    yield "add table ip kube-proxy"
    yield "add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }"
    yield "add set ip kube-proxy cluster-ips { type ipv4_addr ; }"
    for name in ("services", "mark-for-masquerade"):
        yield f"add chain ip kube-proxy {name}"
    yield "add rule ip kube-proxy mark-for-masquerade meta mark set mark or 0x4000"
    yield "add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips"
    yield "add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }"
    yield "add rule ip kube-proxy nat-prerouting jump services"
    for number in range(SERVICES):
        yield from chains_of(number, ENDPOINTS)
        one = chain("service", f"bench/service-{number}/tcp/http")
        yield f"add element ip kube-proxy cluster-ips {{ {cluster_ip(number)} }}"
        yield f"add element ip kube-proxy service-ips {{ {cluster_ip(number)} . tcp . 80 : goto {one} }}"


def chains_of(number: int, count: int) -> Iterator[str]:
    """What kube-proxy writes for a Service that is new or has changed."""
    base = f"bench/service-{number}/tcp/http"
    whole, table = chain("service", base), "ip kube-proxy"
    pieces = [(one, chain("endpoint", f"{base}__{one}/80")) for one in endpoints(number, count)]
    for name in (*(name for _, name in pieces), whole):
        yield f"add chain {table} {name}"
        yield f"flush chain {table} {name}"
    yield f"add rule {table} {whole} ip daddr {cluster_ip(number)} ip saddr != 10.192.0.0/10 jump mark-for-masquerade"
    slots = ", ".join(f"{slot} : goto {name}" for slot, (_, name) in enumerate(pieces))
    yield f"add rule {table} {whole} numgen random mod {count} vmap {{ {slots} }}"
    for one, name in pieces:
        yield f"add rule {table} {name} ip saddr {one} jump mark-for-masquerade"
        yield f"add rule {table} {name} meta l4proto tcp dnat to {one}:80"


def nft(text: str) -> None:
    subprocess.run([program("nft"), "-f", "-"], input=text, text=True, check=True)


def cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def timed(work: Callable[[], None], times: int = 1) -> Load:
    before, started = cpu(), time.monotonic()
    work()
    return Load(times, time.monotonic() - started, cpu() - before)


class Kubecore:
    def __init__(self) -> None:
        self._given = [objects(number) for number in range(SERVICES)]
        self.table: NftablesTable | None = None

    def full(self) -> Load:
        if self.table is not None:
            self.table.close()

        def work() -> None:
            self.table = NftablesTable(
                Site(table="kubecore-bench", pods=("10.192.0.0/10",), services=("10.96.0.0/12",))
            )
            for number, (service, slices) in enumerate(self._given):
                self.table.apply(f"bench/service-{number}", virtual_servers(service, slices, NODE))
            self.table.commit()

        return timed(work)

    def change(self) -> Load:
        table = self.table
        assert table is not None

        def work() -> None:
            for number in range(CHANGES):
                service, slices = objects(7, ENDPOINTS + number % 2)
                table.apply("bench/service-7", virtual_servers(service, slices, NODE))
                table.commit()

        return timed(work, CHANGES)


class KubeProxy:
    def __init__(self) -> None:
        self._all = "\n".join(chains_of_all()) + "\n"

    def full(self) -> Load:
        nft("table ip kube-proxy { }\ndelete table ip kube-proxy\n")
        return timed(lambda: nft(self._all))

    def change(self) -> Load:
        texts = ["\n".join(chains_of(7, ENDPOINTS + number % 2)) + "\n" for number in range(CHANGES)]

        def work() -> None:
            for text in texts:
                nft(text)

        return timed(work, CHANGES)


def userspace_change() -> list[float]:
    """Milliseconds of CPU for one endpoint more or less, with 1,000 Services listened for."""
    table = ServiceTable()
    for number in range(1000):
        ip = f"127.250.{number // 250}.{number % 250 + 1}"
        table.apply(f"bench/service-{number}", virtual_servers(*_moved(objects(number, ip=ip)), NODE))
    taken = []
    for number in range(100):
        service, slices = _moved(objects(7, ENDPOINTS + number % 2, ip="127.250.0.8"))
        before = time.thread_time()
        table.apply("bench/service-7", virtual_servers(service, slices, NODE))
        taken.append((time.thread_time() - before) * 1000)
    table.close()
    return taken


def _moved(given: tuple[Object, list[Object]]) -> tuple[Object, list[Object]]:
    """To a port that nobody else has."""
    given[0]["spec"]["ports"] = [{"name": "http", "protocol": "TCP", "port": 18080}]
    return given


def compare(name: str, ours: list[Load], peer: list[Load], target: Target) -> None:
    faster = ratios(peer, ours, "cpu_us")
    told = [f"{median([one.cpu_us for one in side]) / 1000:,.3g} ms of CPU" for side in (ours, peer)]
    ratio = f"x {spread(faster)} faster"
    row(name, told[0], f"nft, kube-proxy's chains: {told[1]}", ratio, target.text, target.verdict(median(faster)))


def main() -> None:
    namespace = Namespace()
    with namespace.here():
        ours, peer = Kubecore(), KubeProxy()
        full = interleaved(ours.full, peer.full, min(ROUNDS, 3))
        compare("svc-sync: all of 10,000 Services", *full, FULL)
        compare("svc-sync: one endpoint more or less", *interleaved(ours.change, peer.change), CHANGE)
        taken = median(userspace_change())
        told = f"{taken:.3g} ms of CPU"
        row("svc-sync: the same in mode userspace", told, target=USERSPACE.text, verdict=USERSPACE.verdict(taken))
    namespace.close()


if __name__ == "__main__":
    main()
