"""What a pod is taken to need on its node."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubecore.client.client import Object
from kubecore.scheduler.placement import pod_facts
from kubecore.scheduler.pods import PodInfo, same_scheduling_facts
from tests.unit.scheduler.builders import container, info, pod

MEBI = 1024 * 1024


def sidecar(name: str, **requests: str) -> Object:
    return container(name, requests=requests, restartPolicy="Always")


def init(name: str, **requests: str) -> Object:
    return container(name, requests=requests)


def requests(**spec: Any) -> dict[str, int]:
    return {name: value for name, value in info(**spec).requests.items() if value}


class TestContainers:
    def test_cpu_is_counted_in_thousandths_and_everything_else_in_whole_units(self) -> None:
        asked = {
            "cpu": "1500m",
            "memory": "1Mi",
            "ephemeral-storage": "2Ki",
            "example.com/gpu": "2",
            "hugepages-2Mi": "4Mi",
        }
        assert requests(requests=asked) == {
            "cpu": 1500,
            "memory": MEBI,
            "ephemeral-storage": 2048,
            "example.com/gpu": 2,
            "hugepages-2Mi": 4 * MEBI,
        }

    def test_containers_run_together_and_are_summed(self) -> None:
        both = [container("a", requests={"cpu": "1"}), container("b", requests={"cpu": "250m", "memory": "1Mi"})]
        assert requests(containers=both) == {"cpu": 1250, "memory": MEBI}

    def test_fractions_are_summed_before_they_are_rounded_up(self) -> None:
        third = [container(name, requests={"cpu": "400u"}) for name in "abc"]
        assert requests(containers=third) == {"cpu": 2}

    def test_the_overhead_of_the_runtime_comes_on_top(self) -> None:
        assert requests(requests={"cpu": "1"}, overhead={"cpu": "250m", "memory": "10Mi"}) == {
            "cpu": 1250,
            "memory": 10 * MEBI,
        }


class TestInitContainers:
    def test_they_run_one_after_the_other_so_that_the_largest_counts(self) -> None:
        spec = {"initContainers": [init("a", cpu="2"), init("b", cpu="3", memory="1Mi")]}
        assert requests(requests={"cpu": "1", "memory": "5Mi"}, **spec) == {"cpu": 3000, "memory": 5 * MEBI}

    def test_sidecars_run_along_with_the_containers(self) -> None:
        assert requests(requests={"cpu": "1"}, initContainers=[sidecar("s", cpu="500m")]) == {"cpu": 1500}

    def test_an_init_container_runs_along_with_the_sidecars_before_it_only(self) -> None:
        order = [sidecar("s1", cpu="1"), init("i", cpu="3"), sidecar("s2", cpu="10")]
        # while `i` runs: 1 + 3; later: 1 + 10 + 1
        assert requests(requests={"cpu": "1"}, initContainers=order) == {"cpu": 12000}
        order = [sidecar("s1", cpu="1"), init("i", cpu="8"), sidecar("s2", cpu="2")]
        assert requests(requests={"cpu": "1"}, initContainers=order) == {"cpu": 9000}

    def test_their_peak_does_not_include_the_overhead_twice(self) -> None:
        assert requests(initContainers=[init("i", cpu="2")], overhead={"cpu": "1"}) == {"cpu": 3000}


class TestPodLevelRequests:
    def test_they_stand_in_for_those_of_the_containers(self) -> None:
        assert requests(requests={"cpu": "1", "memory": "1Mi"}, resources={"requests": {"cpu": "2"}}) == {
            "cpu": 2000,
            "memory": MEBI,
        }

    def test_the_overhead_still_comes_on_top(self) -> None:
        assert requests(resources={"requests": {"cpu": "2"}}, overhead={"cpu": "1"}) == {"cpu": 3000}

    def test_only_cpu_memory_and_huge_pages_can_be_asked_for_by_the_pod(self) -> None:
        given = {"hugepages-2Mi": "2Mi", "ephemeral-storage": "1Gi", "example.com/gpu": "1"}
        assert requests(resources={"requests": given}) == {"hugepages-2Mi": 2 * MEBI}


class TestResizeInPlace:
    def resized(self, *, asked: str, allocated: str, actual: str, infeasible: bool = False) -> int:
        status: Object = {
            "containerStatuses": [
                {"name": "c", "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}}}
            ]
        }
        if infeasible:
            status["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
        return info(requests={"cpu": asked}, status=status, node="n").requests["cpu"]

    @pytest.mark.parametrize("amounts", [("3", "1", "1"), ("1", "3", "1"), ("1", "1", "3")])
    def test_the_largest_of_asked_for_allocated_and_actual_is_reserved(self, amounts: tuple[str, str, str]) -> None:
        asked, allocated, actual = amounts
        assert self.resized(asked=asked, allocated=allocated, actual=actual) == 3000

    def test_what_the_node_can_never_give_is_not_reserved(self) -> None:
        assert self.resized(asked="64", allocated="1", actual="2", infeasible=True) == 2000

    def test_a_container_that_reports_nothing_counts_as_asked(self) -> None:
        status = {"containerStatuses": [{"name": "c", "ready": True}]}
        assert info(requests={"cpu": "1"}, status=status).requests["cpu"] == 1000

    def test_the_status_of_an_init_container_that_ends_does_not_count(self) -> None:
        status = {"initContainerStatuses": [{"name": "i", "resources": {"requests": {"cpu": "9"}}}]}
        assert info(initContainers=[init("i", cpu="2")], status=status).requests["cpu"] == 2000
        assert info(initContainers=[sidecar("i", cpu="2")], status=status).requests["cpu"] == 9000


class TestDefaultsForScoring:
    def test_a_container_that_asks_for_nothing_counts_as_a_tenth_of_a_cpu_and_200_mebibytes(self) -> None:
        assert info().used == (100, 200 * MEBI)
        assert info().requests == {}

    def test_each_container_gets_the_default_of_what_it_leaves_out(self) -> None:
        both = [container("a", requests={"cpu": "1"}), container("b", requests={"memory": "1Mi"})]
        assert info(containers=both).used == (1100, 201 * MEBI)

    def test_an_explicit_zero_is_kept(self) -> None:
        assert info(requests={"cpu": "0", "memory": "0"}).used == (0, 0)


class TestHostPorts:
    def test_containers_and_sidecars_take_them_but_init_containers_give_them_back(self) -> None:
        port = [{"containerPort": 80, "hostPort": 8080}]
        assert info(containers=[container(ports=port)]).ports == {("0.0.0.0", "TCP", 8080)}
        assert info(initContainers=[{**sidecar("s"), "ports": port}]).ports == {("0.0.0.0", "TCP", 8080)}
        assert info(initContainers=[{**init("i"), "ports": port}]).ports == frozenset()

    def test_a_port_without_host_port_takes_none(self) -> None:
        assert info(containers=[container(ports=[{"containerPort": 80}])]).ports == frozenset()


class TestFacts:
    def test_a_status_that_says_nothing_of_resources_changes_no_facts(self) -> None:
        running = pod(
            status={"phase": "Running", "containerStatuses": [{"name": "c", "ready": True, "restartCount": 3}]}
        )
        assert same_scheduling_facts(pod(), running)

    def test_nor_does_one_that_says_of_resources_what_the_spec_does(self) -> None:
        requests = {"cpu": "100m"}
        had = {"name": "c", "resources": {"requests": requests}, "allocatedResources": requests}
        asking = pod(requests=requests)
        running = pod(requests=requests, status={"phase": "Running", "containerStatuses": [had]})
        assert same_scheduling_facts(asking, running)

    def test_spec_labels_deletion_and_resized_resources_do(self) -> None:
        status = {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}
        changed = [pod(labels={"a": "b"}), pod(priority=1), pod(deleting=True), pod(uid="other"), pod(status=status)]
        assert not any(same_scheduling_facts(one, pod()) for one in changed)


amount = st.integers(0, 5000).map(lambda milli: {"cpu": f"{milli}m"})
containers = st.lists(amount, min_size=1, max_size=3)
inits = st.lists(st.tuples(amount, st.booleans()), max_size=4)


@settings(max_examples=60, deadline=None)
@given(containers, inits)
def test_what_is_reserved_is_the_highest_need_of_any_moment(
    asked: list[Object], before: list[tuple[Object, bool]]
) -> None:
    def milli(given: Object) -> int:
        return int(given["cpu"][:-1])

    running, moments = 0, []
    for request, stays in before:
        moments.append(running + milli(request))
        running += milli(request) if stays else 0
    moments.append(running + sum(map(milli, asked)))
    spec: dict[str, Any] = {
        "containers": [container(f"c{n}", requests=one) for n, one in enumerate(asked)],
        "initContainers": [
            container(f"i{n}", requests=one, **({"restartPolicy": "Always"} if stays else {}))
            for n, (one, stays) in enumerate(before)
        ],
    }
    assert PodInfo(pod(**spec)).requests["cpu"] == max(moments)


def facts(**given: Any) -> Any:
    return orjson.loads(pod_facts(info(**given)))


_RESIZED = {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}
_CHANGES: list[Object] = [
    {"labels": {"app": "db"}},
    {"priority": 5},
    {"deleting": True},
    {"requests": {"cpu": "2"}},
    {"containers": [container("c", image="other:1")]},
    {"containers": [container("c", ports=[{"containerPort": 80, "hostPort": 80}])]},
    {"initContainers": [init("first", cpu="3")]},
    {"initContainers": [container("first", image="setup:1")]},
    {"overhead": {"cpu": "1"}},
    {"resources": {"requests": {"cpu": "4"}}},
    {"nodeSelector": {"disk": "ssd"}},
    {"affinity": {"nodeAffinity": {}}},
    {"tolerations": [{"operator": "Exists"}]},
    {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}]},
]


class TestWhatPlacementIsTold:
    def test_of_pods_from_one_template_it_is_told_the_very_same(self) -> None:
        one, other = info("a", labels={"app": "web"}), info("b", labels={"app": "web"})
        assert pod_facts(one) is pod_facts(other)

    @pytest.mark.parametrize("change", [{"namespace": "other"}, *_CHANGES], ids=lambda change: next(iter(change)))
    def test_what_differs_is_told(self, change: Object) -> None:
        plain = facts(labels={"app": "web"})
        assert facts(**{"labels": {"app": "web"}, **change}) != plain
        assert facts(labels={"app": "web"}) == plain

    @pytest.mark.parametrize("change", [*_CHANGES, {"status": _RESIZED}], ids=lambda change: next(iter(change)))
    def test_what_differs_of_a_newer_version_is_told(self, change: Object) -> None:
        before = info(labels={"app": "web"})
        pod_facts(before)
        newer = pod(**{"labels": {"app": "web"}, **change})
        assert pod_facts(before.renewed(newer)) == pod_facts(PodInfo(newer))

    def test_of_a_newer_version_that_differs_in_nothing_of_it_no_more_is_worked_out(self) -> None:
        same: Object = {"labels": {"app": "web"}, "affinity": {"nodeAffinity": {}}}
        before = info(**same)
        told = pod_facts(before)
        assert pod_facts(before.renewed(pod(**same, status={"nominatedNodeName": "n"}))) is told


@pytest.mark.parametrize("kind", ["persistentVolumeClaim", "ephemeral", "iscsi"])
def test_volumes_are_plain_unless_one_is_a_claim_or_a_disk_that_cannot_be_shared(kind: str) -> None:
    plain = {"name": "token", "projected": {"sources": []}}
    assert info().plain_volumes
    assert info(volumes=[plain]).plain_volumes
    assert not info(volumes=[plain, {"name": "data", kind: {"claimName": "data"}}]).plain_volumes
