"""What the scheduler tells of itself, as kube-scheduler's users read it."""

from __future__ import annotations

from kubecore.metrics import Metrics
from kubecore.scheduler.events import (
    EventKind,
    NodeEvent,
    PodEvent,
    StorageEvent,
    label_of,
    node_added,
    pod_placed,
    pod_removed,
)
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import node, pod
from tests.unit.scheduler.conftest import Running

BIG = {"cpu": "3"}
"""More than half of a node."""


def told(cluster: Running) -> dict[str, float]:
    """Every line by its series."""
    metrics = Metrics()
    metrics.add(*cluster.scheduler.metrics)
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_each_try_is_counted_by_what_came_of_it(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("a", requests=BIG)
    await cluster.add_pod("b", requests=BIG)
    found = told(cluster)
    assert found['scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"}'] == 1
    assert found['scheduler_schedule_attempts_total{profile="default-scheduler",result="unschedulable"}'] == 1
    took = "scheduler_scheduling_attempt_duration_seconds_count"
    assert found[took + '{profile="default-scheduler",result="scheduled"}'] == 1
    assert found["scheduler_scheduling_algorithm_duration_seconds_count"] == 2


async def test_a_pod_s_way_is_timed_over_all_its_tries(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("first", requests=BIG)
    await cluster.add_pod("p", requests=BIG)
    await cluster.clock.advance(30)
    await cluster.add_node("n2")
    found = told(cluster)
    assert found["scheduler_pod_scheduling_attempts_sum"] == 1 + 2
    waited = "scheduler_pod_scheduling_sli_duration_seconds"
    assert found[waited + '_count{attempts="2"}'] == 1
    assert 30 <= found[waited + '_sum{attempts="2"}'] < 31


async def test_pods_that_wait_are_told_by_what_they_wait_for(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("stuck", requests={"cpu": "100"})
    await cluster.add_pod("gated", schedulingGates=[{"name": "example.com/later"}])
    found = told(cluster)
    assert [found[f'scheduler_pending_pods{{queue="{name}"}}'] for name in ("active", "backoff")] == [0, 0]
    assert [found[f'scheduler_pending_pods{{queue="{name}"}}'] for name in ("unschedulable", "gated")] == [1, 1]


async def test_pods_that_fit_nowhere_are_told_by_the_plugins_that_refuse_them(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("a", requests=BIG)
    await cluster.add_pod("b", requests=BIG)
    name = 'scheduler_unschedulable_pods{plugin="NodeResourcesFit",profile="default-scheduler"}'
    assert told(cluster)[name] == 1
    await cluster.add_node("n2")
    assert name not in told(cluster)


async def test_the_cache_is_told(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("p")
    found = told(cluster)
    sizes = [found[f'scheduler_cache_size{{type="{kind}"}}'] for kind in ("nodes", "pods", "assumed_pods")]
    assert sizes == [1, 1, 0]


async def test_pods_that_come_into_a_queue_are_counted_by_why(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("p", requests={"cpu": "100"})
    await cluster.clock.advance(30)
    await cluster.add_node("n2", allocatable={"cpu": "200", "memory": "1Gi", "pods": "9"})
    found = told(cluster)
    name = "scheduler_queue_incoming_pods_total"
    assert found[name + '{event="UnschedulablePodAdd",queue="active"}'] == 1
    assert found[name + '{event="ScheduleAttemptFailure",queue="unschedulable"}'] == 1
    assert found[name + '{event="NodeAdd",queue="active"}'] == 1


async def test_victims_of_preemption_are_counted(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("low", requests=BIG)
    await cluster.add_pod("high", requests=BIG, priority=10)
    found = told(cluster)
    assert found["scheduler_preemption_attempts_total"] >= 1
    assert found["scheduler_preemption_victims_sum"] == 1


class TestNamesOfEvents:
    def test_of_nodes(self) -> None:
        assert label_of(node_added(node("n"))) == "NodeAdd"
        assert label_of(NodeEvent(EventKind.NODE_TAINTS, None, None)) == "NodeUpdateNodeTaint"

    def test_of_pods_with_a_node_and_without(self) -> None:
        bound = PodInfo(pod("p", node="n"))
        assert label_of(pod_placed(bound)) == "AssignedPodAdd"
        assert label_of(pod_removed(bound)) == "AssignedPodDelete"
        waiting = PodInfo(pod("p"))
        gates = PodEvent(EventKind.POD_GATES_GONE, waiting, waiting)
        assert label_of(gates) == "UnschedulablePodUpdatePodSchedulingGatesEliminated"

    def test_of_what_pods_store_in(self) -> None:
        assert label_of(StorageEvent(EventKind.CLAIM, {})) == "PersistentVolumeClaimAdd"
        assert label_of(StorageEvent(EventKind.CSI_NODE, {}, {})) == "storage.k8s.io/CSINodeUpdate"
        assert label_of(StorageEvent(EventKind.ATTACHMENT_REMOVED, {})) == "storage.k8s.io/VolumeAttachmentDelete"

    def test_every_kind_has_one(self) -> None:
        stored = {
            EventKind.CLAIM,
            EventKind.VOLUME,
            EventKind.STORAGE_CLASS,
            EventKind.CSI_NODE,
            EventKind.CSI_DRIVER,
            EventKind.STORAGE_CAPACITY,
            EventKind.ATTACHMENT_REMOVED,
        }
        for kind in EventKind:
            if kind in stored:
                assert label_of(StorageEvent(kind, {}))
            else:
                assert label_of(NodeEvent(kind, None, None))


async def test_extension_points_are_timed_by_how_they_ended(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("a", requests=BIG)
    await cluster.add_pod("b", requests=BIG)
    name = "scheduler_framework_extension_point_duration_seconds_count"
    counts = {series.removeprefix(name): count for series, count in told(cluster).items() if series.startswith(name)}

    def at(point: str, status: str) -> str:
        return f'{{extension_point="{point}",profile="default-scheduler",status="{status}"}}'

    assert counts == {
        at("Filter", "Success"): 2,
        at("PostFilter", "Unschedulable"): 1,
        at("Reserve", "Success"): 1,
        at("Permit", "Success"): 1,
        at("Bind", "Success"): 1,
        at("PostBind", "Success"): 1,
    }
