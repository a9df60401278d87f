"""What the proxy does where it cannot do what was asked, and how it tells of it."""

from __future__ import annotations

import errno
import logging
import socket
import uuid
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from kubecore import port_names
from kubecore.proxy import proxy
from kubecore.proxy.claims import Problem
from kubecore.proxy.data_plane import Mode, ModeUnavailable
from kubecore.proxy.modes import ProxyConfig
from kubecore.proxy.proxy import ServiceProxy
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import PROXY_PROTOCOL_ANNOTATION, SCHEDULER_ANNOTATION, VirtualServer
from tests.unit.proxy.builders import endpoint, endpoint_slice, port, service, vip
from tests.unit.proxy.running import AT, Running, web


class Lost(ServiceTable):
    """Stands for the tables of a mode. `lost` is what it answers in turn when it is looked after."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[tuple[str, ...] | OSError | None] = []
        self.applied: list[str] = []

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        self.applied.append(service)
        return super().apply(service, servers, addresses=addresses)

    def commit(self) -> None:
        self.applied.append("commit")

    def restore(self) -> tuple[str, ...] | None:
        answer = self.lost.pop(0) if self.lost else None
        if isinstance(answer, OSError):
            raise answer
        return answer


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

    @pytest.mark.parametrize("restores", [True, False])
    async def test_what_somebody_has_removed_from_the_kernel_is_made_again_though_no_service_changes(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch, restores: bool
    ) -> None:
        plane, made = Lost(), int(restores)
        plane.restores = restores
        monkeypatch.setattr(proxy, "make_data_plane", lambda *_, **__: plane)
        await cluster.start()
        await cluster.add(web(), endpoint_slice(endpoint("10.0.0.1")))
        await cluster.clock.advance(29)
        plane.lost, plane.applied = [("default/web",), None, OSError(errno.ENOMEM, "")], []
        await cluster.clock.advance(2)
        assert plane.applied == ["default/web", "commit"] * made
        await cluster.clock.advance(90)
        assert plane.applied == ["default/web", "commit"] * made
        assert len(plane.lost) == 3 - 3 * made
        await cluster.stop()
        assert cluster.clock.next_timer() is None

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
            await cluster.start(mode="ipvs", table=f"kubecore-{uuid.uuid4().hex}")
        reason = "the kernel has no IPVS (its module ip_vs)"
        assert f"proxy mode ipvs is not available: {reason}; falling back to userspace" in caplog.text
        assert cluster.proxy.mode == "userspace"


class TestTablesOfTheKernel:
    """Of one name, for which two proxies of a cluster on one host would ask."""

    @pytest.fixture
    def name(self) -> str:
        return f"kubecore-{uuid.uuid4().hex}"

    @pytest.mark.parametrize("mode", ["nftables", "ipvs"])
    async def test_those_that_another_proxy_has_are_left_to_it(
        self, cluster: Running, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mode: Mode
    ) -> None:
        swept: list[str] = []
        monkeypatch.setattr("kubecore.proxy.ipvs.leftovers.sweep", lambda table, _: swept.append(table))
        with port_names.claim_tables(name), caplog.at_level(logging.WARNING):
            await cluster.start(mode=mode, table=name)
        reason = f"the tables {name} of the kernel: another proxy on this host has them"
        assert f"proxy mode {mode} is not available: {reason}; falling back to userspace" in caplog.text
        assert cluster.proxy.mode == "userspace"
        assert swept == []

    async def test_they_are_a_proxys_until_its_end(
        self, cluster: Running, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plane = Lost()
        monkeypatch.setattr(plane, "mode", "ipvs")
        monkeypatch.setattr(proxy, "make_data_plane", lambda *_, **__: plane)
        await cluster.start(mode="ipvs", table=name)
        assert port_names.are_tables_claimed(name)
        await cluster.stop()
        assert not port_names.are_tables_claimed(name)

    async def test_who_cannot_have_the_mode_leaves_them_to_others(
        self, cluster: Running, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise ModeUnavailable("the kernel has no IPVS (its module ip_vs)")

        monkeypatch.setattr("kubecore.proxy.ipvs.table.connect", refuse)
        await cluster.start(mode="ipvs", table=name)
        assert not port_names.are_tables_claimed(name)
