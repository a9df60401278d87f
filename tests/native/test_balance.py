"""The balancer as Python sees it; its algorithms are specified in native/core/src/balance/tests.rs."""

import pytest

from kubecore._native import Balancer, ConnectionTable, schedulers

VIP = ("TCP", "10.96.0.1", 80)


def balancer_with(ports: list[int], **options: object) -> Balancer:
    balancer = Balancer()
    balancer.put_service(*VIP, **options)  # type: ignore[arg-type]
    balancer.set_destinations(*VIP, [("10.0.0.1", port, 1) for port in ports])
    return balancer


class TestPicking:
    def test_round_robin_starts_with_the_destination_added_last(self) -> None:
        balancer = balancer_with([1, 2, 3])
        picks = [balancer.pick(*VIP, "10.0.0.9") for _ in range(4)]
        assert picks == [("10.0.0.1", 3), ("10.0.0.1", 2), ("10.0.0.1", 1), ("10.0.0.1", 3)]

    def test_source_hash_sends_a_client_to_the_same_destination(self) -> None:
        balancer = balancer_with([1, 2, 3], scheduler="sh")
        assert len({balancer.pick(*VIP, "10.0.0.9") for _ in range(10)}) == 1
        assert len({balancer.pick(*VIP, f"10.0.0.{host}") for host in range(100)}) == 3

    def test_nothing_is_picked_without_destinations(self) -> None:
        assert balancer_with([]).pick(*VIP, "10.0.0.9") is None

    @pytest.mark.parametrize("scheduler", schedulers())
    def test_every_scheduler_picks(self, scheduler: str) -> None:
        balancer = balancer_with([1, 2, 3], scheduler=scheduler)
        assert balancer.pick(*VIP, "10.0.0.9") is not None


class TestCounting:
    def test_connections_count_until_they_are_closed(self) -> None:
        balancer = balancer_with([1])
        connection = balancer.connect(*VIP, "10.0.0.9")
        assert connection is not None and (connection.address, connection.port) == ("10.0.0.1", 1)
        (service,) = balancer.services()
        assert (service["connections"], service["destinations"][0]["active"]) == (1, 1)
        connection.closing()
        assert balancer.services()[0]["destinations"][0]["inactive"] == 1
        connection.close()
        assert balancer.services()[0]["destinations"][0]["inactive"] == 0

    def test_persistent_clients_stay_for_the_time_out(self) -> None:
        balancer = balancer_with([1, 2], persistence_seconds=10)

        def port(now: float) -> int:
            connection = balancer.connect(*VIP, "10.0.0.9", now=now)
            assert connection is not None
            connection.close(now=now)
            return connection.port

        assert [port(0), port(9), port(18), port(28.1)] == [2, 2, 2, 1]

    def test_rates_follow_the_traffic_slowly(self) -> None:
        balancer = balancer_with([1])
        balancer.estimate(0.0)
        for _ in range(80):
            assert balancer.connect(*VIP, "10.0.0.9") is not None
        balancer.estimate(1.0)
        assert balancer.services()[0]["per_second"]["connections"] == 0
        balancer.estimate(2.0)
        (service,) = balancer.services()
        assert service["per_second"]["connections"] == service["destinations"][0]["per_second"]["connections"] == 10
        balancer.estimate(4.0)
        assert balancer.services()[0]["per_second"]["connections"] == 7.5

    def test_thresholds_keep_a_busy_destination_from_more(self) -> None:
        balancer = balancer_with([])
        balancer.set_destinations(*VIP, [("10.0.0.1", 1, 1, 2, 1)])
        held = [balancer.connect(*VIP, "10.0.0.9") for _ in range(3)]
        assert [one is not None for one in held] == [True, True, False]
        assert balancer.services()[0]["destinations"][0]["overloaded"]


