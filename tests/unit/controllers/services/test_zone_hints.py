"""Hints by zone, as the annotation `service.kubernetes.io/topology-mode: Auto` asks for them."""

from __future__ import annotations

from collections import Counter

import pytest

from kubecore.client.client import Object
from kubecore.controllers.services import zone_hints
from kubecore.controllers.services.endpointslice import EndpointSliceController
from kubecore.controllers.services.slice_writes import SLICES
from kubecore.controllers.services.zone_hints import Unsuitable, allocate
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events
from tests.unit.controllers.services.test_endpoints import pod, service

AUTO = {"service.kubernetes.io/topology-mode": "Auto"}
ZONES = ("a", "b", "c")
NOT_ENOUGH = "Insufficient number of endpoints (2 endpoints, 3 zones), addressType: IPv4"


def node(zone: str, cpu: str = "4", *, ready: bool = True, role: str = "") -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    labels = {"topology.kubernetes.io/zone": zone, **({f"node-role.kubernetes.io/{role}": ""} if role else {})}
    metadata = {"name": f"n-{zone}", "labels": labels}
    return {"metadata": metadata, "spec": {}, "status": {"allocatable": {"cpu": cpu}, "conditions": conditions}}


class World:
    """A Service and its pods, on a node in each of the zones."""

    def __init__(self, api: FakeAPI, running: Running) -> None:
        self.api, self.running = api, running

    async def start(self, pods: str, *, annotations: Object = AUTO, nodes: tuple[Object, ...] = ()) -> None:
        """`pods` has a letter, the zone, for each."""
        for one in nodes or tuple(map(node, ZONES)):
            self.api.add("nodes", one)
        web = service()
        web["metadata"]["annotations"] = dict(annotations)
        self.api.add("services", web)
        self.add(pods)
        await self.running.start(EndpointSliceController(self.running.context))

    def add(self, pods: str) -> None:
        for zone in pods:
            number = len(self.api.all("pods")) + 1
            self.api.add("pods", pod(f"p{number:03}", f"10.0.0.{number}", nodeName=f"n-{zone}"))

    def meant(self) -> dict[str, int]:
        """How many endpoints are meant for which zone; "" for all."""
        found: Counter[str] = Counter()
        for one in self.api.all(SLICES):
            for endpoint in one["endpoints"]:
                found.update(hint["name"] for hint in endpoint.get("hints", {"forZones": [{"name": ""}]})["forZones"])
        return dict(found)

    def told(self) -> list[tuple[str, str]]:
        return [(one["reason"], one["message"]) for one in self.api.all("events")]


@pytest.fixture
def world(api: FakeAPI, running: Running) -> World:
    return World(api, running)


class TestAllocation:
    def test_zones_get_endpoints_by_their_cpu(self) -> None:
        shares = allocate({"a": 0.5, "b": 0.3, "c": 0.2}, 20)
        assert {zone: one.desired for zone, one in shares.items()} == {"a": 10, "b": 6, "c": 4}

    def test_no_endpoint_bears_more_than_a_fifth_above_its_share(self) -> None:
        shares = allocate({"a": 0.5, "b": 0.3, "c": 0.2}, 20)
        assert {zone: (one.minimum, one.maximum) for zone, one in shares.items()} == {
            "a": (9, 11),
            "b": (5, 7),
            "c": (4, 6),
        }

    @pytest.mark.parametrize(
        ("ratios", "endpoints", "why"),
        [
            (None, 9, zone_hints.INSUFFICIENT_NODES),
            ({"a": 0.5, "b": 0.5}, 1, "Insufficient number of endpoints (1 endpoints, 2 zones)"),
            ({"a": 0.5, "b": 0.5}, 0, "Insufficient number of endpoints (0 endpoints, 2 zones)"),
            (
                {"a": 0.5, "b": 0.5},
                3,
                "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold "
                "(3 endpoints, 2 zones)",
            ),
        ],
    )
    def test_where_it_would_do_harm_there_is_none(
        self, ratios: dict[str, float] | None, endpoints: int, why: str
    ) -> None:
        with pytest.raises(Unsuitable) as found:
            allocate(ratios, endpoints)
        assert str(found.value) == why


