"""Which slices change when endpoints come and go."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.client.client import Object
from kubecore.controllers.services.slice_planning import Endpoint, Group, Plan, plan

PORTS = [{"name": "http", "port": 80, "protocol": "TCP"}]
LABELS = {"kubernetes.io/service-name": "web"}


def endpoints(first: int, count: int) -> list[Endpoint]:
    return [
        {"addresses": [f"10.0.{n // 250}.{n % 250}"], "targetRef": {"uid": f"{n}"}} for n in range(first, first + count)
    ]


def slices(*sizes: int, kind: str = "IPv4") -> list[Object]:
    """Slices of these sizes, of endpoints that are numbered through them."""
    found = []
    for index, size in enumerate(sizes):
        metadata = {"name": f"web-{index}", "labels": LABELS, "ownerReferences": [{"uid": "owner"}]}
        filled = endpoints(sum(sizes[:index]), size)
        found.append({"metadata": metadata, "addressType": kind, "ports": PORTS, "endpoints": filled})
    return found


def planned(wanted: Sequence[Endpoint], existing: list[Object]) -> Plan:
    return plan([Group("IPv4", PORTS, list(wanted))], existing, LABELS, owner="owner")


def sizes(changes: Plan) -> dict[str, int]:
    """Of the slices that change, by name."""
    return {one["metadata"]["name"]: len(one["endpoints"]) for one in changes.update}


def test_new_endpoints_go_into_the_one_slice_that_they_fill_most() -> None:
    changes = planned(endpoints(0, 170), slices(80, 60, 20))
    assert sizes(changes) == {"web-0": 90} and not changes.create and not changes.delete


def test_new_endpoints_that_fit_into_no_one_slice_have_a_new_one() -> None:
    """Filling up all that have room would send all of these slices to every node."""
    changes = planned(endpoints(0, 255), slices(80, 70, 65))
    assert sizes(changes) == {} and [len(one["endpoints"]) for one in changes.create] == [40]
    changes = planned(endpoints(0, 330), slices(90, 80))
    assert sizes(changes) == {} and [len(one["endpoints"]) for one in changes.create] == [100, 60]


def test_what_is_left_over_of_new_slices_goes_where_it_fits() -> None:
    changes = planned(endpoints(0, 195), slices(90))
    assert sizes(changes) == {"web-0": 95} and [len(one["endpoints"]) for one in changes.create] == [100]


def test_slices_that_change_anyhow_are_filled_first_and_the_fullest_of_them_before_others() -> None:
    existing = slices(50, 90, 30)
    # one goes from each of the first two, and 21 come
    wanted = [*endpoints(1, 49), *endpoints(51, 89), *endpoints(140, 30), *endpoints(500, 21)]
    assert sizes(planned(wanted, existing)) == {"web-0": 59, "web-1": 100}


def test_a_slice_that_loses_all_its_endpoints_takes_new_ones_under_its_name() -> None:
    changes = planned(endpoints(500, 3), slices(2))
    assert sizes(changes) == {"web-0": 3} and not changes.create and not changes.delete


def test_of_several_empty_slices_one_is_kept() -> None:
    changes = plan([Group("IPv4", PORTS)], slices(0, 0, 0), LABELS, owner="owner")
    assert [one["metadata"]["name"] for one in changes.delete] == ["web-1", "web-2"]
    assert not changes.create and not changes.update


def test_a_slice_takes_the_place_of_none_of_another_family() -> None:
    changes = planned(endpoints(0, 2), slices(2, kind="IPv6"))
    assert [one["addressType"] for one in changes.delete] == ["IPv6"]
    assert [one["addressType"] for one in changes.create] == ["IPv4"]


def test_what_is_anothers_is_not_reused() -> None:
    existing = slices(2)
    existing[0]["metadata"]["ownerReferences"] = [{"uid": "earlier"}]
    changes = planned(endpoints(0, 2), existing)
    assert changes.delete == existing and len(changes.create) == 1 and not changes.update
