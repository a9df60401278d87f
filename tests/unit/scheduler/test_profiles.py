"""Which plugins run where, for which pods."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubecore.api.errors import StatusError
from kubecore.scheduler import plugins
from kubecore.scheduler.configuration import load
from kubecore.scheduler.framework import CycleState, Filter, PreScore, Score
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.plugins import BUILT_IN, Factory
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile
from kubecore.scheduler.profiles import DEFAULT_PLUGINS, Enabled, InvalidProfile, PluginSet, ProfileConfig, make_profile
from kubecore.scheduler.scheduler import SchedulerConfig
from tests.unit.scheduler.builders import taint
from tests.unit.scheduler.conftest import Running


class Both(Filter, Score):
    """Filters and scores; refuses nothing."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def filter(self, state: CycleState, pod: PodInfo, node: object) -> tuple[str, ...]:
        return ()

    def score(self, state: CycleState, pod: PodInfo, node: object) -> int:
        return 0


REGISTRY: dict[str, Factory] = {
    **{name: lambda handle, given, name=name: Both(name) for name in "ABCD"},  # type: ignore[misc]
    "PrioritySort": BUILT_IN["PrioritySort"],
    "DefaultBinder": BUILT_IN["DefaultBinder"],
}
NEEDED = (Enabled("PrioritySort"), Enabled("DefaultBinder"))


def unused_handle() -> Handle:
    """For plugins that use none of it."""
    unused: Any = None
    return Handle(**dict.fromkeys(Handle.__dataclass_fields__.keys() - {"profile"}, unused))


def made(multi_point: str = "", **points: PluginSet) -> Profile:
    config = ProfileConfig(multi_point=(*NEEDED, *map(Enabled, multi_point.split())), points=points)
    return make_profile(config, unused_handle(), REGISTRY)


def at(kind: type[Any], profile: Profile) -> str:
    return " ".join(one.name for one in profile.at(kind))


def enabled(*names: str, disabled: str = "") -> PluginSet:
    return PluginSet(tuple(map(Enabled, names)), frozenset(disabled.split()))


class TestExtensionPoints:
    def test_multi_point_enables_a_plugin_at_all_that_it_implements(self) -> None:
        profile = made("A B")
        assert (at(Filter, profile), at(Score, profile)) == ("A B", "A B")

    def test_one_can_disable_it_or_all(self) -> None:
        assert at(Filter, made("A B", filter=enabled(disabled="A"))) == "B"
        assert at(Filter, made("A B", filter=enabled("C", disabled="*"))) == "C"
        assert at(Score, made("A B", filter=enabled(disabled="*"))) == "A B"

    def test_one_can_order_them_anew_and_add_others(self) -> None:
        assert at(Filter, made("A B C", filter=enabled("D", "C", "A"))) == "C A B D"

    def test_weights_of_the_score_point_win(self) -> None:
        score = PluginSet((Enabled("A", 7),))
        profile = made("A B", score=score)
        assert [profile.weight(one) for one in profile.at(Score)] == [7, 1]

    def test_a_plugin_that_is_not_to_prepare_its_score_still_scores(self) -> None:
        profile = made("A B", preScore=enabled(disabled="A"))
        assert (at(PreScore, profile), at(Score, profile)) == ("B", "A B")
        assert at(PreScore, made("A B", preScore=enabled("C", disabled="*"))) == "C"

    def test_the_default_profile_has_kube_schedulers_plugins_and_weights(self) -> None:
        assert [one.name for one in DEFAULT_PLUGINS] == [
            "SchedulingGates",
            "PrioritySort",
            "NodeUnschedulable",
            "NodeName",
            "TaintToleration",
            "NodeAffinity",
            "NodePorts",
            "NodeResourcesFit",
            "VolumeRestrictions",
            "NodeVolumeLimits",
            "VolumeBinding",
            "VolumeZone",
            "PodTopologySpread",
            "InterPodAffinity",
            "DynamicResources",
            "DefaultPreemption",
            "NodeResourcesBalancedAllocation",
            "ImageLocality",
            "DefaultBinder",
        ]
        heavier = {one.name: one.weight for one in DEFAULT_PLUGINS if one.weight != 1}
        twice = dict.fromkeys(("NodeAffinity", "PodTopologySpread", "InterPodAffinity", "DynamicResources"), 2)
        assert heavier == {"TaintToleration": 3} | twice


