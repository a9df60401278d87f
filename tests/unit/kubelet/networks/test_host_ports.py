"""Ports of the node that lead to its pods, as containers ask for them (`hostPort`)."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.networks.host_ports import Listens, PortKey
from tests.unit.kubelet.conftest import Node, container
from tests.unit.kubelet.fake_runtime import FakeRuntime

Object = dict[str, Any]

ADDRESSES = ("127.0.0.1", "192.0.2.7", "2001:db8::7")
NOT_SERVED = "HostPortNotServed"


class FakeHost:
    """`ports` are served now, with where they lead to; `taken` are others', with why they cannot be had. `connections`:
    of how many pods they were ended. `listening`: at what addresses processes do."""

    def __init__(self) -> None:
        self.own: tuple[str, ...] = ADDRESSES
        self.ports: dict[PortKey, tuple[str, int]] = {}
        self.taken: dict[PortKey, OSError] = {}
        self.listening: dict[PortKey, Listens] = {}
        self.ended: list[set[PortKey]] = []
        self.closed = False

    def addresses(self) -> Iterable[str]:
        return self.own

    def carrier(self) -> FakeCarrier:
        return FakeCarrier(self)

    def listens(self, key: PortKey) -> Listens:
        return self.listening.get(key, "")

    def close(self) -> None:
        self.closed = True


class FakeCarrier:
    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._open: set[PortKey] = set()

    def open(self, key: PortKey, destination: tuple[str, int]) -> None:
        if key in self._host.taken:
            raise self._host.taken[key]
        if key in self._host.ports:
            raise OSError(errno.EADDRINUSE, "another pod has it")
        self._host.ports[key] = destination
        self._open.add(key)

    def close(self, key: PortKey) -> None:
        self._open.remove(key)
        del self._host.ports[key]

    def renew(self) -> None:
        pass

    def shut_down(self) -> None:
        self._host.ended.append(set(self._open))
        for key in list(self._open):
            self.close(key)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def node(tmp_path: Path, host: FakeHost) -> AsyncIterator[Node]:
    one = Node(tmp_path)
    await one.start(host=host)
    yield one
    await one.stop()


def port(host_port: int, container_port: int = 80, **fields: str) -> Object:
    return {"hostPort": host_port, "containerPort": container_port, "protocol": "TCP", **fields}


def serving(*ports: Object, name: str = "main", **fields: Any) -> Object:
    return container(name, ports=list(ports), **fields)


class TestWhatIsServed:
    async def test_a_port_leads_from_every_address_of_the_node_to_the_pods(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)))
        pod = (node.status()["podIP"], 80)
        assert host.ports == {("TCP", "127.0.0.1", 8080): pod, ("TCP", "192.0.2.7", 8080): pod}

    async def test_of_a_host_ip_at_that_address_alone(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080, hostIP="192.0.2.7")))
        assert list(host.ports) == [("TCP", "192.0.2.7", 8080)]

    async def test_udp_is_a_port_of_its_own(self, node: Node, host: FakeHost) -> None:
        host.own = ("127.0.0.1",)
        await node.run(serving(port(53, 5353), port(53, 5354, protocol="UDP")))
        assert {key[0]: to[1] for key, to in host.ports.items()} == {"TCP": 5353, "UDP": 5354}

    async def test_init_containers_and_sidecars_have_theirs(self, node: Node, host: FakeHost) -> None:
        first = serving(port(1001), name="first")
        sidecar = serving(port(1002), name="sidecar", restartPolicy="Always")
        await node.run(serving(port(1003)), initContainers=[first, sidecar])
        assert {number for _, _, number in host.ports} == {1001, 1002, 1003}

    async def test_a_pod_of_two_families_has_each_from_its_own(self, tmp_path: Path, host: FakeHost) -> None:
        class TwoFamilies(FakeRuntime):
            async def run_pod_sandbox(self, config: Any) -> Any:
                made = await super().run_pod_sandbox(config)
                self._sandbox_statuses[made.id] = both = replace(made, ips=(*made.ips, "fd00::1"))
                return both

        node = Node(tmp_path)
        node.runtime = TwoFamilies(node.clock)
        await node.start(host=host)
        await node.run(serving(port(8080), port(9090, hostIP="::"), port(7070, hostIP="0.0.0.0")))
        led = {(number, address): to for (_, address, number), (to, _) in host.ports.items()}
        assert led == {
            (8080, "127.0.0.1"): node.status()["podIP"],
            (8080, "192.0.2.7"): node.status()["podIP"],
            (8080, "2001:db8::7"): "fd00::1",
            (9090, "2001:db8::7"): "fd00::1",
            (7070, "127.0.0.1"): node.status()["podIP"],
            (7070, "192.0.2.7"): node.status()["podIP"],
        }
        await node.stop()

    async def test_nothing_is_done_for_a_pod_on_the_nodes_network(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080, 8080)), hostNetwork=True)
        assert (node.status()["phase"], host.ports, node.events(NOT_SERVED)) == ("Running", {}, [])

    async def test_an_address_that_the_machine_gets_later_is_served_and_one_it_loses_no_more(
        self, node: Node, host: FakeHost
    ) -> None:
        await node.run(serving(port(8080)))
        host.own = ("127.0.0.1", "192.0.2.8")
        await node.settle(30)
        assert {address for _, address, _ in host.ports} == {"127.0.0.1", "192.0.2.8"}


class TestHowLong:
    async def test_a_pod_that_ends_is_served_while_its_containers_end_and_then_no_more(
        self, node: Node, host: FakeHost
    ) -> None:
        node.runtime.stubborn.add("main")
        await node.run(serving(port(8080)))
        await node.delete(grace_seconds=30)
        await node.settle(20)
        assert len(host.ports) == 2
        await node.settle(11)
        assert host.ports == {}
        assert len(host.ended) == 1  # and all of its connections with it

    async def test_the_port_is_free_before_the_pods_address_is(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)))
        left: list[int] = []
        stop = node.runtime.stop_pod_sandbox

        async def stop_pod_sandbox(sandbox_id: str) -> None:
            left.append(len(host.ports))
            await stop(sandbox_id)

        node.runtime.stop_pod_sandbox = stop_pod_sandbox  # type: ignore[method-assign]
        await node.delete()
        assert set(left) == {0}

    async def test_of_a_pod_that_has_completed_nothing_is_served(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)), restartPolicy="Never")
        node.runtime.end("main", 0)
        await node.settle()
        assert (node.status()["phase"], host.ports) == ("Succeeded", {})

    async def test_a_container_that_restarts_changes_nothing(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)))
        before = dict(host.ports)
        node.runtime.end("main", 1)
        await node.settle(20)
        assert (host.ports, host.ended) == (before, [])

    async def test_a_sandbox_that_is_made_anew_is_led_to_at_its_new_address(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)))
        before = node.status()["podIP"]
        node.runtime.lose()
        await node.settle(60)
        assert node.status()["podIP"] != before
        assert {to for to, _ in host.ports.values()} == {node.status()["podIP"]}

    async def test_a_pod_that_outlives_its_kubelet_is_served_by_the_next(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)))
        before = dict(host.ports)
        await node.kill()
        assert (host.ports, host.closed) == ({}, True)
        await node.start(host=host)
        assert (host.ports, node.events(NOT_SERVED)) == (before, [])

    async def test_a_pod_that_has_completed_is_not_served_by_the_next(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080)), restartPolicy="Never")
        await node.kill()
        node.runtime.end("main", 0)
        await node.start(host=host)
        assert host.ports == {}


class TestWhatCannotBeServed:
    async def test_a_port_that_somebody_has_is_told_and_the_containers_run(self, node: Node, host: FakeHost) -> None:
        host.taken["TCP", "192.0.2.7", 8080] = OSError(errno.EADDRINUSE, "Address already in use")
        await node.run(serving(port(8080)))
        assert node.status()["phase"] == "Running"
        assert list(host.ports) == [("TCP", "127.0.0.1", 8080)]
        assert node.events(NOT_SERVED) == ["host port TCP 8080: cannot listen on 192.0.2.7: Address already in use"]
        (event,) = (one for one in node.api.all("events") if one["reason"] == NOT_SERVED)
        assert (event["type"], event["involvedObject"]["fieldPath"]) == ("Warning", "spec.containers{main}")

    async def test_it_is_served_when_it_is_free_and_told_but_once(self, node: Node, host: FakeHost) -> None:
        key = ("TCP", "192.0.2.7", 8080)
        host.taken[key] = OSError(errno.EADDRINUSE, "Address already in use")
        await node.run(serving(port(8080)))
        await node.settle(600)
        assert len(node.events(NOT_SERVED)) == 1
        del host.taken[key]
        await node.settle(60)
        assert key in host.ports

    async def test_a_port_that_needs_more_rights_is_told(self, node: Node, host: FakeHost) -> None:
        why = "Permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE here"
        host.own = ("127.0.0.1",)
        host.taken["TCP", "127.0.0.1", 80] = OSError(errno.EACCES, why)
        await node.run(serving(port(80)))
        assert node.events(NOT_SERVED) == [f"host port TCP 80: cannot listen on 127.0.0.1: {why}"]

    async def test_sctp_is_not_supported(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080, protocol="SCTP")))
        assert (host.ports, node.status()["phase"]) == ({}, "Running")
        assert node.events(NOT_SERVED) == ["host port SCTP 8080 is not served: SCTP is not supported"]

    async def test_nor_an_address_of_a_family_that_the_pod_has_none_of(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080, hostIP="::1")))
        assert host.ports == {}
        assert node.events(NOT_SERVED) == ["host port TCP 8080 is not served: the pod has no IPv6 address"]

    @pytest.mark.parametrize("text", ["foo", "010.0.0.1", "fe80::1%eth0"])
    async def test_nor_what_is_no_address_of_a_host(self, node: Node, host: FakeHost, text: str) -> None:
        """The API takes any text there."""
        await node.run(serving(port(8080, hostIP=text), port(9090)))
        assert node.status()["phase"] == "Running"
        assert {number for _, _, number in host.ports} == {9090}
        told = f"host port TCP 8080 is not served: {text!r} is not an IP address of a host"
        assert node.events(NOT_SERVED) == [told]

    async def test_while_the_node_cannot_say_what_addresses_it_has_its_pods_run_and_ports_come_later(
        self, node: Node, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails() -> Iterable[str]:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patched:
            patched.setattr(host, "addresses", fails)
            await node.run(serving(port(8080)))
            assert (node.status()["phase"], host.ports) == ("Running", {})
        await node.settle(60)
        assert len(host.ports) == 2

    async def test_a_node_without_descriptors_runs_its_pods_without_host_ports(
        self, node: Node, host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails() -> FakeCarrier:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(host, "carrier", fails)
        await node.run(serving(port(8080)))
        assert (node.status()["phase"], host.ports) == ("Running", {})
        await node.delete()


class TestOnTheHostsNetwork:
    """Without network namespaces a pod's address is one of the host's, and its ports are, too."""

    @pytest.fixture
    async def node(self, tmp_path: Path, host: FakeHost) -> AsyncIterator[Node]:
        class Loopback(FakeRuntime):
            async def run_pod_sandbox(self, config: Any) -> Any:
                made = await super().run_pod_sandbox(config)
                self._sandbox_statuses[made.id] = here = replace(made, ips=("127.64.0.2",))
                return here

        one = Node(tmp_path)
        one.runtime = Loopback(one.clock)
        await one.start(host=host)
        yield one
        await one.stop()

    async def test_a_port_of_another_number_is_served_at_once(self, node: Node, host: FakeHost) -> None:
        await node.run(serving(port(8080, 80)))
        assert set(host.ports.values()) == {("127.64.0.2", 80)}

    async def test_one_of_the_same_is_left_to_a_process_that_listens_everywhere(
        self, node: Node, host: FakeHost
    ) -> None:
        await node.run(serving(port(8080, 8080)))
        assert host.ports == {}  # or it could not listen any more
        host.listening["TCP", "127.64.0.2", 8080] = "everywhere"
        await node.settle(60)
        assert (host.ports, node.events(NOT_SERVED)) == ({}, [])

    async def test_and_served_once_the_process_listens_at_the_pods_own_address(
        self, node: Node, host: FakeHost
    ) -> None:
        await node.run(serving(port(8080, 8080)))
        host.listening["TCP", "127.64.0.2", 8080] = "there"
        await node.settle(1)
        assert set(host.ports.values()) == {("127.64.0.2", 8080)}