class TestTracking:
    """The connection table; that its picks are Linux's is held by native/core/tests/ipvs_golden.rs."""

    CLIENT, TARGET = ("10.0.0.9", 4000), ("10.96.0.1", 80)

    def send(self, table: ConnectionTable, flags: str, *, now: float = 0.0, reply: bool = False) -> str:
        return table.forward("TCP", self.CLIENT, self.TARGET, now=now, flags=flags, reply=reply, length=100)[0]

    def state(self, table: ConnectionTable) -> str:
        [row] = table.connections(0.0)
        return row[4]

    def test_a_connection_is_followed_from_its_first_packet_to_its_last(self) -> None:
        balancer = balancer_with([1, 2])
        table = ConnectionTable(balancer)
        states = []
        for flags, reply in [("S", False), ("S.", True), (".", False), ("F.", False), ("F.", True), (".", False)]:
            assert self.send(table, flags, reply=reply) == "carry"
            states.append(self.state(table))
        assert states == ["SYN_RECV", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "TIME_WAIT", "TIME_WAIT"]
        destination = balancer.services()[0]["destinations"][0]
        assert (destination["port"], destination["active"], destination["inactive"]) == (2, 0, 1)
        assert (destination["packets_in"], destination["bytes_out"]) == (4, 200)
        assert table.expire(120.0) == 0
        assert balancer.services()[0]["destinations"][0]["inactive"] == 0

    def test_packets_of_a_known_connection_go_where_the_first_went(self) -> None:
        table = ConnectionTable(balancer_with([1, 2, 3]))
        found = {table.forward("TCP", self.CLIENT, self.TARGET, now=1.0, flags=flags) for flags in ("S", ".", "P.")}
        assert found == {("carry", ("10.0.0.1", 3))}
        assert table.connections(1.0) == [("TCP", self.CLIENT, self.TARGET, ("10.0.0.1", 3), "ESTABLISHED", 900.0)]

    def test_what_is_no_service_s_is_passed_and_a_service_without_destinations_refuses(self) -> None:
        table = ConnectionTable(balancer_with([]))
        assert self.send(table, "S") == "refuse"
        assert self.send(table, ".") == "pass"
        assert table.forward("TCP", self.CLIENT, ("10.96.0.2", 80), now=0.0, flags="S") == ("pass", None)

    def test_packets_for_a_removed_destination_are_dropped_until_it_is_back(self) -> None:
        balancer = balancer_with([1])
        table = ConnectionTable(balancer)
        self.send(table, "S")
        balancer.set_destinations(*VIP, [])
        assert self.send(table, ".") == "drop"
        balancer.set_destinations(*VIP, [("10.0.0.1", 1, 1)])
        assert self.send(table, ".") == "carry"
        assert balancer.services()[0]["destinations"][0]["active"] == 1

    def test_a_service_by_firewall_mark_takes_any_address(self) -> None:
        balancer = Balancer()
        balancer.put_service("FWM", "", 7)
        balancer.set_destinations("FWM", "", 7, [("10.0.0.1", 0, 1)])
        table = ConnectionTable(balancer)
        for port in (80, 443):
            target = ("192.0.2.1", port)
            found = table.forward("TCP", self.CLIENT, target, now=0.0, flags="S", mark=7)
            assert found == ("carry", ("10.0.0.1", port))
        assert balancer.services()[0]["mark"] == 7

    def test_time_outs_hold_for_packets_to_come(self) -> None:
        balancer = Balancer()
        balancer.put_service("UDP", "10.96.0.1", 80)
        balancer.set_destinations("UDP", "10.96.0.1", 80, [("10.0.0.1", 1, 1)])
        table = ConnectionTable(balancer)
        table.set_timeouts(udp=5.0)
        table.forward("UDP", self.CLIENT, self.TARGET, now=0.0)
        assert (table.expire(4.9), table.expire(5.0)) == (1, 0)

    def test_unknown_flags_are_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown TCP flag 'X'"):
            self.send(ConnectionTable(balancer_with([1])), "SX")


class TestChanging:
    def test_changes_are_counted(self) -> None:
        balancer = balancer_with([1, 2])
        wanted = [("10.0.0.1", 2, 5), ("10.0.0.1", 3, 1), ("10.0.0.1", 4, 1)]
        assert balancer.set_destinations(*VIP, wanted) == (2, 1, 1)
        assert balancer.set_destinations(*VIP, wanted) == (0, 0, 0)

    def test_removed_services_are_gone(self) -> None:
        balancer = balancer_with([1])
        assert balancer.remove_service(*VIP)
        assert not balancer.remove_service(*VIP)
        assert len(balancer) == 0
        with pytest.raises(KeyError, match=r"TCP/10\.96\.0\.1:80"):
            balancer.pick(*VIP, "10.0.0.9")

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"scheduler": "fair"}, "unknown scheduler"), ({"persistence_seconds": -1}, "must be positive")],
    )
    def test_bad_options_are_refused(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Balancer().put_service(*VIP, **options)  # type: ignore[arg-type]

    def test_bad_addresses_protocols_and_weights_are_refused(self) -> None:
        balancer = balancer_with([])
        with pytest.raises(ValueError, match="not an IP address"):
            balancer.put_service("TCP", "example.org", 80)
        with pytest.raises(ValueError, match="unknown protocol"):
            balancer.put_service("ICMP", "10.96.0.1", 80)
        with pytest.raises(ValueError, match="weight"):
            balancer.set_destinations(*VIP, [("10.0.0.1", 1, 65536)])
