"""Plugins that look at one node: taints, cordons, names, host ports, scheduling gates."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.scheduler.events import node_added, node_changes, pod_changes, pod_removed
from kubecore.scheduler.framework import CycleState, Filter
from kubecore.scheduler.plugins.node_name import NodeName
from kubecore.scheduler.plugins.node_ports import NodePorts
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.plugins.scheduling_gates import SchedulingGates
from kubecore.scheduler.plugins.taint_toleration import TaintToleration
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import cache_of, container, info, node, node_info, taint


def refuses(plugin: Filter, pod: PodInfo, on: Any) -> str:
    return ", ".join(plugin.filter(CycleState(), pod, on))


class TestTaintsThatKeepPodsOff:
    REASON = "node(s) had untolerated taint(s)"

    def fits(self, tolerations: list[Object], *taints: Object) -> bool:
        found = refuses(TaintToleration(), info(tolerations=tolerations), node_info(taints=list(taints)))
        assert found in ("", self.REASON)
        return not found

    @pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
    def test_an_untolerated_taint_does(self, effect: str) -> None:
        assert not self.fits([], taint("key", "value", effect))

    def test_one_that_only_asks_to_prefer_others_does_not(self) -> None:
        assert self.fits([], taint("key", "value", "PreferNoSchedule"))

    @pytest.mark.parametrize(
        ("toleration", "fits"),
        [
            ({"key": "key", "operator": "Equal", "value": "value", "effect": "NoSchedule"}, True),
            ({"key": "key", "value": "value"}, True),
            ({"key": "key", "operator": "Equal", "value": "other"}, False),
            ({"key": "key", "operator": "Equal"}, False),
            ({"key": "key", "operator": "Exists"}, True),
            ({"key": "key", "operator": "Exists", "effect": "NoSchedule"}, True),
            ({"key": "key", "operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": "other", "operator": "Exists"}, False),
            ({"operator": "Exists"}, True),
            ({"operator": "Exists", "effect": "NoSchedule"}, True),
            ({"operator": "Exists", "effect": "PreferNoSchedule"}, False),
            # numeric comparison is behind a gate that is off in v1.35
            ({"key": "key", "operator": "Gt", "value": "value"}, False),
        ],
    )
    def test_a_toleration_matches_by_key_operator_value_and_effect(self, toleration: Object, fits: bool) -> None:
        assert self.fits([toleration], taint("key", "value")) is fits

    def test_a_taint_without_value_is_equal_to_no_value(self) -> None:
        assert self.fits([{"key": "key", "operator": "Equal"}], {"key": "key", "effect": "NoSchedule"})

    def test_every_taint_has_to_be_tolerated(self) -> None:
        one = [{"key": "a", "operator": "Exists"}]
        assert not self.fits(one, taint("a"), taint("b"))
        assert self.fits([*one, {"key": "b", "operator": "Exists"}], taint("a"), taint("b"))


class TestTaintsThatAreAvoided:
    def scores(self, tolerations: list[Object], *taints_of_nodes: list[Object]) -> list[int]:
        plugin, pod, state = TaintToleration(), info(tolerations=tolerations), CycleState()
        nodes = [node_info(f"n{number}", taints=taints) for number, taints in enumerate(taints_of_nodes)]
        if not plugin.pre_score(state, pod, nodes, cache_of()):
            return []
        return plugin.normalize(state, pod, [plugin.score(state, pod, one) for one in nodes], nodes)

    def test_fewer_untolerated_ones_are_better(self) -> None:
        a, b = taint("a", effect="PreferNoSchedule"), taint("b", effect="PreferNoSchedule")
        assert self.scores([], [], [a], [a, b]) == [100, 50, 0]

    def test_tolerated_ones_do_not_count(self) -> None:
        a = taint("a", effect="PreferNoSchedule")
        assert self.scores([{"key": "a", "operator": "Exists"}], [], [a]) == [100, 100]
        assert self.scores([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}], [], [a]) == [100, 0]

    def test_without_any_there_is_nothing_to_compare(self) -> None:
        assert self.scores([], [], [taint("a")]) == []


class TestWakingForTaints:
    plugin = TaintToleration()
    tainted, clean = node(taints=[taint("a")]), node()

    def test_a_node_that_comes_without_untolerated_taints_helps(self) -> None:
        assert self.plugin.helps(node_added(self.clean), info())
        assert not self.plugin.helps(node_added(self.tainted), info())
        assert self.plugin.helps(node_added(self.tainted), info(tolerations=[{"operator": "Exists"}]))

    def test_a_taint_that_goes_helps_whom_it_kept_off(self) -> None:
        (gone,) = node_changes(self.tainted, self.clean)
        assert self.plugin.helps(gone, info())
        assert not self.plugin.helps(gone, info(tolerations=[{"operator": "Exists"}]))
        (one_of_two,) = node_changes(node(taints=[taint("a"), taint("b")]), self.tainted)
        assert not self.plugin.helps(one_of_two, info())

    def test_a_new_toleration_helps_the_pod_that_got_it(self) -> None:
        (event,) = pod_changes(info(), info(tolerations=[{"operator": "Exists"}]))
        assert self.plugin.helps(event, info())
        assert not self.plugin.helps(event, info("other"))


class TestCordonedNodes:
    plugin = NodeUnschedulable()
    TOLERATED = [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]

    def test_they_take_no_pods(self) -> None:
        assert refuses(self.plugin, info(), node_info(unschedulable=True)) == "node(s) were unschedulable"
        assert not refuses(self.plugin, info(), node_info())

    def test_but_those_that_tolerate_the_taint_of_cordoned_nodes(self) -> None:
        assert not refuses(self.plugin, info(tolerations=self.TOLERATED), node_info(unschedulable=True))
        assert not refuses(self.plugin, info(tolerations=[{"operator": "Exists"}]), node_info(unschedulable=True))

    def test_uncordoning_helps(self) -> None:
        (event,) = node_changes(node(unschedulable=True), node())
        assert self.plugin.helps(event, info())

    def test_a_taint_that_goes_from_a_node_does_not(self) -> None:
        for cordoned in (True, False):
            (event,) = node_changes(node(taints=[taint("a")], unschedulable=cordoned), node(unschedulable=cordoned))
            assert not self.plugin.helps(event, info())

    def test_a_node_helps_that_comes_uncordoned(self) -> None:
        assert self.plugin.helps(node_added(node()), info())
        assert not self.plugin.helps(node_added(node(unschedulable=True)), info())

    def test_so_does_a_toleration_of_cordons_but_no_other(self) -> None:
        (right,) = pod_changes(info(), info(tolerations=self.TOLERATED))
        (wrong,) = pod_changes(info(), info(tolerations=[{"key": "a", "operator": "Exists"}]))
        assert self.plugin.helps(right, info())
        assert not self.plugin.helps(right, info("other"))
        assert not self.plugin.helps(wrong, info())


class TestNodeName:
    def test_a_pod_that_names_a_node_fits_there_alone(self) -> None:
        plugin = NodeName()
        assert not refuses(plugin, info(node="a"), node_info("a"))
        assert refuses(plugin, info(node="a"), node_info("b")) == "node(s) didn't match the requested node name"
        assert not refuses(plugin, info(), node_info("b"))


def with_port(number: int, *, ip: str = "", protocol: str = "", name: str = "p", node: str = "") -> PodInfo:
    port: Object = {"containerPort": 80, "hostPort": number}
    if ip:
        port["hostIP"] = ip
    if protocol:
        port["protocol"] = protocol
    return info(name, containers=[container(ports=[port])], node=node)


class TestHostPorts:
    plugin = NodePorts()

    def fits(self, wanted: PodInfo, taken: PodInfo) -> bool:
        found = refuses(self.plugin, wanted, node_info("n", taken))
        assert found in ("", "node(s) didn't have free ports for the requested pod ports")
        return not found

    def test_a_port_can_be_taken_once(self) -> None:
        assert not self.fits(with_port(8080), with_port(8080, name="other"))
        assert self.fits(with_port(8080), with_port(8081, name="other"))

    def test_each_protocol_has_ports_of_its_own(self) -> None:
        assert self.fits(with_port(53, protocol="UDP"), with_port(53, protocol="TCP", name="other"))
        assert not self.fits(with_port(53), with_port(53, protocol="TCP", name="other"))

    @pytest.mark.parametrize(
        ("wanted", "taken", "fits"),
        [
            ("127.0.0.1", "127.0.0.1", False),
            ("127.0.0.1", "127.0.0.2", True),
            ("127.0.0.1", "", False),
            ("", "127.0.0.1", False),
            ("0.0.0.0", "127.0.0.1", False),
            ("127.0.0.1", "0.0.0.0", False),
        ],
    )
    def test_a_port_on_all_addresses_conflicts_with_the_same_one_on_any(
        self, wanted: str, taken: str, fits: bool
    ) -> None:
        assert self.fits(with_port(80, ip=wanted), with_port(80, ip=taken, name="other")) is fits

    def test_a_pod_without_host_ports_is_not_asked_about(self) -> None:
        state = CycleState()
        self.plugin.pre_filter(state, info(), cache_of())
        assert state.skipped == {"NodePorts"}
        state = CycleState()
        self.plugin.pre_filter(state, with_port(80), cache_of())
        assert state.skipped == set()

    def test_a_pod_that_goes_helps_who_wants_its_port(self) -> None:
        gone = pod_removed(with_port(80, name="other", node="n"))
        assert self.plugin.helps(gone, with_port(80))
        assert not self.plugin.helps(gone, with_port(81))
        assert not self.plugin.helps(pod_removed(info("other", node="n")), with_port(80))
        assert self.plugin.helps(node_added(node()), with_port(80))


class TestSchedulingGates:
    def test_all_gates_are_named(self) -> None:
        gated = info(schedulingGates=[{"name": "a"}, {"name": "b"}])
        assert SchedulingGates().pre_enqueue(gated) == "waiting for scheduling gates: [a b]"

    def test_a_pod_without_gates_passes(self) -> None:
        assert SchedulingGates().pre_enqueue(info()) is None
        assert SchedulingGates().pre_enqueue(info(schedulingGates=[])) is None