class TestGiving:
    @pytest.mark.parametrize(
        "annotations",
        [AUTO, {"service.kubernetes.io/topology-mode": "auto"}, {"service.kubernetes.io/topology-aware-hints": "auto"}],
    )
    async def test_endpoints_are_meant_for_their_own_zone(self, world: World, annotations: Object) -> None:
        await world.start("aabbcc", annotations=annotations)
        assert world.meant() == {"a": 2, "b": 2, "c": 2}
        assert world.told() == [
            ("TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled, addressType: IPv4")
        ]

    @pytest.mark.parametrize(
        "annotations",
        [{}, {"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "off"}],
    )
    async def test_without_the_annotation_they_are_for_all(self, world: World, annotations: Object) -> None:
        await world.start("aabbcc", annotations=annotations)
        assert (world.meant(), world.told()) == ({"": 6}, [])

    async def test_zones_that_have_more_than_their_share_lend_some(self, world: World) -> None:
        await world.start("aaaabc")
        assert world.meant() == {"a": 2, "b": 2, "c": 2}

    async def test_it_comes_before_the_traffic_distribution(self, world: World) -> None:
        world.api.add(
            "services",
            {**service(trafficDistribution="PreferSameZone"), "metadata": {"name": "web", "annotations": AUTO}},
        )
        for zone in ZONES:
            world.api.add("nodes", node(zone))
        world.add("aaaabc")
        await world.running.start(EndpointSliceController(world.running.context))
        assert world.meant() == {"a": 2, "b": 2, "c": 2}

    async def test_endpoints_that_are_not_ready_are_for_nobody(self, world: World) -> None:
        world.api.add("pods", pod("late", "10.0.0.99", ready=False, nodeName="n-a"))
        await world.start("aabbcc")
        assert world.meant() == {"a": 2, "b": 2, "c": 2, "": 1}

    async def test_nodes_that_are_not_ready_or_control_planes_do_not_count(self, world: World) -> None:
        spare = node("d", "64", ready=False), node("e", "64", role="control-plane")
        await world.start("aabbcc", nodes=(*map(node, ZONES), *spare))
        assert world.meant() == {"a": 2, "b": 2, "c": 2}


class TestDoingWithout:
    async def test_too_few_endpoints(self, world: World) -> None:
        await world.start("ab")
        assert world.meant() == {"": 2}
        assert world.told() == [("TopologyAwareHintsDisabled", NOT_ENOUGH)]

    async def test_a_node_without_a_zone(self, world: World) -> None:
        stray = {**node("a"), "metadata": {"name": "stray"}}
        await world.start("aabbcc", nodes=(*map(node, ZONES), stray))
        assert world.meant() == {"": 6}
        assert world.told()[0][1] == f"{zone_hints.INSUFFICIENT_NODES}, addressType: IPv4"

    async def test_an_endpoint_without_a_zone(self, world: World) -> None:
        world.api.add("pods", pod("lost", "10.0.0.99", nodeName=""))
        await world.start("aabbcc")
        assert world.meant() == {"": 7}
        assert world.told()[0][1] == f"{zone_hints.NO_ZONE}, addressType: IPv4"

    async def test_hints_that_were_there_go(self, world: World) -> None:
        await world.start("abc")
        assert world.meant() == {"a": 1, "b": 1, "c": 1}
        world.api.remove("pods", "p003")
        await world.running.settle()
        assert world.meant() == {"": 2}
        assert events(world.api, "TopologyAwareHintsDisabled") == [NOT_ENOUGH]

    async def test_so_they_do_with_the_annotation(self, world: World) -> None:
        await world.start("abc")
        world.api.change(
            "services", "web", metadata={"annotations": {"service.kubernetes.io/topology-mode": "Disabled"}}
        )
        await world.running.settle()
        assert world.meant() == {"": 3}
        assert events(world.api, "TopologyAwareHintsDisabled") == [
            "Topology Aware Hints has been disabled, addressType: IPv4"
        ]


class TestChanges:
    async def test_another_pod_is_for_its_own_zone_as_long_as_that_is_fair(self, world: World) -> None:
        await world.start("aabbcc")
        world.add("a")
        await world.running.settle()
        assert world.meant() == {"a": 3, "b": 2, "c": 2}

    async def test_a_zone_that_grows_takes_endpoints_of_others(self, world: World) -> None:
        await world.start("aaabbbccc")
        world.api.change("nodes", "n-a", status={"allocatable": {"cpu": "12"}})
        await world.running.settle()
        assert world.meant() == {"a": 5, "b": 2, "c": 2}

    async def test_nodes_that_change_nothing_of_it_leave_the_slices_alone(self, world: World) -> None:
        await world.start("aabbcc")
        before = world.api.all(SLICES)
        world.api.change("nodes", "n-a", status={"capacity": {"pods": "99"}})
        world.api.change("nodes", "n-b", status={"allocatable": {"cpu": "4200m"}})
        await world.running.settle()
        assert world.api.all(SLICES) == before

    async def test_endpoints_of_a_zone_that_has_no_node_left_stay_its_own(self, world: World) -> None:
        await world.start("aabbcc")
        before = world.api.all(SLICES)
        world.api.change("nodes", "n-c", status={"conditions": [{"type": "Ready", "status": "False"}]})
        await world.running.settle()
        assert world.api.all(SLICES) == before
