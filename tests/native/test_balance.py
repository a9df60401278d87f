"""The balancer as Python sees it; its algorithms are specified in native/core/src/balance/tests.rs."""

import pytest

from kubecore._native import Balancer, schedulers

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
