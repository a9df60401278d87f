"""Which changes of nodes and pods are worth waking anybody for."""

from __future__ import annotations

from kubecore.client.client import Object
from kubecore.scheduler.events import EventKind, node_changes, pod_changes
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import info, node, taint


def of_node(before: Object, after: Object) -> list[EventKind]:
    return [event.kind for event in node_changes(before, after)]


def of_pod(before: PodInfo, after: PodInfo) -> list[EventKind]:
    return [event.kind for event in pod_changes(before, after)]


class TestNodes:
    def test_a_heartbeat_is_no_event(self) -> None:
        beating = node()
        beating["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "now"}]
        beating["metadata"]["annotations"] = {"a": "b"}
        assert of_node(node(), beating) == []

    def test_allocatable_resources_labels_and_taints_are_events_of_their_own(self) -> None:
        assert of_node(node(), node(allocatable={"cpu": "1"})) == [EventKind.NODE_ALLOCATABLE]
        assert of_node(node(), node(labels={"a": "b"})) == [EventKind.NODE_LABELS]
        assert of_node(node(taints=[taint("a")]), node()) == [EventKind.NODE_TAINTS]
        assert of_node(node(taints=[taint("a")]), node(labels={"a": "b"}, allocatable={})) == [
            EventKind.NODE_ALLOCATABLE,
            EventKind.NODE_LABELS,
            EventKind.NODE_TAINTS,
        ]

    def test_the_same_amount_in_other_words_is_no_event(self) -> None:
        assert of_node(node(allocatable={"cpu": "1000m"}), node(allocatable={"cpu": "1"})) == []

    def test_uncordoning_is_an_event_and_cordoning_is_none(self) -> None:
        assert of_node(node(unschedulable=True), node()) == [EventKind.NODE_TAINTS]
        assert of_node(node(), node(unschedulable=True)) == []


class TestPods:
    def test_labels_tolerations_and_the_last_gate_are_events(self) -> None:
        assert of_pod(info(), info(labels={"a": "b"})) == [EventKind.POD_LABELS]
        assert of_pod(info(), info(tolerations=[{"operator": "Exists"}])) == [EventKind.POD_TOLERATIONS]
        gates = [{"name": "a"}, {"name": "b"}]
        assert of_pod(info(schedulingGates=gates), info(schedulingGates=gates[:1])) == []
        assert of_pod(info(schedulingGates=gates), info()) == [EventKind.POD_GATES_GONE]

    def test_needing_less_is_an_event_and_needing_more_is_none(self) -> None:
        small, large = info(requests={"cpu": "1", "memory": "1Gi"}), info(requests={"cpu": "2", "memory": "1Gi"})
        assert of_pod(large, small) == [EventKind.POD_SCALED_DOWN]
        assert of_pod(small, large) == []
        assert of_pod(small, info(requests={"cpu": "1"})) == [EventKind.POD_SCALED_DOWN]