class TestWhatCannotBe:
    WHERE = "initializing profiles: creating profile for scheduler name default-scheduler: "

    def refusal(self, multi_point: str = "", **points: PluginSet) -> str:
        """Without the profile's name."""
        with pytest.raises(InvalidProfile) as caught:
            made(multi_point, **points)
        return str(caught.value).removeprefix(self.WHERE)

    def test_the_profile_is_named(self) -> None:
        config = ProfileConfig(name="mine", multi_point=(Enabled("X"),))
        with pytest.raises(InvalidProfile) as caught:
            make_profile(config, unused_handle(), REGISTRY)
        told = 'creating profile for scheduler name mine: PreFilterPlugin "X" does not exist'
        assert str(caught.value) == f"initializing profiles: {told}"

    def test_words(self) -> None:
        assert self.refusal(filter=enabled("X")) == 'FilterPlugin "X" does not exist'
        assert self.refusal(permit=enabled("A")) == 'plugin "A" does not extend PermitPlugin plugin'
        assert self.refusal("A A") == 'plugin "A" already registered as "FilterPlugin"'
        assert self.refusal(bind=enabled(disabled="*")) == (
            'at least one bind plugin is needed for profile with scheduler name "default-scheduler"'
        )
        assert self.refusal(queueSort=enabled(disabled="*")) == (
            'only one queue sort plugin required for profile with scheduler name "default-scheduler", but got 0'
        )

    def test_a_plugin_that_cannot_be_made(self) -> None:
        def broken(*_: object) -> Any:
            raise ValueError("no such table")

        config = ProfileConfig(multi_point=(*NEEDED, Enabled("A")))
        with pytest.raises(InvalidProfile) as caught:
            make_profile(config, unused_handle(), {**REGISTRY, "A": broken})
        assert str(caught.value) == f'{self.WHERE}initializing plugin "A": no such table'

    def test_a_plugin_without_a_method_of_its_extension_point(self) -> None:
        class Unfinished(Filter):
            name = "A"

        config = ProfileConfig(multi_point=(*NEEDED, Enabled("A")))
        with pytest.raises(
            InvalidProfile, match=r"Can't instantiate abstract class Unfinished .* '?filter'?$"
        ) as caught:
            make_profile(config, unused_handle(), {**REGISTRY, "A": lambda *_: Unfinished()})  # type: ignore[abstract]
        assert str(caught.value).startswith(f'{self.WHERE}initializing plugin "A": ')


