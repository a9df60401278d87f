"""The service proxy follows Services and EndpointSlices, and tells of what it cannot serve."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.http_answers import HttpAnswers
from kubecore.proxy.modes import ProxyConfig
from kubecore.proxy.proxy import ServiceProxy
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import PROXY_PROTOCOL_ANNOTATION, SCHEDULER_ANNOTATION, VirtualServer
from tests.support.running import RunningComponent
from tests.unit.proxy.builders import endpoint, endpoint_slice, port, service, vip

SLICES = "endpointslices.discovery.k8s.io"


class Running(RunningComponent):
    """A cluster and its proxy, in virtual time."""

    resources = {"Service": "services", "EndpointSlice": SLICES}
    proxy: ServiceProxy

    async def start(self, **config: Any) -> None:
        settings = ProxyConfig(**config)
        client = self.api.client("kube-proxy")
        self.proxy = ServiceProxy(client, self.clock, settings, native_clock=self.clock.native)
        await self.run(self.proxy.run())
        assert self.proxy.ready.is_set()

    # ------------------------------------------------------------------ seeing
    def served(self) -> dict[str, list[str]]:
        """Endpoints by address and port of what is listened for."""
        return {
            f"{row['address']}:{row['port']}": sorted(f"{one['address']}:{one['port']}" for one in row["destinations"])
            for row in self.proxy.rows()
            if row["listening"]
        }

    def events(self) -> list[str]:
        return [f"{one['type']} {one['reason']} {one['message']}" for one in self.api.all("events")]


@pytest.fixture
async def cluster() -> AsyncIterator[Running]:
    running = Running()
    yield running
    await running.stop()


def web(number: int = 1, name: str = "web", **fields: Any) -> Object:
    return service(name, ips=[vip(number)], **fields)


AT = f"{vip(1)}:8080"


class TestFollowing:
    async def test_what_is_there_at_the_start_is_served_when_it_is_ready(self, cluster: Running) -> None:
        await cluster.add(web(), endpoint_slice(endpoint("10.0.0.1")))
        await cluster.start()
        assert cluster.served() == {AT: ["10.0.0.1:80"]}

    async def test_a_service_without_endpoints_is_served_too_and_refuses(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web())
        assert cluster.served() == {AT: []}

    async def test_endpoints_come_go_and_move_with_the_slices(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web(), endpoint_slice(endpoint("10.0.0.1"), name="a"))
        await cluster.add(endpoint_slice(endpoint("10.0.0.2"), name="b"))
        assert cluster.served() == {AT: ["10.0.0.1:80", "10.0.0.2:80"]}
        cluster.api.remove(SLICES, "a")
        cluster.api.change(SLICES, "b", endpoints=[endpoint("10.0.0.3")])
        await cluster.settle()
        assert cluster.served() == {AT: ["10.0.0.3:80"]}

    async def test_a_slice_that_changes_hands_leaves_its_former_service(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web(), web(2, "other"), endpoint_slice(endpoint("10.0.0.1"), name="a"))
        cluster.api.change(SLICES, "a", metadata={"labels": {"kubernetes.io/service-name": "other"}})
        await cluster.settle()
        assert cluster.served() == {AT: [], f"{vip(2)}:8080": ["10.0.0.1:80"]}

    async def test_slices_may_be_there_before_their_service(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(endpoint_slice(endpoint("10.0.0.1")))
        await cluster.add(web())
        assert cluster.served() == {AT: ["10.0.0.1:80"]}

    async def test_a_service_of_the_same_name_in_another_namespace_is_another_one(self, cluster: Running) -> None:
        await cluster.start()
        elsewhere = endpoint_slice(endpoint("10.0.0.9"))
        elsewhere["metadata"]["namespace"] = "kube-system"
        await cluster.add(web(), elsewhere)
        assert cluster.served() == {AT: []}

    async def test_a_port_that_changes_moves(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web())
        cluster.api.change("services", "web", spec={"ports": [port(9090)]})
        await cluster.settle()
        assert cluster.served() == {f"{vip(1)}:9090": []}

    async def test_a_deleted_service_is_served_no_more(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web(), endpoint_slice(endpoint("10.0.0.1")))
        cluster.api.remove("services", "web")
        await cluster.settle()
        assert cluster.served() == {}

    async def test_a_service_that_is_given_to_another_proxy_is_let_go(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web())
        cluster.api.change("services", "web", metadata={"labels": {"service.kubernetes.io/service-proxy-name": "x"}})
        await cluster.settle()
        assert cluster.served() == {}

    async def test_a_lost_watch_changes_nothing_but_what_has_changed(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web(), endpoint_slice(endpoint("10.0.0.1"), name="a"))
        cluster.api.remove(SLICES, "a")
        cluster.api.add(SLICES, endpoint_slice(endpoint("10.0.0.2"), name="b"))
        cluster.api.compact()
        cluster.api.end_watches()
        await cluster.clock.advance(60)
        assert cluster.served() == {AT: ["10.0.0.2:80"]}

    async def test_a_change_after_a_rest_is_applied_at_once(self, cluster: Running) -> None:
        await cluster.start(batch_seconds=5)
        await cluster.add(web())
        assert cluster.served() == {AT: []}
        await cluster.clock.advance(5)
        await cluster.add(endpoint_slice(endpoint("10.0.0.1")))
        assert cluster.served() == {AT: ["10.0.0.1:80"]}

    async def test_those_that_follow_it_soon_are_gathered_and_applied_together(self, cluster: Running) -> None:
        await cluster.start(batch_seconds=5)
        await cluster.add(web())
        await cluster.add(endpoint_slice(endpoint("10.0.0.1")))
        await cluster.add(web(2, "other"))
        assert cluster.served() == {AT: []}
        await cluster.clock.advance(5)
        assert cluster.served() == {AT: ["10.0.0.1:80"], f"{vip(2)}:8080": []}

    async def test_its_end_frees_every_port(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web())
        await cluster.stop()
        assert cluster.proxy.rows() == []
        with socket.create_server((vip(1), 8080)):
            pass
        assert not cluster.proxy.ready.is_set()


class TestHealthChecks:
    async def test_follow_the_service_and_its_endpoints(self, cluster: Running) -> None:
        await cluster.start(node_port_addresses=(vip(1),))
        local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 18310}
        await cluster.add(web(**local), endpoint_slice(endpoint("10.0.0.1"), name="a"))
        assert await self.ask(18310) == "HTTP/1.1 200 OK"
        cluster.api.remove(SLICES, "a")
        await cluster.settle()
        assert await self.ask(18310) == "HTTP/1.1 503 Service Unavailable"
        cluster.api.remove("services", "web")
        await cluster.settle()
        with pytest.raises(ConnectionRefusedError):
            await self.ask(18310)

    async def test_a_port_that_is_taken_is_an_event_of_the_service(self, cluster: Running) -> None:
        await cluster.start(node_port_addresses=(vip(1),))
        local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 18311}
        with socket.create_server((vip(1), 18311)):
            await cluster.add(web(**local))
        (told,) = cluster.events()
        assert told.startswith(
            "Warning FailedToStartServiceHealthcheck failed to start healthcheck 'default/web' on port 18311: "
        )

    async def test_it_is_told_once_and_tried_again_with_pauses_that_double(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts: list[float] = []
        opened = HttpAnswers.listen

        async def listen(answers: HttpAnswers, address: str, port: int) -> int:
            attempts.append(cluster.clock.monotonic())
            return await opened(answers, address, port)

        monkeypatch.setattr(HttpAnswers, "listen", listen)
        await cluster.start(node_port_addresses=(vip(1),))
        local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 18312}
        with socket.create_server((vip(1), 18312)):
            await cluster.add(web(**local))
            await cluster.clock.advance(1 + 2 + 4 + 8 + 1)
        assert [round(later - sooner) for sooner, later in pairwise(attempts)] == [1, 2, 4, 8]
        assert [event["count"] for event in cluster.api.all("events")] == [1]
        await cluster.clock.advance(16)
        assert await self.ask(18312) == "HTTP/1.1 503 Service Unavailable"
        assert cluster.clock.next_timer() is None

    async def ask(self, port: int) -> str:
        reader, writer = await asyncio.open_connection(vip(1), port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        line = await reader.readline()
        writer.close()
        return line.decode().strip()


class TestConnections:
    async def test_they_reach_an_endpoint(self, cluster: Running) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_server(greet, vip(9), 0)
        number = server.sockets[0].getsockname()[1]
        await cluster.start()
        ports = [{"name": "", "protocol": "TCP", "port": number}]
        await cluster.add(web(), endpoint_slice(endpoint(vip(9)), ports=ports))
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(vip(1), 8080)
            assert await reader.read() == b"hello"
        writer.close()
        server.close()

    async def test_the_endpoint_is_told_the_client_where_the_service_asks_for_it(self, cluster: Running) -> None:
        lines: list[bytes] = []
        through = asyncio.Event()

        async def echo_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            lines.append(await reader.readline())
            through.set()
            writer.write(await reader.readline())
            await reader.read()
            writer.close()

        server = await asyncio.start_server(echo_line, vip(9), 0)
        ports = [{"name": "", "protocol": "TCP", "port": server.sockets[0].getsockname()[1]}]
        await cluster.start()
        await cluster.add(web(), endpoint_slice(endpoint(vip(9)), ports=ports))
        async with asyncio.timeout(60):
            earlier, earlier_writer = await asyncio.open_connection(vip(1), 8080)
            earlier_writer.write(b"one\n")
            await through.wait()
            annotations = {PROXY_PROTOCOL_ANNOTATION: "v1"}
            cluster.api.change("services", "web", metadata={"annotations": annotations})
            await cluster.settle()
            reader, writer = await asyncio.open_connection(vip(1), 8080)
            host, number = writer.get_extra_info("sockname")
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            # one that was open before the change stays so
            earlier_writer.write(b"two\n")
            assert await earlier.readline() == b"two\n"
        assert lines == [b"one\n", f"PROXY TCP4 {host} {vip(1)} {number} 8080\r\n".encode()]
        for one in (writer, earlier_writer):
            one.close()
        server.close()

    async def test_they_are_refused_while_there_is_no_endpoint(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web())
        async with asyncio.timeout(60):
            with pytest.raises(ConnectionError):
                reader, _ = await asyncio.open_connection(vip(1), 8080)
                await reader.read()


class TestTroubles:
    async def test_a_port_that_is_taken_gets_an_event_and_is_had_when_it_is_free(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web())
            assert cluster.events() == [
                f"Warning FailedToListen cannot listen on TCP {vip(1)}:8080: Address already in use"
            ]
            assert cluster.served() == {}
        await cluster.clock.advance(1)
        assert cluster.served() == {AT: []}

    async def test_it_is_told_once_for_as_long_as_it_lasts(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web(), endpoint_slice(endpoint("10.0.0.1")))
            await cluster.clock.advance(600)
        assert [event["count"] for event in cluster.api.all("events")] == [1]

    async def test_pauses_between_attempts_double_up_to_a_minute(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web())
            await cluster.clock.advance(1 + 2 + 4 + 8 + 16 + 32 + 1)
        # the next attempt is a minute after the last one
        await cluster.clock.advance(58)
        assert cluster.served() == {}
        await cluster.clock.advance(2)
        assert cluster.served() == {AT: []}

    async def test_a_trouble_that_ended_does_not_make_the_next_one_longer(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web())
            await cluster.clock.advance(6)
        await cluster.clock.advance(3)
        assert cluster.served() == {AT: []}
        with socket.create_server((vip(1), 9090)):
            cluster.api.change("services", "web", spec={"ports": [port(9090)]})
            await cluster.settle()
        await cluster.clock.advance(1)
        assert cluster.served() == {f"{vip(1)}:9090": []}

    async def test_no_attempt_is_left_over_at_the_end(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web())
            await cluster.stop()
        assert cluster.clock.next_timer() is None

    async def test_endpoints_that_come_and_go_meanwhile_do_not_put_the_next_attempt_off(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web())
            for number in range(8):
                await cluster.add(endpoint_slice(endpoint("10.0.0.1"), name=f"s{number}"))
        await cluster.clock.advance(0.3)
        assert cluster.served() == {AT: ["10.0.0.1:80"]}

    async def test_nothing_is_attempted_for_a_service_that_is_gone(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            await cluster.add(web())
            cluster.api.remove("services", "web")
            await cluster.settle()
        await cluster.clock.advance(120)
        assert cluster.served() == {}
        assert cluster.clock.next_timer() is None

    async def test_other_services_and_ports_are_served_all_the_same(self, cluster: Running) -> None:
        await cluster.start()
        with socket.create_server((vip(1), 8080)):
            two_ports = service("web", port(8080, name="a"), port(8081, name="b"), ips=[vip(1)])
            await cluster.add(two_ports, web(2, "other"))
            assert set(cluster.served()) == {f"{vip(1)}:8081", f"{vip(2)}:8080"}

    async def test_an_address_of_another_service_is_inherited_from_it(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web(1, "first"))
        await cluster.add(web(1, "second"), endpoint_slice(endpoint("10.0.0.2"), service="second"))
        assert cluster.events() == [f"Warning AddressTaken TCP {AT} belongs to Service default/first"]
        assert cluster.served() == {AT: []}
        cluster.api.remove("services", "first")
        await cluster.settle()
        assert cluster.served() == {AT: ["10.0.0.2:80"]}

    async def test_an_unknown_scheduler_is_told_and_the_default_is_used(self, cluster: Running) -> None:
        await cluster.start(scheduler="lc")
        await cluster.add(web(annotations={"kubecore.dev/scheduler": "fastest"}))
        (row,) = cluster.proxy.rows()
        assert (row["scheduler"], row["listening"]) == ("lc", True)
        (told,) = cluster.events()
        assert told.startswith("Warning UnknownScheduler annotation kubecore.dev/scheduler names unknown scheduler")
        assert told.endswith("lc is used")

    async def test_a_proxy_that_is_configured_with_one_does_not_start(self, cluster: Running) -> None:
        with pytest.raises(ValueError, match="unknown scheduler 'fastest'"):
            ServiceProxy(cluster.api.client(), cluster.clock, ProxyConfig(scheduler="fastest"))

    async def test_what_is_unfinished_is_committed_again_later(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await cluster.start()
        commits: list[float] = []
        monkeypatch.setattr(ServiceTable, "unfinished", True)
        monkeypatch.setattr(ServiceTable, "commit", lambda _: commits.append(cluster.clock.monotonic()))
        await cluster.add(web())
        await cluster.clock.advance(10)
        assert len(commits) >= 3

    async def test_pauses_between_commits_that_fail_double(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await cluster.start()
        commits: list[float] = []

        def fail(_: ServiceTable) -> None:
            commits.append(cluster.clock.monotonic())
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        monkeypatch.setattr(ServiceTable, "commit", fail)
        await cluster.add(web())
        await cluster.clock.advance(1 + 2 + 4 + 8 + 1)
        assert [round(later - sooner) for sooner, later in pairwise(commits)] == [1, 2, 4, 8]

    async def test_a_version_of_the_proxy_protocol_that_is_unknown_is_told(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add(web(annotations={PROXY_PROTOCOL_ANNOTATION: "v3"}))
        assert cluster.served() == {AT: []}
        message = "annotation kubecore.dev/proxy-protocol names unknown version 'v3' (known: v1, v2)"
        assert cluster.events() == [f"Warning UnknownProxyProtocol {message}; endpoints are not told their clients"]

    @pytest.mark.parametrize(
        ("mode", "annotation", "value"),
        [
            ("nftables", PROXY_PROTOCOL_ANNOTATION, "v1"),
            ("ipvs", PROXY_PROTOCOL_ANNOTATION, "v2"),
            ("nftables", SCHEDULER_ANNOTATION, "wlc"),
        ],
    )
    async def test_a_service_that_asks_for_what_the_mode_has_not_is_forwarded_and_told_so(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch, mode: str, annotation: str, value: str
    ) -> None:
        applied: dict[str, bool] = {}
        apply = ServiceTable.apply

        def see(table: ServiceTable, key: str, servers: list[VirtualServer], **more: Any) -> Any:
            applied.update(dict.fromkeys([key], all(one.forwarded for one in servers)))
            return apply(table, key, servers, **more)

        monkeypatch.setattr(ServiceTable, "mode", mode)
        monkeypatch.setattr(ServiceTable, "apply", see)
        await cluster.start()
        await cluster.add(web(annotations={annotation: value}), web(2, "other"))
        assert applied == {"default/web": True, "default/other": False}
        message = f"mode {mode} has not what annotation {annotation}: {value} asks for: "
        assert cluster.events() == [f"Normal ServedInUserspace {message}this Service is served in user space"]

    @pytest.mark.parametrize(("mode", "value"), [("userspace", "wlc"), ("ipvs", "wlc"), ("nftables", "sh")])
    async def test_one_that_asks_for_what_it_has_is_not(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch, mode: str, value: str
    ) -> None:
        monkeypatch.setattr(ServiceTable, "mode", mode)
        await cluster.start()
        await cluster.add(web(annotations={SCHEDULER_ANNOTATION: value}))
        assert cluster.events() == []

    async def test_a_mode_that_cannot_be_had_falls_back_and_says_so(
        self, cluster: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise ModeUnavailable("the kernel has no IPVS (its module ip_vs)")

        monkeypatch.setattr("kubecore.proxy.ipvs.table.connect", refuse)
        with caplog.at_level(logging.WARNING):
            await cluster.start(mode="ipvs")
        reason = "the kernel has no IPVS (its module ip_vs)"
        assert f"proxy mode ipvs is not available: {reason}; falling back to userspace" in caplog.text
        assert cluster.proxy.mode == "userspace"


class TestItsNode:
    async def test_endpoints_on_it_are_local(self, cluster: Running) -> None:
        await cluster.start(node_name="here")
        near, far = endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2", node="there")
        await cluster.add(web(internalTrafficPolicy="Local"), endpoint_slice(near, far))
        assert cluster.served() == {AT: ["10.0.0.1:80"]}

    async def test_its_zone_decides_which_hints_are_for_it(self, cluster: Running) -> None:
        zone = "topology.kubernetes.io/zone"
        cluster.api.add("nodes", {"metadata": {"name": "here", "labels": {zone: "a"}}, "spec": {}})
        cluster.api.add("nodes", {"metadata": {"name": "there", "labels": {zone: "b"}}, "spec": {}})
        await cluster.start(node_name="here")
        a, b = endpoint("10.0.0.1", for_zones="a"), endpoint("10.0.0.2", for_zones="b")
        await cluster.add(web(), endpoint_slice(a, b))
        assert cluster.served() == {AT: ["10.0.0.1:80"]}
        cluster.api.change("nodes", "here", metadata={"labels": {zone: "b"}})
        await cluster.settle()
        assert cluster.served() == {AT: ["10.0.0.2:80"]}

    async def test_the_node_may_be_registered_later(self, cluster: Running) -> None:
        await cluster.start(node_name="here")
        a, b = endpoint("10.0.0.1", for_zones="a"), endpoint("10.0.0.2", for_zones="b")
        await cluster.add(web(), endpoint_slice(a, b))
        assert cluster.served() == {AT: ["10.0.0.1:80", "10.0.0.2:80"]}
        labels = {"topology.kubernetes.io/zone": "b"}
        cluster.api.add("nodes", {"metadata": {"name": "here", "labels": labels}, "spec": {}})
        await cluster.settle()
        assert cluster.served() == {AT: ["10.0.0.2:80"]}

    async def test_node_ports_may_work_at_its_own_address_alone_once_that_is_known(self, cluster: Running) -> None:
        await cluster.start(node_name="here", primary_node_ports=True)
        made = web(1, "web", type="NodePort")
        made["spec"]["ports"] = [port(node_port=30080)]
        await cluster.add(made, endpoint_slice(endpoint("10.0.0.1")))
        assert cluster.served() == {AT: ["10.0.0.1:80"]}
        addresses = [{"type": "Hostname", "address": "here"}, {"type": "InternalIP", "address": vip(7)}]
        cluster.api.add("nodes", {"metadata": {"name": "here"}, "spec": {}, "status": {"addresses": addresses}})
        await cluster.settle()
        assert cluster.served() == {AT: ["10.0.0.1:80"], f"{vip(7)}:30080": ["10.0.0.1:80"]}
