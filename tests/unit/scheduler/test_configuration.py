"""KubeSchedulerConfiguration: what it can say, and kube-scheduler's words for what it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.scheduler.configuration import load
from kubecore.scheduler.profiles import Enabled, PluginSet, ProfileConfig
from kubecore.scheduler.scheduler import SchedulerConfig

HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def read(**fields: Any) -> SchedulerConfig:
    return load(yaml.safe_dump({**HEAD, **fields}))


def profile(**fields: Any) -> ProfileConfig:
    (found,) = read(profiles=[fields]).profiles
    return found


def refusal(**fields: Any) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        read(**fields)
    return str(caught.value)


def args_refusal(plugin: str, **args: Any) -> str:
    """With the path of the arguments left out."""
    told = refusal(profiles=[{"pluginConfig": [{"name": plugin, "args": args}]}])
    return told.replace("profiles[0].pluginConfig[0].args.", "")


def test_what_is_no_yaml_is_told_with_its_line() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        load("kind: KubeSchedulerConfiguration\nprofiles: [")
    assert str(caught.value).startswith("error converting YAML to JSON: yaml: line 2: ")
    assert "\n" not in str(caught.value)


def test_an_empty_one_is_the_default_profile() -> None:
    assert read() == SchedulerConfig()


def test_times_of_back_off_and_the_share_of_nodes() -> None:
    found = read(podInitialBackoffSeconds=2, podMaxBackoffSeconds=30, percentageOfNodesToScore=40)
    assert (found.back_off.initial, found.back_off.maximum, found.percentage) == (2, 30, 40)
    assert profile(percentageOfNodesToScore=7).percentage == 7


def test_leader_election_is_left_to_whoever_runs_the_scheduler() -> None:
    assert read(leaderElection={"leaderElect": False}).leader_election == {"leaderElect": False}
    assert read(leaderElection={"retryPeriod": "0s"}).leader_election == {}, "nothing is said by that"
    told = refusal(leaderElection={"leaderElect": True, "resourceLock": "endpoints"})
    assert told == 'leaderElection.resourceLock: Invalid value: "endpoints": resourceLock value must be "leases"'


@pytest.mark.parametrize(
    ("election", "told"),
    [
        (
            {"leaseDuration": "-1s"},
            '[leaderElection.leaseDuration: Invalid value: "-1s": must be greater than zero, '
            'leaderElection.leaseDuration: Invalid value: "10s": must be greater than `RenewDeadline`]',
        ),
        ({"retryPeriod": "-2s"}, 'leaderElection.retryPeriod: Invalid value: "-2s": must be greater than zero'),
        (
            {"renewDeadline": "1m15s"},
            'leaderElection.leaseDuration: Invalid value: "1m15s": must be greater than `RenewDeadline`',
        ),
        (
            {"leaseDuration": "0s", "renewDeadline": "15s"},
            'leaderElection.leaseDuration: Invalid value: "15s": must be greater than `RenewDeadline`',
        ),
    ],
)
def test_times_of_leader_election_must_fit_together(election: dict[str, Any], told: str) -> None:
    assert refusal(leaderElection=election) == told
    read(leaderElection={"leaderElect": False, **election})


def test_times_are_such_as_go_reads() -> None:
    assert refusal(leaderElection={"leaderElect": False, "retryPeriod": "2"}) == 'time: missing unit in duration "2"'


def test_a_burst_of_requests_is_not_less_than_none() -> None:
    told = refusal(clientConnection={"burst": -1})
    assert told == "clientConnection.burst: Invalid value: -1: must be non-negative"


def test_several_profiles_are_told_apart_by_name() -> None:
    found = read(profiles=[{"schedulerName": "a"}, {"schedulerName": "b"}])
    assert [one.name for one in found.profiles] == ["a", "b"]


class TestPlugins:
    def names(self, **multi_point: Any) -> list[str]:
        return [one.name for one in profile(plugins={"multiPoint": multi_point}).multi_point]

    def test_default_ones_can_be_disabled_each_or_all(self) -> None:
        assert "ImageLocality" not in self.names(disabled=[{"name": "ImageLocality"}])
        assert self.names(disabled=[{"name": "*"}], enabled=[{"name": "NodeName"}]) == ["NodeName"]

    def test_others_come_after_them(self) -> None:
        assert self.names(enabled=[{"name": "Mine"}])[-2:] == ["DefaultBinder", "Mine"]

    def test_one_that_is_enabled_anew_keeps_its_place_with_the_weight_given(self) -> None:
        found = profile(plugins={"multiPoint": {"enabled": [{"name": "TaintToleration", "weight": 9}]}}).multi_point
        assert found[4] == Enabled("TaintToleration", 9)
        found = profile(plugins={"multiPoint": {"enabled": [{"name": "TaintToleration"}]}}).multi_point
        assert found[4] == Enabled("TaintToleration", 1)

    def test_one_that_is_given_twice_is_not_taken_for_given_once(self) -> None:
        twice = [{"name": "ImageLocality", "weight": 2}, {"name": "ImageLocality", "weight": 3}]
        found = profile(plugins={"multiPoint": {"enabled": twice}}).multi_point
        assert [one.weight for one in found if one.name == "ImageLocality"] == [3, 2]

    def test_of_one_extension_point(self) -> None:
        score = {"enabled": [{"name": "NodeResourcesFit", "weight": 5}], "disabled": [{"name": "ImageLocality"}]}
        expected = PluginSet((Enabled("NodeResourcesFit", 5),), frozenset({"ImageLocality"}))
        assert profile(plugins={"score": score}).points == {"score": expected}


class TestArguments:
    def args(self, plugin: str, **given: Any) -> Any:
        return profile(pluginConfig=[{"name": plugin, "args": given}]).arguments[plugin]

    def test_have_defaults(self) -> None:
        assert self.args("DefaultPreemption", minCandidateNodesAbsolute=5) == {
            "minCandidateNodesPercentage": 10,
            "minCandidateNodesAbsolute": 5,
        }
        assert self.args("NodeResourcesFit", scoringStrategy={"type": "MostAllocated"})["scoringStrategy"] == {
            "type": "MostAllocated",
            "resources": [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}],
        }
        assert self.args("NodeResourcesBalancedAllocation", resources=[{"name": "gpu"}]) == {
            "resources": [{"name": "gpu", "weight": 1}]
        }

    def test_of_dynamic_resources_are_taken_and_have_no_effect(self) -> None:
        kind = {"apiVersion": HEAD["apiVersion"], "kind": "DynamicResourcesArgs"}
        assert self.args("DynamicResources", **kind, filterTimeout="0s") == {"filterTimeout": "0s"}

    def test_may_name_their_kind(self) -> None:
        kind = {"apiVersion": HEAD["apiVersion"], "kind": "InterPodAffinityArgs"}
        assert self.args("InterPodAffinity", **kind) == {"hardPodAffinityWeight": 1}

    def test_those_of_plugins_of_others_are_their_own_affair(self) -> None:
        assert self.args("Mine", anything=[1, {"a": "b"}]) == {"anything": [1, {"a": "b"}]}


class TestRefusals:
    def test_of_what_is_no_such_configuration(self) -> None:
        for text, told in (
            ("", "Object 'Kind' is missing in ''"),
            ("a: b\n---\nkind: c", "Object 'Kind' is missing in 'a: b\n---\nkind: c'"),
            (
                "kind: KubeSchedulerConfiguration",
                "Object 'apiVersion' is missing in 'kind: KubeSchedulerConfiguration'",
            ),
            ("kind: Pod\napiVersion: v1", 'no kind "Pod" is registered for version "v1"'),
            ("[]", "couldn't decode as KubeSchedulerConfiguration: not an object"),
        ):
            with pytest.raises(InvalidConfiguration) as caught:
                load(text)
            assert str(caught.value) == told

    def test_of_fields_that_there_are_not_and_of_wrong_types(self) -> None:
        assert refusal(profils=[]) == 'strict decoding error: unknown field "profils"'
        assert refusal(profiles=[{"plugins": {"scores": {}}}]) == (
            'strict decoding error: unknown field "profiles[0].plugins.scores"'
        )
        assert refusal(podMaxBackoffSeconds="1") == 'strict decoding error: "podMaxBackoffSeconds" is no integer'
        assert args_refusal("InterPodAffinity", weight=1) == (
            "strict decoding error: decoding .profiles[0].pluginConfig[0]: strict decoding error: decoding args for "
            'plugin InterPodAffinity: strict decoding error: unknown field "weight"'
        )

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"podInitialBackoffSeconds": 0}, "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"),
            (
                {"podMaxBackoffSeconds": 1, "podInitialBackoffSeconds": 2},
                "podMaxBackoffSeconds: Invalid value: 1: must be greater than or equal to PodInitialBackoffSeconds",
            ),
            (
                {"percentageOfNodesToScore": 101},
                "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            ),
            ({"parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
            (
                {"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]},
                'profiles[1].schedulerName: Duplicate value: "profiles[0].schedulerName"',
            ),
            (
                {"profiles": [{}, {}]},
                "[profiles[0].schedulerName: Required value, profiles[1].schedulerName: Required value, "
                'profiles[1].schedulerName: Duplicate value: "profiles[0].schedulerName"]',
            ),
            (
                {"profiles": [{"plugins": {"filter": {"enabled": [{"name": "EBSLimits"}]}}}]},
                'profiles[0].plugins.filter.enabled[0]: Invalid value: "EBSLimits": was invalid in version "v1" '
                '(KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")',
            ),
            (
                {"profiles": [{"pluginConfig": [{"name": "A"}, {"name": "A"}]}]},
                'profiles[0].pluginConfig[1]: Duplicate value: "A"',
            ),
        ],
    )
    def test_of_what_cannot_be(self, fields: dict[str, Any], told: str) -> None:
        assert refusal(**fields) == told

    def test_of_different_orders_of_one_queue(self) -> None:
        other = {"schedulerName": "b", "plugins": {"queueSort": {"enabled": [{"name": "Mine"}]}}}
        told = refusal(profiles=[{"schedulerName": "a"}, other])
        assert told.startswith("profiles[1].plugins.queueSort: Invalid value: ")
        assert told.endswith(": must be the same for all profiles")

    def test_of_one_queue_with_different_arguments(self) -> None:
        sort = {"queueSort": {"enabled": [{"name": "Mine"}]}}
        first, second = ({"schedulerName": name, "plugins": sort} for name in "ab")
        same = [{"name": "Mine", "args": {"by": "age"}}]
        read(profiles=[{**first, "pluginConfig": same}, {**second, "pluginConfig": same}])
        told = refusal(profiles=[first, {**second, "pluginConfig": same}])
        assert told == (
            'profiles[1].pluginConfig.args: Invalid value: {"by":"age"}: queueSort must be the same for all profiles'
        )

    @pytest.mark.parametrize(
        ("plugin", "args", "told"),
        [
            (
                "InterPodAffinity",
                {"hardPodAffinityWeight": 101},
                "hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
            ),
            (
                "DefaultPreemption",
                {"minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": 0},
                "[minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as "
                "minCandidateNodesAbsolute, minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same "
                "time as minCandidateNodesPercentage]",
            ),
            (
                "DynamicResources",
                {"filterTimeout": "-1s"},
                'filterTimeout: Invalid value: "-1s": must be zero or positive',
            ),
            (
                "DynamicResources",
                {"filterTimeout": "10s", "bindingTimeout": "10m"},
                "bindingTimeout: Forbidden: DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is "
                "disabled",
            ),
            (
                "NodeResourcesFit",
                {"scoringStrategy": {"type": "Best"}},
                'scoringStrategy.type: Unsupported value: "Best": supported values: "LeastAllocated", '
                '"MostAllocated", "RequestedToCapacityRatio"',
            ),
            (
                "NodeResourcesFit",
                {"scoringStrategy": {"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 101}]}},
                "scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range "
                "(0, 100]",
            ),
            (
                "NodeResourcesFit",
                {
                    "scoringStrategy": {
                        "type": "RequestedToCapacityRatio",
                        "requestedToCapacityRatio": {
                            "shape": [{"utilization": 10, "score": 11}, {"utilization": 10, "score": 0}]
                        },
                    }
                },
                "[scoringStrategy.shape[1].utilization: Invalid value: 10: values must be sorted in increasing order, "
                "scoringStrategy.shape[0].score: Invalid value: 11: not in valid range [0, 10]]",
            ),
            (
                "NodeResourcesFit",
                {"ignoredResourceGroups": ["a/b"]},
                "ignoredResourceGroups[0]: Invalid value: \"a/b\": resource group name can't contain '/'",
            ),
            (
                "NodeResourcesBalancedAllocation",
                {"resources": [{"name": "cpu", "weight": 2}, {"name": "cpu"}]},
                '[resources[0].weight: Invalid value: 2: must be 1, resources[1].name: Duplicate value: "cpu"]',
            ),
            (
                "PodTopologySpread",
                {"defaultConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]},
                'defaultingType: Invalid value: "System": when .defaultConstraints are not empty',
            ),
            (
                "PodTopologySpread",
                {"defaultingType": "List", "defaultConstraints": [{"labelSelector": {}}]},
                "[defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf), "
                "defaultConstraints[0].topologyKey: Required value: can not be empty, "
                "defaultConstraints[0].whenUnsatisfiable: Required value: can not be empty, "
                "defaultConstraints[0].labelSelector: Forbidden: constraint must not define a selector, as they "
                "deduced for each pod]",
            ),
            (
                "VolumeBinding",
                {"bindTimeoutSeconds": -1},
                "bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value",
            ),
            (
                "NodeAffinity",
                {
                    "addedAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]
                        }
                    }
                },
                "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]."
                'matchExpressions[0].operator: Unsupported value: "Is": supported values: "In", "NotIn", "Exists", '
                '"DoesNotExist", "Gt", "Lt"',
            ),
            (
                "NodeAffinity",
                {
                    "addedAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 0, "preference": {"matchFields": [{"operator": "Is"}]}},
                            {
                                "weight": 1,
                                "preference": {
                                    "matchExpressions": [
                                        {"key": "a", "operator": "In"},
                                        {"key": "a", "operator": "Gt", "values": ["x"]},
                                    ]
                                },
                            },
                        ]
                    }
                },
                "[addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].matchExpressions[0].values: Invalid "
                "value: null: for 'in', 'notin' operators, values set can't be empty, "
                "addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].matchExpressions[1].values[0]: "
                "Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer]",
            ),
        ],
    )
    def test_of_arguments(self, plugin: str, args: dict[str, Any], told: str) -> None:
        assert args_refusal(plugin, **args) == told

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            (
                {"kind": "NodeAffinityArgs"},
                "args for plugin InterPodAffinity were not of type InterPodAffinityArgs.kubescheduler.config.k8s.io, "
                "got NodeAffinityArgs.kubescheduler.config.k8s.io",
            ),
            (
                {"kind": "Foo"},
                'decoding args for plugin InterPodAffinity: no kind "Foo" is registered for version '
                '"kubescheduler.config.k8s.io/v1"',
            ),
            (
                {"apiVersion": "kubescheduler.config.k8s.io/v1beta3"},
                'decoding args for plugin InterPodAffinity: no kind "InterPodAffinityArgs" is registered for version '
                '"kubescheduler.config.k8s.io/v1beta3"',
            ),
        ],
    )
    def test_of_arguments_of_another_kind(self, args: dict[str, Any], told: str) -> None:
        assert args_refusal("InterPodAffinity", **args) == f"decoding .profiles[0].pluginConfig[0]: {told}"

    def test_of_values_that_no_label_can_have(self) -> None:
        expression = {"key": "a", "operator": "In", "values": ["-"]}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        told = args_refusal("NodeAffinity", addedAffinity={"requiredDuringSchedulingIgnoredDuringExecution": terms})
        assert '.matchExpressions[0].values[0][a]: Invalid value: "-": a valid label must be' in told

    def test_of_keys_that_are_given_twice(self) -> None:
        with pytest.raises(InvalidConfiguration) as caught:
            load(yaml.safe_dump(HEAD) + "parallelism: 1\nparallelism: 2\n")
        told = 'strict decoding error: yaml: unmarshal errors:\n  line 4: key "parallelism" already set in map'
        assert str(caught.value) == told

    def test_of_keys_that_no_label_can_have(self) -> None:
        told = args_refusal("NodeResourcesFit", ignoredResources=["a b"])
        assert told.startswith('ignoredResources[0]: Invalid value: "a b": name part must consist of')
