"""Cluster DNS with real sockets, over a real API server, as the identity it has there."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.authentication.kubeconfig import kubeconfig
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.client.client import Client
from kubecore.clock import RealClock
from kubecore.dns.responder import DnsConfig, DnsResponder
from kubecore.dns.service import Site, serve_cluster
from kubecore.proxy.proxy import ProxyConfig, ServiceProxy
from tests.support.dns_client import Answer, ask
from tests.support.fake_api import FakeAPI

Object = dict[str, Any]

WEB = "web.default.svc.cluster.local"
KUBE_DNS = "198.18.0.10"
ROOT = Path(__file__).resolve().parents[2]
_ADDRESSES = (f"127.{83 + os.getpid() % 8}.{os.getpid() // 8 % 256}.{number}" for number in itertools.count(1))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[APIServer]:
    storage = LMDBConfig(sync=False)
    settings = APIServerConfig(data_dir=tmp_path, secure_port=0, storage=storage, service_cidr="198.18.0.0/16")
    made = APIServer(settings, RealClock())
    await made.start()
    yield made
    await made.stop()


def admin(server: APIServer) -> Client:
    return Client(server.transport(username="admin", groups=["system:masters"]), field_manager="test")


def responder(server: APIServer, **fields: Any) -> DnsResponder:
    client = Client(server.transport(username="system:coredns"), field_manager="coredns")
    return DnsResponder(client, RealClock(), DnsConfig(**fields))


@asynccontextmanager
async def running(component: DnsResponder | ServiceProxy) -> AsyncIterator[None]:
    task = asyncio.create_task(component.run())
    ready = asyncio.create_task(component.ready.wait())
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=60)
    if task.done():
        task.result()
    assert component.ready.is_set()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def look_up(where: tuple[str, int], name: str, kind: str = "A", *, tcp: bool = False) -> Answer:
    return await asyncio.to_thread(ask, where, name, kind, tcp=tcp)


async def until(where: tuple[str, int], name: str, right: Callable[[Answer], bool], kind: str = "A") -> Answer:
    """The first answer that is right: what is written reaches the responder in its own time."""
    async with asyncio.timeout(60):
        while not right(answer := await look_up(where, name, kind)):
            pass
    return answer


def web(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80}]
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": ports, **spec}}


class TestOverAnApiServer:
    async def test_services_are_answered_over_udp_and_tcp_and_not_once_they_are_gone(self, server: APIServer) -> None:
        dns = responder(server)
        where = ("127.0.0.1", dns.listen(["127.0.0.1"], 0))
        async with running(dns):
            made = await admin(server).create("services", web())
            await until(where, WEB, lambda answer: answer.code == "NOERROR")
            for tcp in (False, True):
                assert (await look_up(where, WEB, tcp=tcp)).values() == [made["spec"]["clusterIP"]]
            found = await look_up(where, f"_http._tcp.{WEB}", "SRV")
            assert found.values() == [f"0 100 80 {WEB}."]
            assert [one.value for one in found.additional] == [made["spec"]["clusterIP"]]
            await admin(server).delete("services", "web", "default")
            await until(where, WEB, lambda answer: answer.code == "NXDOMAIN")

    async def test_the_role_system_coredns_is_all_it_needs(self, server: APIServer) -> None:
        async with running(responder(server)):
            pass

    async def test_kube_dns_is_where_it_says(self, server: APIServer) -> None:
        node = next(_ADDRESSES)
        dns = responder(server)
        # the address is on no link here: it is listened on ahead, as in a cluster that has no bridge yet
        site = Site(addresses=(KUBE_DNS,), node_addresses=(node,), node_name="node", spare_ports=(0,))
        await serve_cluster(admin(server), dns, site)
        service = await admin(server).get("services", "kube-dns", "kube-system")
        assert service["spec"]["clusterIP"] == KUBE_DNS
        (port,) = {one["port"] for one in service["spec"]["ports"]}
        assert sorted(dns.listening()) == sorted([(KUBE_DNS, port), (node, port)])
        async with running(dns):
            name = "kube-dns.kube-system.svc.cluster.local"
            assert (await look_up((node, port), name)).values() == [KUBE_DNS]

    async def test_when_another_service_has_its_address_kube_dns_gets_one_of_its_own(self, server: APIServer) -> None:
        await admin(server).create("services", web(clusterIP=KUBE_DNS))
        site = Site(addresses=(KUBE_DNS,), node_addresses=(next(_ADDRESSES),), node_name="node", spare_ports=(0,))
        dns = responder(server)
        await serve_cluster(admin(server), dns, site)
        service = await admin(server).get("services", "kube-dns", "kube-system")
        given = service["spec"]["clusterIP"]
        assert given.startswith("198.18.") and given != KUBE_DNS
        assert given in [address for address, _ in dns.listening()]

    async def test_the_command_answers_until_it_is_told_to_end(self, server: APIServer, tmp_path: Path) -> None:
        pair = server.issue_client_certificate("system:coredns")
        file = tmp_path / "coredns.kubeconfig"
        file.write_bytes(kubeconfig(server.url, server.authority.certificate, pair, user="coredns"))
        await admin(server).create("services", web())
        addresses = [next(_ADDRESSES), next(_ADDRESSES)]
        command = [sys.executable, "-m", "kubecore", "dns", "--kubeconfig", str(file), "--address", ",".join(addresses)]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--port", "0", "--domain", "k8s.example"),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                line = (await process.stdout.readline()).decode()
            assert line.startswith(f"kubecore answers DNS for k8s.example at {', '.join(addresses)} port ")
            for address in addresses:
                where = (address, int(line.split()[-1]))
                answer = await until(where, "web.default.svc.k8s.example", lambda answer: answer.code != "SERVFAIL")
                assert answer.code == "NOERROR"
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await process.wait() == 0


class TestForwarding:
    async def test_other_names_are_asked_of_the_upstream_resolvers(self, server: APIServer) -> None:
        address = next(_ADDRESSES)
        upstream = responder(server, domain="example.org")
        port = upstream.listen([address], 0)
        dns = responder(server, upstreams=(f"{address}:{port}",))
        where = ("127.0.0.1", dns.listen(["127.0.0.1"], 0))
        async with running(upstream), running(dns):
            assert (await look_up(where, "dns-version.example.org", "TXT")).values() == ["1.1.0"]

    async def test_it_never_asks_itself(self, server: APIServer) -> None:
        address, other = next(_ADDRESSES), next(_ADDRESSES)
        dns = responder(server)
        port = dns.listen([other], 0)
        alone = responder(server, upstreams=(f"{address}:{port}",))
        alone.listen([address], port)
        async with running(dns), running(alone):
            assert (await look_up((address, port), "example.org")).code == "REFUSED"


class TestThroughTheServiceProxy:
    async def test_dns_can_be_a_service_like_any_other_over_udp_and_tcp(self) -> None:
        """Whoever takes kube-dns' service-proxy-name label away has it balanced by the proxy."""
        api = FakeAPI(RealClock())
        dns = DnsResponder(api.client(), RealClock(), DnsConfig())
        node, address = next(_ADDRESSES), next(_ADDRESSES)
        port = dns.listen([node], 0)
        both = [("dns", "UDP"), ("dns-tcp", "TCP")]
        ports = [{"name": name, "protocol": protocol, "port": port} for name, protocol in both]
        spec = {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": ports}
        api.add("services", {"metadata": {"name": "web"}, "spec": spec})
        labels = {"kubernetes.io/service-name": "web"}
        slice_: Object = {"metadata": {"name": "web", "labels": labels}, "addressType": "IPv4", "ports": ports}
        api.add("endpointslices.discovery.k8s.io", {**slice_, "endpoints": [{"addresses": [node]}]})
        async with running(dns), running(ServiceProxy(api.client(), RealClock(), ProxyConfig())):
            for tcp in (False, True):
                assert (await look_up((address, port), WEB, tcp=tcp)).values() == [address]
