"""Pods get nodes: which ones, when, and what is told of those that get none."""

from __future__ import annotations

import socket

from kubecore.api import errors, meta
from kubecore.scheduler.framework import Diagnosis, PostFilter, PostFilterResult
from kubecore.scheduler.profiles import ProfileConfig
from kubecore.scheduler.scheduler import SchedulerConfig
from tests.unit.scheduler.builders import container, no_preemption, taint
from tests.unit.scheduler.conftest import Running

BIG = {"cpu": "3"}
"""More than half of a node."""


class TestBinding:
    async def test_a_pod_is_bound_through_its_binding_subresource(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("p")
        (request,) = cluster.api.writes("create pods/binding")
        uid = meta.uid(cluster.pod())
        assert request.body == {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "p", "namespace": "default", "uid": uid},
            "target": {"kind": "Node", "name": "n1"},
        }
        assert cluster.node_of() == "n1"

    async def test_an_event_tells_of_it(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("p")
        (event,) = cluster.api.all("events")
        assert (event["type"], event["reason"], event["action"]) == ("Normal", "Scheduled", "Binding")
        assert event["message"] == "Successfully assigned default/p to n1"
        assert event["reportingComponent"] == "default-scheduler"
        assert event["reportingInstance"] == f"default-scheduler-{socket.gethostname()}"
        assert event["involvedObject"]["name"] == "p"
        assert event["eventTime"] == "2026-01-01T00:00:00.600000Z"

    async def test_pods_of_other_schedulers_are_left_alone(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("p", schedulerName="other")
        assert cluster.bindings() == []
        assert cluster.condition() == {}

    async def test_a_scheduler_may_have_another_name(self, cluster: Running) -> None:
        await cluster.start(config=SchedulerConfig(profiles=(ProfileConfig(name="other"),)))
        await cluster.add_node()
        await cluster.add_pod("mine", schedulerName="other")
        await cluster.add_pod("theirs", schedulerName="default-scheduler")
        assert cluster.bindings() == ["mine n"]

    async def test_finished_pods_and_those_with_a_node_are_not_scheduled(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("failed", status={"phase": "Failed"})
        await cluster.add_pod("static", node="elsewhere")
        assert cluster.bindings() == []

    async def test_two_pods_do_not_get_the_same_room_while_the_first_is_being_bound(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("a", requests=BIG)
        await cluster.add_pod("b", requests=BIG)
        cluster.api.let_go()
        await cluster.settle()
        assert cluster.bindings() == ["a n1"]
        assert cluster.condition("b")["reason"] == "Unschedulable"

    async def test_at_the_start_pods_that_run_are_counted_before_any_is_scheduled(self, cluster: Running) -> None:
        await cluster.add_node("n1")
        await cluster.add_pod("a-waits", requests=BIG)
        await cluster.add_pod("z-runs", requests=BIG, node="n1")
        await cluster.start()
        assert cluster.bindings() == []

    async def test_higher_priority_goes_first(self, cluster: Running) -> None:
        await cluster.add_node("n1")
        await cluster.add_pod("low", requests=BIG)
        await cluster.add_pod("high", requests=BIG, priority=10)
        await cluster.start()
        assert cluster.bindings() == ["high n1"]


class TestNoNodeFits:
    async def test_an_event_counts_the_nodes_by_reason(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("small", allocatable={"cpu": "1", "pods": "10"})
        await cluster.add_node("tainted1", taints=[taint("a")])
        await cluster.add_node("tainted2", taints=[taint("a")])
        await cluster.add_pod(requests=BIG)
        (event,) = cluster.api.all("events")
        assert (event["type"], event["reason"], event["action"]) == ("Warning", "FailedScheduling", "Scheduling")
        assert event["message"] == (
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). " + no_preemption(3)
        )

    async def test_so_does_the_pods_condition(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node(unschedulable=True)
        await cluster.add_pod()
        assert cluster.condition() == {
            "type": "PodScheduled",
            "status": "False",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 node(s) were unschedulable. " + no_preemption(),
        }

    async def test_the_condition_keeps_its_time_and_is_written_only_when_it_changes(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node(unschedulable=True)
        await cluster.add_pod()
        await cluster.clock.advance(310)
        assert len(cluster.events("FailedScheduling")) == 2
        assert len(cluster.api.writes("patch pods/status")) == 1
        await cluster.add_node("other", taints=[taint("a")])
        await cluster.clock.advance(310)
        assert len(cluster.api.writes("patch pods/status")) == 2
        assert cluster.condition()["lastTransitionTime"] == "2026-01-01T00:00:00Z"
        assert "1 node(s) had untolerated taint(s)" in cluster.condition()["message"]

    async def test_the_condition_is_tried_again_when_the_server_is_not_available(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node(unschedulable=True)
        cluster.api.react("patch pods/status", errors.StatusError(503, "ServiceUnavailable", "starting"), times=3)
        await cluster.add_pod()
        await cluster.clock.advance(1)
        assert cluster.condition()["reason"] == "Unschedulable"

    async def test_a_very_long_message_is_cut_in_the_event_and_whole_in_the_condition(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        wants = {f"example.com/a-resource-with-a-long-name-{number}": "1" for number in range(40)}
        await cluster.add_pod(requests=wants)
        (message,) = cluster.events("FailedScheduling")
        assert len(message) == 1024 and message.endswith(" ...")
        assert len(cluster.condition()["message"]) > 1024

    async def test_what_post_filter_plugins_say_is_added(self, cluster: Running) -> None:
        class Says(PostFilter):
            def __init__(self, name: str, text: str) -> None:
                self.name, self.text = name, text  # type: ignore[misc]

            def post_filter(self, state: object, pod: object, diagnosis: Diagnosis) -> PostFilterResult:
                return PostFilterResult(self.text)

        await cluster.start(Says("A", "nothing to free"), Says("B", ""), Says("C", "never mind."))
        await cluster.add_node(unschedulable=True)
        await cluster.add_pod()
        assert cluster.events("FailedScheduling") == [
            "0/1 nodes are available: 1 node(s) were unschedulable. "
            + no_preemption()
            + ", nothing to free, never mind."
        ]

    async def test_a_cluster_without_nodes_says_so_and_the_pod_is_tried_again_and_again(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_pod()
        assert cluster.events("FailedScheduling") == ["no nodes available to schedule pods"]
        assert cluster.condition()["reason"] == "Unschedulable"
        await cluster.clock.advance(1 + 2 + 4)
        # the fourth is counted, and told when its series has ended
        assert len(cluster.events("FailedScheduling")) == 3

    async def test_a_pod_pinned_to_one_node_names_the_plugin_for_all_others(self, cluster: Running) -> None:
        field = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
        terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        await cluster.start()
        for name in ("n1", "n2", "n3"):
            await cluster.add_node(name, allocatable={"cpu": "1", "pods": "9"})
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        await cluster.add_pod(affinity=affinity, requests=BIG)
        assert cluster.events("FailedScheduling") == [
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
            + no_preemption(3)
        ]

    async def test_devices_that_it_claims_are_nowhere(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "mine"}])
        assert cluster.events("FailedScheduling") == [
            "0/1 nodes are available: cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are "
            "available: 1 Preemption is not helpful for scheduling."
        ]


class TestWaking:
    """A pod that fits nowhere is tried again when something happens that can help, and not before."""

    async def stuck(self, cluster: Running, **fields: object) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("runs", requests=BIG)
        await cluster.add_pod("p", **{"requests": BIG, **fields})
        assert cluster.node_of("runs") == "n1" and not cluster.node_of()

    async def test_when_a_node_comes_that_has_room(self, cluster: Running) -> None:
        await self.stuck(cluster)
        await cluster.add_node("tiny", allocatable={"cpu": "1", "pods": "1"})
        assert len(cluster.events("FailedScheduling")) == 1
        await cluster.add_node("n2")
        assert cluster.node_of() == "n2"

    async def test_when_a_pod_is_deleted(self, cluster: Running) -> None:
        await self.stuck(cluster)
        cluster.api.remove("pods", "runs")
        await cluster.settle()
        assert cluster.node_of() == "n1"

    async def test_when_a_pod_finishes(self, cluster: Running) -> None:
        await self.stuck(cluster)
        cluster.api.change("pods", "runs", status={"phase": "Succeeded"})
        await cluster.settle()
        assert cluster.node_of() == "n1"

    async def test_when_a_pod_is_resized_to_less(self, cluster: Running) -> None:
        await self.stuck(cluster)
        cluster.api.change("pods", "runs", spec={"containers": [container(requests={"cpu": "1"})]})
        await cluster.settle()
        assert cluster.node_of() == "n1"

    async def test_when_a_node_grows(self, cluster: Running) -> None:
        await self.stuck(cluster)
        cluster.api.change("nodes", "n1", status={"allocatable": {"cpu": "6", "memory": "8Gi", "pods": "110"}})
        await cluster.settle()
        assert cluster.node_of() == "n1"

    async def test_not_when_a_running_pod_changes_in_its_status_alone(self, cluster: Running) -> None:
        await self.stuck(cluster)
        cluster.api.change("pods", "runs", status={"phase": "Running", "containerStatuses": [{"name": "c"}]})
        cluster.api.change("nodes", "n1", status={"conditions": [{"type": "Ready", "status": "True"}]})
        await cluster.clock.advance(60)
        assert len(cluster.events("FailedScheduling")) == 1

    async def test_when_it_gets_a_toleration(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node(taints=[taint("a")])
        await cluster.add_pod()
        cluster.api.change("pods", "p", spec={"tolerations": [{"key": "a", "operator": "Exists"}]})
        await cluster.settle()
        assert cluster.node_of() == "n"

    async def test_when_its_last_gate_is_taken_away(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod(schedulingGates=[{"name": "a"}])
        assert cluster.bindings() == cluster.events("FailedScheduling") == []
        cluster.api.change("pods", "p", spec={"schedulingGates": []})
        await cluster.settle()
        assert cluster.node_of() == "n"

    async def test_when_another_pod_that_is_spread_with_it_is_placed(self, cluster: Running) -> None:
        zone, web = "topology.kubernetes.io/zone", {"app": "web"}
        spread = {
            "maxSkew": 1,
            "topologyKey": zone,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": web},
        }
        await cluster.start()
        await cluster.add_node("a", labels={zone: "a"})
        await cluster.add_node("b", labels={zone: "b"}, unschedulable=True)
        await cluster.add_pod("first", labels=web, node="a")
        await cluster.add_pod("p", labels=web, topologySpreadConstraints=[spread])
        assert not cluster.node_of()
        await cluster.add_pod("second", labels=web, node="b")
        assert cluster.node_of() == "a"

    async def test_when_the_emptiest_domain_is_gone(self, cluster: Running) -> None:
        zone, web = "topology.kubernetes.io/zone", {"app": "web"}
        spread = {"maxSkew": 1, "topologyKey": zone, "whenUnsatisfiable": "DoNotSchedule"}
        spread["labelSelector"] = {"matchLabels": web}
        await cluster.start()
        await cluster.add_node("a", labels={zone: "a"})
        await cluster.add_node("b", labels={zone: "b"}, unschedulable=True)
        await cluster.add_pod("first", labels=web, node="a")
        await cluster.add_pod("p", labels=web, topologySpreadConstraints=[spread])
        assert not cluster.node_of()
        cluster.api.remove("nodes", "b")
        await cluster.settle()
        assert cluster.node_of() == "a"

    async def test_after_five_minutes_all_the_same(self, cluster: Running) -> None:
        await self.stuck(cluster)
        await cluster.clock.advance(300)
        assert len(cluster.events("FailedScheduling")) == 2


class TestLeaving:
    async def test_a_pod_that_is_deleted_is_not_tried_again(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node(unschedulable=True)
        await cluster.add_pod()
        cluster.api.remove("pods", "p")
        cluster.api.change("nodes", "n", spec={"unschedulable": False})
        await cluster.clock.advance(60)
        assert cluster.bindings() == []

    async def test_nor_is_one_that_has_failed_meanwhile(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node(unschedulable=True)
        await cluster.add_pod()
        cluster.api.change("pods", "p", status={"phase": "Failed"})
        cluster.api.change("nodes", "n", spec={"unschedulable": False})
        await cluster.clock.advance(60)
        assert cluster.bindings() == []

    async def test_a_pod_that_waits_for_its_finalizers_is_skipped(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod(deleting=True)
        assert cluster.bindings() == []
        assert cluster.events("FailedScheduling") == ["skip schedule deleting pod: default/p"]

    async def test_a_pod_made_anew_under_the_same_name_is_scheduled(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod(requests={"cpu": "9"})
        cluster.api.remove("pods", "p")
        await cluster.add_pod(requests={"cpu": "1"})
        assert cluster.node_of() == "n1"

    async def test_pods_of_a_node_that_is_gone_and_back_still_take_room(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("runs", requests=BIG)
        cluster.api.remove("nodes", "n1")
        await cluster.settle()
        await cluster.add_node("n1")
        await cluster.add_pod(requests=BIG)
        assert not cluster.node_of()
