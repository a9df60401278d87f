"""The service proxy follows Services and EndpointSlices, and tells of what it cannot serve."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import pytest

from kubecore.proxy.http_answers import HttpAnswers
from kubecore.proxy.virtual_servers import PROXY_PROTOCOL_ANNOTATION, NodeHere
from tests.unit.proxy.builders import endpoint, endpoint_slice, port, vip
from tests.unit.proxy.running import AT, SLICES, Running, web


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

    @pytest.mark.parametrize(("node", "whose"), [("", ""), ("here", "node here ")])
    async def test_a_port_that_is_taken_is_an_event_of_the_service(
        self, cluster: Running, node: str, whose: str
    ) -> None:
        await cluster.start(node_port_addresses=(vip(1),), node_name=node)
        local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 18311}
        with socket.create_server((vip(1), 18311)):
            await cluster.add(web(**local))
        (told,) = cluster.events()
        assert told.startswith(
            f'Warning FailedToStartServiceHealthcheck {whose}failed to start healthcheck "default/web" on port 18311: '
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

    async def test_so_do_the_zones_of_several_nodes_that_share_a_proxy(self, cluster: Running) -> None:
        nodes = (NodeHere("here", pods=("10.244.0.0/24",)), NodeHere("there", pods=("10.244.1.0/24",)))
        zone = "topology.kubernetes.io/zone"
        for name, its in (("here", "a"), ("there", "b"), ("elsewhere", "c")):
            cluster.api.add("nodes", {"metadata": {"name": name, "labels": {zone: its}}, "spec": {}})
        await cluster.start(nodes=nodes)
        a, b, c = (endpoint(f"10.0.0.{n}", for_zones=its) for n, its in ((1, "a"), (2, "b"), (3, "c")))
        await cluster.add(web(), endpoint_slice(a, b, c))
        assert cluster.served() == {AT: ["10.0.0.1:80", "10.0.0.2:80"]}
        cluster.api.change("nodes", "there", metadata={"labels": {zone: "c"}})
        await cluster.settle()
        assert cluster.served() == {AT: ["10.0.0.1:80", "10.0.0.3:80"]}

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
