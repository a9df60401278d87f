"""How fast pods are taken from lost nodes, by how many of their zone are lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.nodes.disruption_zones import DisruptionZones, EvictionRates
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running
from tests.unit.controllers.nodes.test_nodes import (
    NOT_READY,
    UNREACHABLE,
    add_node,
    heartbeats,
    ready_of,
    start,
    taints,
)


def add_nodes(api: FakeAPI, count: int, *, zone: str = "", first: int = 0) -> list[str]:
    made = [f"n{index}" for index in range(first, first + count)]
    for name in made:
        add_node(api, name)
        if zone:
            api.change("nodes", name, metadata={"labels": {"topology.kubernetes.io/zone": zone}})
    return made


def left(api: FakeAPI, names: Sequence[str]) -> list[str]:
    """The nodes that pods have to leave."""
    return [name for name in names if any(effect == "NoExecute" for _, effect in taints(api, name))]


def speak(api: FakeAPI, clock: VirtualClock, name: str) -> None:
    told = {"type": "Ready", "status": "True", "lastHeartbeatTime": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")}
    api.change("nodes", name, status={"conditions": [told]})


async def test_nodes_that_are_lost_together_are_left_one_every_ten_seconds(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    nodes = add_nodes(api, 5)
    await start(running)
    await heartbeats(api, clock, 51, of=nodes[2:])
    await clock.advance(2)
    assert len(left(api, nodes)) == 1
    assert all((UNREACHABLE, "NoSchedule") in taints(api, name) for name in nodes[:2])
    await clock.advance(8)
    assert left(api, nodes) == nodes[:2]


async def test_no_node_is_left_when_none_is_ready(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    nodes = add_nodes(api, 2)
    await start(running)
    await clock.advance(200)
    assert all(taints(api, name) == {(UNREACHABLE, "NoSchedule")} for name in nodes)
    speak(api, clock, "n1")
    await clock.advance(11)
    assert left(api, nodes) == ["n0"] and taints(api, "n1") == set()


async def test_a_node_that_was_left_may_keep_new_pods_when_the_last_one_is_lost(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    nodes = add_nodes(api, 2)
    await start(running)
    await heartbeats(api, clock, 60, of=["n1"])
    assert left(api, nodes) == ["n0"]
    await clock.advance(60)
    assert left(api, nodes) == [] and ready_of(api.get("nodes", "n1")) == "Unknown"


async def test_nodes_have_time_anew_when_the_first_is_heard_again(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_nodes(api, 2)
    for name in ("n0", "n1"):
        api.change("nodes", name, status={"conditions": [{"type": "Ready", "status": "False"}]})
    await start(running)
    await clock.advance(40)
    speak(api, clock, "n1")
    await clock.advance(40)
    assert ready_of(api.get("nodes", "n0")) == "False"
    await clock.advance(11)
    assert ready_of(api.get("nodes", "n0")) == "Unknown"


async def test_most_nodes_of_a_small_zone_are_not_left_when_they_are_lost_together(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    nodes = add_nodes(api, 6)
    await start(running)
    await heartbeats(api, clock, 120, of=nodes[4:])
    # the first of them, before the others were known to be lost
    assert len(left(api, nodes)) == 1
    speak(api, clock, next(name for name in nodes[:4] if name not in left(api, nodes)))
    await heartbeats(api, clock, 20, of=nodes[4:])
    assert len(left(api, nodes)) == 3


async def test_each_zone_is_judged_by_its_own_nodes(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    well, lost = add_nodes(api, 2, zone="a"), add_nodes(api, 2, zone="b", first=2)
    await start(running)
    await heartbeats(api, clock, 70, of=well)
    # no node of zone b is ready, but others are: it is not the control plane that cannot hear them
    assert left(api, [*well, *lost]) == lost


async def test_a_node_that_pods_leave_already_has_the_taint_of_what_it_is_now_at_once(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    nodes = add_nodes(api, 5)
    for name in nodes[:2]:
        api.change("nodes", name, status={"conditions": [{"type": "Ready", "status": "False"}]})
    await start(running)
    await heartbeats(api, clock, 20, of=nodes[2:])
    assert left(api, nodes) == nodes[:2] and (NOT_READY, "NoExecute") in taints(api, "n0")
    await heartbeats(api, clock, 40, of=nodes[2:])
    for name in nodes[:2]:
        assert taints(api, name) == {(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")}


async def test_a_taint_that_could_not_be_written_is_tried_again_without_another_turn(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    nodes = add_nodes(api, 2)
    await start(running)
    await heartbeats(api, clock, 40, of=["n1"])
    api.react("patch nodes", errors.internal_error("no"), times=1)
    await heartbeats(api, clock, 10, of=["n1"])
    await clock.advance(3)
    assert left(api, nodes) == ["n0"]


async def test_a_node_that_never_said_how_it_is_may_take_a_minute(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add("nodes", {"metadata": {"name": "n1"}, "spec": {}, "status": {}})
    await start(running)
    await clock.advance(58)
    assert not api.get("nodes", "n1")["status"].get("conditions")  # type: ignore[index]
    await clock.advance(2)
    told = api.get("nodes", "n1")["status"]["conditions"]  # type: ignore[index]
    assert {(one["status"], one["reason"]) for one in told} == {("Unknown", "NodeStatusNeverUpdated")}


# ---------------------------------------------------------------------- rates
def node(name: str, *, ready: bool, **labels: str) -> Object:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


def zones_of(ready: int, lost: int, **rates: float) -> tuple[DisruptionZones, list[Object]]:
    zones = DisruptionZones(EvictionRates(**rates))  # type: ignore[arg-type]
    gone = [node(f"lost-{index}", ready=False) for index in range(lost)]
    for one in [*(node(f"ready-{index}", ready=True) for index in range(ready)), *gone]:
        zones.see(one, 0.0)
    return zones, gone


def test_a_large_zone_that_is_unhealthy_is_left_slowly() -> None:
    zones, (first, second, *_) = zones_of(2, 4, large=5)
    assert zones.may_evict(first, 0.0) == 0.0
    assert zones.may_evict(second, 0.0) == pytest.approx(100)
    assert zones.may_evict(second, 60.0) == pytest.approx(40)
    assert zones.may_evict(second, 100.0) == 0.0


def test_nodes_have_their_turn_in_the_order_in_which_they_asked() -> None:
    zones, (first, second, third) = zones_of(9, 3)
    assert zones.may_evict(first, 0.0) == 0.0
    assert zones.may_evict(second, 0.0) == pytest.approx(10) and zones.may_evict(third, 0.0) is None
    assert zones.may_evict(third, 10.0) is None and zones.turns() == ["lost-1"]
    assert zones.settle("lost-1")
    assert zones.turns() == ["lost-2"] and zones.may_evict(third, 10.0) == 0.0


def test_nodes_that_are_excluded_from_disruption_checks_do_not_count() -> None:
    zones, (first, *_) = zones_of(0, 2)
    assert zones.all_disrupted
    excluded = {"node.kubernetes.io/exclude-disruption": ""}
    assert not zones.see(node("other", ready=True, **excluded), 0.0) and zones.all_disrupted
    assert zones.may_evict(first, 0.0) is None


def test_a_zone_is_healthy_again_when_a_lost_node_is_gone_for_good() -> None:
    zones, (first, *_) = zones_of(2, 3)
    assert zones.may_evict(first, 0.0) is None
    assert zones.forget("lost-1", 1.0) and zones.may_evict(first, 1.0) == 0.0