class TestInTheCluster:
    def config(self, text: str) -> SchedulerConfig:
        head = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
        return load(yaml.safe_dump({**head, **yaml.safe_load(text)}))

    async def test_each_pod_is_scheduled_by_the_profile_of_its_scheduler_name(self, cluster: Running) -> None:
        config = self.config("""
            profiles:
              - schedulerName: default-scheduler
              - schedulerName: anywhere
                plugins: {filter: {disabled: [{name: TaintToleration}]}}
        """)
        await cluster.start(config=config)
        await cluster.add_node("n", taints=[taint("a")])
        await cluster.add_pod("here", schedulerName="default-scheduler")
        await cluster.add_pod("there", schedulerName="anywhere")
        await cluster.add_pod("nowhere", schedulerName="unknown")
        assert cluster.bindings() == ["there n"]
        (event,) = [one for one in cluster.api.all("events") if one["reason"] == "Scheduled"]
        assert event["reportingComponent"] == "anywhere"

    async def test_a_pod_that_one_profile_refused_is_woken_by_that_profiles_plugins(self, cluster: Running) -> None:
        affinity = {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
            }
        }
        profile = ProfileConfig(arguments={"NodeAffinity": {"addedAffinity": affinity}})
        await cluster.start(config=SchedulerConfig(profiles=(profile,)))
        await cluster.add_node("n")
        await cluster.add_pod()
        assert "node(s) didn't match scheduler-enforced node affinity" in cluster.condition()["message"]
        cluster.api.change("nodes", "n", metadata={"labels": {"disk": "ssd"}})
        await cluster.clock.advance(2)
        assert cluster.node_of() == "n"

    async def test_a_strategy_packs_nodes(self, cluster: Running) -> None:
        await cluster.start(
            config=self.config("""
            profiles:
              - pluginConfig:
                  - name: NodeResourcesFit
                    args: {scoringStrategy: {type: MostAllocated}}
                plugins: {score: {disabled: [{name: NodeResourcesBalancedAllocation}]}}
            """)
        )
        await cluster.add_node("a")
        await cluster.add_pod("first", requests={"cpu": "1"})
        await cluster.add_node("b")
        await cluster.add_pod("second", requests={"cpu": "1"})
        assert cluster.node_of("second") == "a"

    async def test_default_constraints_hold_for_pods_without_any(self, cluster: Running) -> None:
        await cluster.start(
            config=self.config("""
            profiles:
              - pluginConfig:
                  - name: PodTopologySpread
                    args:
                      defaultingType: List
                      defaultConstraints:
                        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule}
            """)
        )
        cluster.api.add("services", {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}})
        await cluster.add_node("a")
        await cluster.add_node("b", unschedulable=True)
        await cluster.add_pod("first", labels={"app": "web"})
        await cluster.add_pod("second", labels={"app": "web"})
        assert cluster.node_of("first") == "a"
        assert "node(s) didn't match pod topology spread constraints" in cluster.condition("second")["message"]

    async def test_back_off_is_as_configured(self, cluster: Running) -> None:
        await cluster.start(config=self.config("podInitialBackoffSeconds: 5\npodMaxBackoffSeconds: 5"))
        await cluster.add_node("n")
        cluster.api.react("create pods/binding", StatusError(500, "InternalError", "no"))
        await cluster.add_pod()
        await cluster.clock.advance(4)
        assert not cluster.node_of()
        await cluster.clock.advance(2)
        assert cluster.node_of() == "n"


def test_plugins_of_other_packages_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "Mine"

        def load(self) -> Factory:
            return lambda handle, given: Both(str(given["called"]))

    def found(*, group: str) -> list[Point]:
        return [Point()] if group == "kubecore.scheduler.plugins" else []

    monkeypatch.setattr(plugins, "entry_points", found)
    assert plugins.installed(["NodeName"]).keys() == BUILT_IN.keys()
    registry = plugins.installed(["NodeName", "Mine"])
    assert registry.keys() == {*BUILT_IN, "Mine"}
    unused: Any = None
    assert registry["Mine"](unused, {"called": "so"}).name == "so"


async def test_the_example_of_a_plugin_works_as_it_says(cluster: Running) -> None:
    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "scheduler_plugin.py"))
    given = example["__doc__"].partition("reads:\n")[2]
    await cluster.start(config=load(given), registry={"OwnersNodes": example["make"]})
    await cluster.add_node("theirs", labels={"example.com/owner": "them"})
    await cluster.add_pod("mine", labels={"example.com/owner": "me"})
    assert "1 node(s) belonged to another owner." in cluster.condition("mine")["message"]
    cluster.api.change("nodes", "theirs", metadata={"labels": {"example.com/owner": "me"}})
    await cluster.clock.advance(2)
    assert cluster.node_of("mine") == "theirs"
