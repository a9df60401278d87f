"""What becomes of a pod when binding it, or a plugin, fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kubecore.api import errors, meta
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import (
    Bind,
    CycleState,
    Filter,
    PostFilter,
    PostFilterResult,
    PreBind,
    PreEnqueue,
    Reserve,
)
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profiles import Enabled, PluginSet, ProfileConfig
from kubecore.scheduler.scheduler import SchedulerConfig
from tests.unit.scheduler.builders import container, no_preemption, pod
from tests.unit.scheduler.conftest import Running

BIG = {"cpu": "3"}
"""More than half of a node."""
BIND = "create pods/binding"


def conflict() -> errors.StatusError:
    return errors.conflict("", "pods/binding", "p", "something else happened")


class TestTheServerRefusesTheBinding:
    @pytest.mark.parametrize(
        "refusal",
        [
            conflict(),
            errors.StatusError(500, "InternalError", "disk on fire"),
            errors.StatusError(403, "Forbidden", "not you"),
            ConnectionRefusedError(111, "Connection refused"),
        ],
    )
    async def test_the_pod_is_tried_again_after_its_back_off(
        self, cluster: Running, refusal: errors.StatusError | OSError
    ) -> None:
        await cluster.start()
        await cluster.add_node()
        cluster.api.react(BIND, refusal, times=2)
        await cluster.add_pod()
        await cluster.clock.advance(0.65)
        assert not cluster.node_of()
        await cluster.clock.advance(1 + 2)
        assert cluster.node_of() == "n"
        assert len(cluster.bindings()) == 3

    async def test_event_and_condition_say_so(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        cluster.api.react(BIND, errors.StatusError(500, "InternalError", "disk on fire"))
        await cluster.add_pod()
        message = 'running Bind plugin "DefaultBinder": disk on fire'
        assert cluster.events("FailedScheduling") == [message]
        condition = cluster.condition()
        assert (condition["status"], condition["reason"], condition["message"]) == ("False", "SchedulerError", message)

    async def test_its_room_is_free_for_others_at_once(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("p", requests=BIG)
        await cluster.add_pod("other", requests=BIG)
        cluster.api.react(BIND, conflict())
        cluster.api.let_go()
        await cluster.settle()
        assert cluster.node_of("other") == "n"

    async def test_it_comes_back_as_it_is_then(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("p", requests={"cpu": "1"})
        cluster.api.change("pods", "p", spec={"containers": [container(requests={"cpu": "9"})]})
        await cluster.settle()
        cluster.api.react(BIND, conflict())
        cluster.api.let_go()
        await cluster.clock.advance(2)
        assert cluster.condition()["message"] == "0/1 nodes are available: 1 Insufficient cpu. " + no_preemption()


class TestSomebodyElseWasFaster:
    async def test_a_pod_that_got_a_node_elsewhere_is_dropped(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod()
        await cluster.add_node("n2")
        cluster.api.change("pods", "p", spec={"nodeName": "n2"})
        await cluster.settle()
        cluster.api.let_go()
        await cluster.clock.advance(60)
        assert cluster.bindings() == ["p n1"]
        assert cluster.node_of() == "n2"
        assert cluster.events("Scheduled") == []
        assert "is already assigned to node" in cluster.events("FailedScheduling")[0]

    async def test_its_condition_is_not_touched(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod()
        status = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
        cluster.api.change("pods", "p", spec={"nodeName": "n2"}, status=status)
        await cluster.settle()
        cluster.api.let_go()
        await cluster.settle()
        assert cluster.condition()["status"] == "True"

    async def test_the_room_it_had_is_used_by_a_pod_that_waits_for_it(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("p", requests=BIG)
        await cluster.add_pod("other", requests=BIG)
        cluster.api.change("pods", "p", spec={"nodeName": "elsewhere"})
        cluster.api.let_go()
        await cluster.settle()
        assert cluster.node_of("other") == "n1"


class TestThePodIsGone:
    async def test_it_is_dropped(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod()
        cluster.api.remove("pods", "p")
        await cluster.settle()
        cluster.api.let_go()
        await cluster.clock.advance(60)
        assert cluster.bindings() == ["p n"]
        assert cluster.api.writes("patch pods/status") == []

    async def test_others_get_its_room_without_waiting_for_the_binding_to_fail(self, cluster: Running) -> None:
        cluster.api.hold("p")
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("p", requests=BIG)
        await cluster.add_pod("other", requests=BIG)
        assert cluster.condition("other")["reason"] == "Unschedulable"
        cluster.api.remove("pods", "p")
        await cluster.settle()
        assert cluster.node_of("other") == "n"

    async def test_it_is_enough_that_its_deletion_has_begun(self, cluster: Running) -> None:
        cluster.api.hold("p")
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("p", requests=BIG)
        await cluster.add_pod("other", requests=BIG)
        cluster.api.change("pods", "p", metadata={"finalizers": ["example.com/hold"]})
        await cluster.api.client().delete("pods", "p", "default")
        await cluster.settle()
        assert cluster.node_of("other") == "n"

    async def test_a_namesake_that_is_being_bound_keeps_its_room(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("p", requests=BIG)
        cluster.api.remove("pods", "p")
        await cluster.add_pod("p", requests=BIG)
        cluster.api.react(BIND, errors.not_found("", "pods", "p"))
        cluster.api.let_go()
        await cluster.settle()
        assert cluster.node_of() == "n"
        await cluster.add_pod("other", requests=BIG)
        assert not cluster.node_of("other")

    async def test_not_found_does_not_lose_a_pod_that_is_there(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node()
        cluster.api.react(BIND, errors.not_found("", "pods", "p"))
        await cluster.add_pod()
        await cluster.clock.advance(1)
        assert cluster.node_of() == "n"


class TestManyBindings:
    async def test_no_more_than_so_many_are_under_way_at_a_time(self, cluster: Running) -> None:
        cluster.api.hold()
        await cluster.start(config=SchedulerConfig(bindings_in_flight=2))
        await cluster.add_node()
        for number in range(5):
            await cluster.add_pod(f"p{number}")
        assert cluster.api.begun == ["p0", "p1"]
        cluster.api.let_go()
        await cluster.settle()
        assert len(cluster.bindings()) == 5


class Books(Reserve):
    """Writes down what it is asked."""

    def __init__(self, name: str, said: list[str], failing: int = 0) -> None:
        self.name = name  # type: ignore[misc]
        self.said = said
        self.failing = failing

    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        self.said.append(f"+{self.name}")
        if self.failing:
            self.failing -= 1
            raise RuntimeError("sold out")

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        self.said.append(f"-{self.name}")


class TestReserving:
    async def test_it_comes_before_the_binding_and_stays(self, cluster: Running) -> None:
        said: list[str] = []
        await cluster.start(Books("A", said), Books("B", said))
        await cluster.add_node()
        await cluster.add_pod()
        assert said == ["+A", "+B"]

    async def test_a_binding_that_fails_undoes_it_last_first(self, cluster: Running) -> None:
        said: list[str] = []
        await cluster.start(Books("A", said), Books("B", said))
        await cluster.add_node()
        cluster.api.react(BIND, conflict())
        await cluster.add_pod()
        assert said == ["+A", "+B", "-B", "-A"]

    async def test_one_that_cannot_reserve_fails_the_try_and_all_are_undone(self, cluster: Running) -> None:
        said: list[str] = []
        await cluster.start(Books("A", said, failing=1), Books("B", said))
        await cluster.add_node()
        await cluster.add_pod(requests=BIG)
        assert said == ["+A", "-B", "-A"]
        assert cluster.bindings() == []
        assert cluster.events("FailedScheduling") == ['running Reserve plugin "A": sold out']
        assert cluster.condition()["reason"] == "SchedulerError"
        await cluster.clock.advance(1)
        assert cluster.node_of() == "n"


class TestPluginsFail:
    async def test_it_is_the_schedulers_error_and_the_pod_is_tried_again(self, cluster: Running) -> None:
        class Flaky(Filter):
            name = "Flaky"
            tries = 0

            def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
                self.tries += 1
                if self.tries == 1:
                    raise KeyError("oops")
                return ()

        await cluster.start(Flaky())
        await cluster.add_node()
        await cluster.add_pod()
        assert cluster.events("FailedScheduling") == ["running \"Flaky\" filter plugin: 'oops'"]
        assert cluster.condition()["reason"] == "SchedulerError"
        await cluster.clock.advance(1)
        assert cluster.node_of() == "n"

    async def test_one_that_fails_to_make_room_does_not_hide_why_there_is_none(self, cluster: Running) -> None:
        class Broken(PostFilter):
            name = "Broken"

            def post_filter(self, *_: object) -> PostFilterResult:
                raise RuntimeError("cannot evict")

        await cluster.start(Broken())
        await cluster.add_node(unschedulable=True)
        await cluster.add_pod()
        assert cluster.events("FailedScheduling") == [
            "0/1 nodes are available: 1 node(s) were unschedulable. cannot evict"
        ]

    async def test_a_pod_that_makes_a_plugin_fail_does_not_keep_others_waiting(self, cluster: Running) -> None:
        bad = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        bad["labelSelector"] = {"matchExpressions": [{"key": "a", "operator": "Nonsense"}]}
        await cluster.start()
        await cluster.add_node()
        await cluster.add_pod("bad", topologySpreadConstraints=[bad], priority=10)
        await cluster.add_pod("good")
        assert cluster.node_of("good") == "n"
        assert cluster.condition("bad")["reason"] == "SchedulerError"

    async def test_one_that_cannot_tell_whether_it_has_work_or_undo_it_costs_one_pod_its_node(
        self, cluster: Running
    ) -> None:
        class Broken(PreBind, Reserve):
            name = "Broken"

            def has_work(self, state: CycleState, pod: PodInfo, node: str) -> bool:
                if pod.labels:
                    raise RuntimeError("no idea")
                return False

            def reserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
                pass

            def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
                raise RuntimeError("lost the books")

            async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
                raise AssertionError("it has no work")

        await cluster.start(Broken())
        await cluster.add_node()
        await cluster.add_pod("bad", labels={"app": "bad"}, requests=BIG)
        assert cluster.events("FailedScheduling") == ['running PreBind plugin "Broken": no idea']
        await cluster.add_pod("good", requests=BIG)
        assert cluster.node_of("good") == "n"

    async def test_one_that_cannot_tell_whether_it_binds_costs_one_pod_its_node(self, cluster: Running) -> None:
        class Broken(Bind):
            name = "Broken"

            def handles(self, state: CycleState, pod: PodInfo, node: str) -> bool:
                if pod.labels:
                    raise RuntimeError("no idea")
                return False

            async def bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
                raise AssertionError("it does not handle the pod")

        bind = PluginSet(enabled=(Enabled("Broken"), Enabled("DefaultBinder")), disabled=frozenset("*"))
        config = SchedulerConfig(profiles=(ProfileConfig(points={"bind": bind}),))
        await cluster.start(config=config, registry={"Broken": lambda *_: Broken()})
        await cluster.add_node()
        await cluster.add_pod("bad", labels={"app": "bad"}, requests=BIG)
        assert cluster.events("FailedScheduling") == ['running Bind plugin "Broken": no idea']
        await cluster.add_pod("good", requests=BIG)
        assert cluster.node_of("good") == "n"

    async def test_a_gate_that_fails_stays_shut_until_its_pod_changes(self, cluster: Running) -> None:
        class Broken(PreEnqueue):
            name = "Broken"
            wakes = frozenset()

            def pre_enqueue(self, pod: PodInfo) -> str | None:
                if pod.labels.get("app") == "bad":
                    raise RuntimeError("no idea")
                return None

        await cluster.start(Broken())
        await cluster.add_node()
        await cluster.add_pod("bad", labels={"app": "bad"})
        await cluster.add_pod("good")
        assert (cluster.node_of("bad"), cluster.node_of("good")) == ("", "n")
        cluster.api.change("pods", "bad", metadata={"labels": {"app": "mended"}})
        await cluster.settle()
        assert cluster.node_of("bad") == "n"


class TestRestart:
    async def test_a_second_scheduler_takes_over_where_the_first_one_stopped(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("a", requests=BIG)
        await cluster.add_pod("b", requests=BIG)
        await cluster.stop()
        cluster.api.remove("pods", "a")
        await cluster.start()
        assert cluster.node_of("b") == "n1"

    async def test_a_lost_watch_changes_nothing(self, cluster: Running) -> None:
        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("a", requests=BIG)
        await cluster.add_pod("b", requests=BIG)
        cluster.api.remove("pods", "a")
        made = pod("c", requests=BIG)
        del made["metadata"]["uid"]
        cluster.api.add("pods", made)
        cluster.api.compact()
        cluster.api.end_watches()
        await cluster.clock.advance(60)
        assert sum(cluster.node_of(name) == "n1" for name in ("b", "c")) == 1
        assert meta.condition(cluster.pod("c" if cluster.node_of("b") else "b"), "PodScheduled")
