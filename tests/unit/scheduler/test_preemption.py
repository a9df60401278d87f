"""Which pods have to go for one of higher priority, and where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import CycleState, PreFilter
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.nominations import Nominations
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate, dry_run, least_harmful, select_victims, split_by_budgets
from kubecore.scheduler.profile import Profile
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import cache_of, info, node, node_info, pod

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def runs(name: str, cpu: str = "1", *, priority: int = 0, hour: int = 1, **fields: Any) -> PodInfo:
    status = {"phase": "Running", "startTime": f"2026-01-01T{hour:02}:00:00Z"}
    return info(name, requests={"cpu": cpu}, priority=priority, node="n", status=status, **fields)


def budget(allowed: int, labels: dict[str, str] | None = None, **fields: Any) -> Object:
    spec: Object = {} if labels is None else {"selector": {"matchLabels": labels}}
    status = {"disruptionsAllowed": allowed, **fields}
    return {"metadata": {"name": "b", "namespace": "default"}, "spec": spec, "status": status}


def victims(wanted: PodInfo, on: NodeInfo, *budgets: Object, nominations: Nominations | None = None) -> str:
    """Their names, most important first, and how many budgets are violated; or why there are none."""
    found = select_victims(
        NodeFilter(Profile.of([NodeResourcesFit()])),
        CycleState(),
        wanted,
        on,
        budgets=budgets,
        nominations=nominations or Nominations(),
        now=NOW,
    )
    if not isinstance(found, Candidate):
        return ", ".join(found)
    names = " ".join(one.key.removeprefix("default/") for one in found.victims)
    return f"{names} ({found.violations})" if found.violations else names


class TestVictims:
    def test_only_pods_of_lower_priority_go(self) -> None:
        on = node_info("n", runs("low", "2"), runs("same", "2", priority=5))
        assert victims(info(requests={"cpu": "2"}, priority=5), on) == "low"
        assert victims(info(requests={"cpu": "3"}, priority=5), on) == "Insufficient cpu"
        assert victims(info(requests={"cpu": "2"}), on) == "No preemption victims found for incoming pod"

    def test_no_more_than_need_to(self) -> None:
        on = node_info("n", runs("a", hour=1), runs("b", hour=2), runs("c", hour=3), runs("d", hour=4))
        assert victims(info(requests={"cpu": "2"}, priority=9), on) == "c d"

    def test_the_important_ones_stay_if_they_can(self) -> None:
        on = node_info("n", runs("low", "2", priority=1), runs("middle", "2", priority=2))
        assert victims(info(requests={"cpu": "2"}, priority=9), on) == "low"

    def test_a_large_important_one_goes_when_small_ones_do_not_do(self) -> None:
        on = node_info("n", runs("small", "1", priority=1), runs("large", "3", priority=2))
        assert victims(info(requests={"cpu": "3"}, priority=9), on) == "large"

    def test_one_that_has_not_started_is_less_important_than_those_that_have(self) -> None:
        on = node_info("n", runs("old", "2", hour=1), info("new", requests={"cpu": "2"}, node="n"))
        assert victims(info(requests={"cpu": "2"}, priority=9), on) == "new"

    def test_those_that_budgets_protect_stay_if_they_can(self) -> None:
        on = node_info("n", runs("kept", "2", labels={"app": "a"}, hour=9), runs("other", "2", priority=3))
        assert victims(info(requests={"cpu": "2"}, priority=9), on, budget(0, {"app": "a"})) == "other"

    def test_violated_budgets_are_counted(self) -> None:
        on = node_info("n", runs("a", "2", labels={"app": "a"}), runs("b", "2", labels={"app": "a"}, hour=2))
        assert victims(info(requests={"cpu": "4"}, priority=9), on, budget(1, {"app": "a"})) == "a b (1)"
        assert victims(info(requests={"cpu": "4"}, priority=9), on, budget(2, {"app": "a"})) == "a b"

    def test_room_for_nominated_pods_is_not_given_away(self) -> None:
        on, nominations = node_info("n", runs("low", "2")), Nominations()
        nominations.put(info("first", requests={"cpu": "2"}, priority=9), "n")
        wanted = info(requests={"cpu": "2"}, priority=9)
        assert victims(wanted, on, nominations=nominations) == "low"
        nominations.put(info("second", requests={"cpu": "2"}, priority=9), "n")
        assert victims(wanted, on, nominations=nominations) == "Insufficient cpu"

    def test_the_node_stays_as_it_was(self) -> None:
        on = node_info("n", runs("low", "4"))
        victims(info(requests={"cpu": "2"}, priority=9), on)
        assert on.requested == {"cpu": 4000} and list(on.pods) == ["default/low"]

    def test_plugins_that_counted_beforehand_count_again(self) -> None:
        spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        spread["labelSelector"] = {"matchLabels": {"app": "a"}}
        zones = [node("n", labels={"zone": "a"}), node("m", labels={"zone": "b"})]
        cache = cache_of(*zones, pods=[pod("p1", labels={"app": "a"}, node="n", priority=0)])
        plugin, state = PodTopologySpread(FakeAPI(VirtualClock()).informers()), CycleState()
        wanted = info(labels={"app": "a"}, priority=9, topologySpreadConstraints=[spread])
        assert isinstance(plugin, PreFilter)
        plugin.pre_filter(state, wanted, cache)
        on = cache.node("n")
        assert on is not None and plugin.filter(state, wanted, on)
        found = select_victims(
            NodeFilter(Profile.of([plugin])), state, wanted, on, budgets=[], nominations=Nominations(), now=NOW
        )
        assert isinstance(found, Candidate) and [one.key for one in found.victims] == ["default/p1"]
        assert plugin.filter(state, wanted, on)


class TestBudgets:
    pods = (info("a", labels={"app": "a"}), info("b", labels={"app": "a"}), info("c", labels={"app": "c"}))

    def protected(self, *budgets: Object) -> str:
        violating, others = split_by_budgets(self.pods, budgets)
        assert {one.key for one in violating} | {one.key for one in others} == {one.key for one in self.pods}
        return " ".join(one.key.removeprefix("default/") for one in violating)

    def test_each_lets_so_many_go_and_protects_the_next(self) -> None:
        assert self.protected(budget(0, {"app": "a"})) == "a b"
        assert self.protected(budget(1, {"app": "a"})) == "b"
        assert self.protected(budget(2, {"app": "a"})) == ""

    def test_one_pod_may_be_in_several(self) -> None:
        assert self.protected(budget(2, {"app": "a"}), budget(0, {"app": "a"})) == "a b"

    def test_what_the_api_server_has_counted_is_not_counted_again(self) -> None:
        gone = {"a": "2026-01-01T00:00:00Z"}
        assert self.protected(budget(0, {"app": "a"}, disruptedPods=gone)) == "b"

    def test_an_empty_selector_and_none_choose_nothing(self) -> None:
        assert self.protected(budget(0), budget(0, {})) == ""

    def test_those_of_other_namespaces_do_not_count(self) -> None:
        other = budget(0, {"app": "a"})
        other["metadata"]["namespace"] = "other"
        assert self.protected(other) == ""


class TestTheChoice:
    def chosen(self, *candidates: Candidate) -> str:
        return least_harmful(candidates, NOW).node

    def test_fewest_violated_budgets_first(self) -> None:
        low, high = runs("low"), runs("high", priority=8)
        assert self.chosen(Candidate("a", (low,), 1), Candidate("b", (high,), 0)) == "b"

    def test_then_the_lowest_priority_of_the_most_important_victim(self) -> None:
        a, b = (runs("a", priority=5),), (runs("b", priority=4), runs("c", priority=4))
        assert self.chosen(Candidate("a", a), Candidate("b", b)) == "b"

    def test_then_the_smallest_sum_of_priorities(self) -> None:
        a, b = (runs("a", priority=5), runs("x", priority=3)), (runs("b", priority=5), runs("y", priority=2))
        assert self.chosen(Candidate("a", a), Candidate("b", b)) == "b"

    def test_more_pods_of_a_negative_priority_are_not_better(self) -> None:
        a, b = (runs("a", priority=-5), runs("x", priority=-5)), (runs("b", priority=-5),)
        assert self.chosen(Candidate("a", a), Candidate("b", b)) == "b"

    def test_then_those_that_started_last(self) -> None:
        a, b = (runs("a", hour=3), runs("x", hour=9)), (runs("b", hour=4), runs("y", hour=5))
        assert self.chosen(Candidate("a", a), Candidate("b", b)) == "b"

    def test_the_first_of_equals(self) -> None:
        assert self.chosen(Candidate("a", (runs("a"),)), Candidate("b", (runs("b"),))) == "a"


class TestHowManyAreTried:
    nodes = tuple(node_info(name) for name in "abcde")

    def tried(self, *, start: int = 0, enough: int = 2, violating: str = "", none: str = "") -> tuple[str, str]:
        """Nodes that were looked at, and the candidates."""
        seen: list[str] = []

        def attempt(one: NodeInfo) -> Candidate | tuple[str, ...]:
            seen.append(one.name)
            return ("no",) if one.name in none else Candidate(one.name, (runs("x"),), int(one.name in violating))

        found, _ = dry_run(self.nodes, attempt, start=start, enough=enough)
        return "".join(seen), "".join(one.node for one in found)

    def test_until_there_are_enough_candidates(self) -> None:
        assert self.tried() == ("ab", "ab")
        assert self.tried(none="ac") == ("abcd", "bd")

    def test_from_some_node_on_and_round(self) -> None:
        assert self.tried(start=4) == ("ea", "ea")

    def test_and_one_of_them_violates_no_budget(self) -> None:
        assert self.tried(violating="abc") == ("abcd", "dab")
        assert self.tried(violating="abcde") == ("abcde", "ab")
