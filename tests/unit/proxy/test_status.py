"""What a running proxy tells of itself and of its Services, over HTTP and to `kubecore proxy ls`."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.cli.proxy import table
from kubecore.clock import VirtualClock
from kubecore.proxy.asking import ProxyUnreachable, ask
from kubecore.proxy.health_checks import HealthChecks
from kubecore.proxy.http_answers import Answer, HttpAnswers
from kubecore.proxy.modes import ProxyConfig
from kubecore.proxy.status import ProxyStatus, StatusServer
from kubecore.proxy.virtual_servers import HealthCheck
from tests.unit.proxy.builders import vip

HERE = vip(77)

ROW: dict[str, Any] = {
    "service": "default/web",
    "purpose": "ClusterIP",
    "protocol": "TCP",
    "address": "10.96.0.1",
    "port": 80,
    "scheduler": "rr",
    "persistence_seconds": None,
    "listening": True,
    "destinations": [
        {"address": "10.0.0.1", "port": 8080, "weight": 1, "active": 2, "inactive": 1, "connections": 7, "bytes_in": 9}
    ],
}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def status(clock: VirtualClock) -> ProxyStatus:
    return ProxyStatus(clock, lambda: "nftables", lambda: [ROW])


async def get(
    port: int, path: str, *, method: str = "GET", address: str = HERE, body: bytes | None = None
) -> http.client.HTTPResponse:
    def fetch() -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(address, port, timeout=30)
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    return await asyncio.to_thread(fetch)


def told(answer: Answer) -> Any:
    return json.loads(answer.body)


class TestHealth:
    def test_a_proxy_with_nothing_to_do_is_healthy(self, status: ProxyStatus) -> None:
        answer = status.health("/healthz")
        assert (answer.status, told(answer)["nodeEligible"]) == (200, True)

    async def test_one_that_cannot_keep_up_is_not(self, status: ProxyStatus, clock: VirtualClock) -> None:
        status.changed(services=1)
        await clock.advance(59)
        assert status.health("/livez").status == 200
        await clock.advance(2)
        assert (status.health("/healthz").status, status.health("/livez").status) == (503, 503)
        status.synced(0.0, failed=True)
        assert status.health("/livez").status == 503
        status.synced(0.01)
        assert status.health("/healthz").status == 200

    def test_a_node_that_is_being_removed_is_not_eligible_though_the_proxy_lives(self, status: ProxyStatus) -> None:
        status.node_eligible = False
        assert (status.health("/healthz").status, status.health("/livez").status) == (503, 200)

    async def test_it_is_told_by_family_once_there_were_tables(self, clock: VirtualClock) -> None:
        status = ProxyStatus(clock, lambda: "nftables", lambda: [], families=("IPv4", "IPv6"))
        before = told(status.health("/livez"))
        assert (before["healthy"], before["status"]) == (True, {})
        status.synced(0.01)
        synced = before["currentTime"]
        status.changed(services=1)
        await clock.advance(61)
        after = told(status.health("/healthz"))
        late = {"lastUpdated": synced, "healthy": False}
        assert after["lastUpdated"] == synced != after["currentTime"]
        assert (after["healthy"], after["status"]) == (False, {"IPv4": late, "IPv6": late})

    def test_there_is_nothing_else_to_be_had_from_outside(self, status: ProxyStatus) -> None:
        assert status.health("/services").status == 404


class TestInside:
    def test_mode_health_and_services(self, status: ProxyStatus) -> None:
        assert status.inside("/proxyMode").body == b"nftables"
        assert status.inside("/healthz").body == b"ok"
        assert told(status.inside("/services")) == {"mode": "nftables", "services": [ROW]}

    def test_metrics_count_changes_and_syncs_as_kube_proxy_names_them(self, status: ProxyStatus) -> None:
        status.changed(services=2, slices=3)
        status.synced(0.0035)
        lines = status.inside("/metrics").body.decode().splitlines()
        assert "kubeproxy_sync_proxy_rules_service_changes_total 2" in lines
        assert "kubeproxy_sync_proxy_rules_endpoint_changes_total 3" in lines
        assert 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.002"} 0' in lines
        assert 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.004"} 1' in lines
        assert 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="+Inf"} 1' in lines
        assert "kubeproxy_sync_proxy_rules_duration_seconds_count 1" in lines

    def test_metrics_tell_what_waits_and_what_health_was_told(self, status: ProxyStatus) -> None:
        status.changed(services=2, slices=3)
        assert status.health("/healthz").status == status.health("/livez").status == 200
        status.node_eligible = False
        assert status.health("/healthz").status == 503
        lines = status.inside("/metrics").body.decode().splitlines()
        assert "kubeproxy_sync_proxy_rules_service_changes_pending 2" in lines
        assert "kubeproxy_sync_proxy_rules_endpoint_changes_pending 3" in lines
        assert 'kubeproxy_proxy_healthz_total{code="200"} 1' in lines
        assert 'kubeproxy_proxy_healthz_total{code="503"} 1' in lines
        assert 'kubeproxy_proxy_livez_total{code="200"} 1' in lines
        status.synced(0.01)
        assert "kubeproxy_sync_proxy_rules_service_changes_pending 0" in status.inside("/metrics").body.decode()


class TestServing:
    async def test_over_tcp_and_a_unix_socket(self, status: ProxyStatus, tmp_path: Path) -> None:
        server, path = StatusServer(status), tmp_path / "s"
        path.touch()  # as a killed run leaves it
        await server.start(ProxyConfig(metrics_address=(HERE, 18249), status_socket=path))
        try:
            assert (await asyncio.to_thread(ask, path))["services"] == [ROW]
            assert (await asyncio.to_thread(ask, path, f"{HERE}:18249"))["mode"] == "nftables"
            assert (await get(18249, "/healthz")).status == 200
        finally:
            server.close()
        assert not path.exists()

    async def test_a_port_that_is_taken_is_done_without_and_that_is_told(
        self, status: ProxyStatus, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        server, path = StatusServer(status), tmp_path / "s"
        with socket.create_server((HERE, 18250)):
            await server.start(ProxyConfig(health_address=(HERE, 18250), status_socket=path))
        assert (await asyncio.to_thread(ask, path))["mode"] == "nftables"
        server.close()
        (told,) = (one for one in caplog.records if one.levelno == logging.WARNING)
        assert told.getMessage() == (
            f"the proxy does without its port for health, {HERE}:18250: taken, perhaps by another cluster's proxy"
        )

    async def test_a_port_that_is_taken_gives_way_to_a_free_one_where_that_is_noted(
        self, status: ProxyStatus, caplog: pytest.LogCaptureFixture
    ) -> None:
        server, noted = StatusServer(status), dict[str, int]()
        config = ProxyConfig(health_address=(HERE, 18251), metrics_address=(HERE, 18252), note_port=noted.__setitem__)
        caplog.set_level(logging.INFO)
        with socket.create_server((HERE, 18251)), socket.create_server((HERE, 18252)):
            await server.start(config)
        health, metrics = noted["proxy-health"], noted["proxy-metrics"]
        assert (await get(health, "/livez")).status == (await get(metrics, "/metrics")).status == 200
        server.close()
        (told,) = caplog.records
        assert (told.levelno, told.getMessage()) == (
            logging.INFO,
            f"the proxy tells its health at {health} (18251 is taken) and metrics at {metrics} (18252 is taken)",
        )

    def test_nobody_there_is_told_with_where(self, tmp_path: Path) -> None:
        with pytest.raises(ProxyUnreachable, match=str(tmp_path)):
            ask(tmp_path / "s")

    async def test_bad_requests_and_faults_have_their_answers(self) -> None:
        def respond(path: str, _: str) -> Answer:
            raise RuntimeError(path)

        server = HttpAnswers(respond)
        port = await server.listen(HERE, 0)
        try:
            assert (await get(port, "/")).status == 500
            reader, writer = await asyncio.open_connection(HERE, port)
            writer.write(b"A" * (1 << 17))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        finally:
            server.close()


class TestHealthChecks:
    @pytest.fixture
    async def checks(self) -> AsyncIterator[HealthChecks]:
        self.healthy = True
        self.addresses = [HERE]
        checks = HealthChecks(lambda: self.addresses, lambda: self.healthy)
        yield checks
        checks.close()

    async def test_a_service_with_endpoints_here_is_told_so(self, checks: HealthChecks) -> None:
        await checks.set("default/web", HealthCheck(18300, 2))
        answer = await get(18300, "/")
        body = {
            "service": {"namespace": "default", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }
        assert (answer.status, json.loads(answer.body)) == (200, body)  # type: ignore[attr-defined]
        assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "2"

    @pytest.mark.parametrize("method", ["POST", "OPTIONS", "HEAD"])
    async def test_whatever_method_a_load_balancer_asks_by(self, checks: HealthChecks, method: str) -> None:
        await checks.set("default/web", HealthCheck(18307, 2))
        answer = await get(18307, "/", method=method, body=b"x" * 1000 if method == "POST" else None)
        assert (answer.status, answer.headers["X-Load-Balancing-Endpoint-Weight"]) == (200, "2")

    async def test_without_them_or_with_a_sick_proxy_load_balancers_look_elsewhere(self, checks: HealthChecks) -> None:
        await checks.set("default/web", HealthCheck(18301, 0))
        assert (await get(18301, "/healthz")).status == 503
        await checks.set("default/web", HealthCheck(18301, 1))
        assert (await get(18301, "/healthz")).status == 200
        self.healthy = False
        assert (await get(18301, "/healthz")).status == 503

    async def test_nodes_of_one_host_are_told_apart_by_the_address_that_is_asked(self, checks: HealthChecks) -> None:
        self.addresses = ["0.0.0.0"]
        await checks.set("default/web", HealthCheck(18306, 3, ((vip(79), 0), (vip(80), 3))))
        statuses = [(await get(18306, "/", address=one)).status for one in (vip(79), vip(80), HERE)]
        assert statuses == [503, 200, 200]

    async def test_a_port_follows_its_service(self, checks: HealthChecks) -> None:
        await checks.set("default/web", HealthCheck(18302, 1))
        await checks.set("default/web", HealthCheck(18303, 1))
        assert (await get(18303, "/")).status == 200
        await checks.set("default/web", None)
        for port in (18302, 18303):
            with socket.create_server((HERE, port)):
                pass

    async def test_it_follows_the_addresses_of_the_node(self, checks: HealthChecks) -> None:
        check, other = HealthCheck(18305, 1), vip(78)
        await checks.set("default/web", check)
        self.addresses = [other]
        await checks.set("default/web", check)
        assert (await get(18305, "/", address=other)).status == 200
        with socket.create_server((HERE, 18305)):
            pass

    async def test_one_that_is_taken_is_an_error(self, checks: HealthChecks) -> None:
        with socket.create_server((HERE, 18304)), pytest.raises(OSError, match="18304"):
            await checks.set("default/web", HealthCheck(18304, 1))


class TestListing:
    def test_looks_as_ipvsadm_does(self) -> None:
        six = {**ROW, "address": "fd00::1", "persistence_seconds": 60.0, "destinations": [], "service": "z/z"}
        assert table({"mode": "userspace", "services": [six, ROW]}, stats=False) == [
            "kubecore service proxy, mode userspace",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            "TCP  10.96.0.1:80 rr  (default/web, ClusterIP)",
            "  -> 10.0.0.1:8080                Masq    1      2          1",
            "TCP  [fd00::1]:80 rr persistent 60  (z/z, ClusterIP)",
        ]

    def test_what_a_server_has_carried_stays_when_its_endpoints_go(self) -> None:
        gone = {**ROW, "destinations": [], "connections": 7, "bytes_in": 9, "bytes_out": 0}
        lines = table({"mode": "userspace", "services": [gone]}, stats=True)
        assert lines[3].split() == ["TCP", "10.96.0.1:80", "7", "-", "-", "9", "0"]
        unknown = table({"mode": "nftables", "services": [{**ROW, "destinations": []}]}, stats=True)
        assert unknown[3].split() == ["TCP", "10.96.0.1:80", *["-"] * 5]

    def test_statistics_sum_up_and_what_is_not_counted_is_a_dash(self) -> None:
        lines = table({"mode": "userspace", "services": [ROW]}, stats=True)
        assert lines[3].split() == ["TCP", "10.96.0.1:80", "7", "-", "-", "9", "-"]
        assert lines[4].split() == ["->", "10.0.0.1:8080", "7", "-", "-", "9", "-"]
