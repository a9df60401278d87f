"""Which pod is tried next, and when one that failed is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kubecore.clock import VirtualClock
from kubecore.scheduler.events import (
    ClusterEvent,
    EventKind,
    NodeEvent,
    PodEvent,
    node_added,
    pod_changes,
    pod_removed,
)
from kubecore.scheduler.framework import PreEnqueue
from kubecore.scheduler.plugins.scheduling_gates import SchedulingGates
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import DEFAULT_NAME, Profile
from kubecore.scheduler.queue import Place, QueuedPod, SchedulingQueue
from tests.unit.scheduler.builders import RefusesNothing, info, node


class Fit(RefusesNothing):
    name = "Fit"
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.POD_REMOVED, EventKind.POD_SCALED_DOWN})


class Picky(RefusesNothing):
    """Is helped by the node of the pod's name alone."""

    name = "Picky"
    wakes = frozenset({EventKind.NODE_ADDED})

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        return isinstance(event, NodeEvent) and event.new is not None and pod.key == f"default/{event.new.name}"


class Broken(RefusesNothing):
    name = "Broken"
    wakes = frozenset({EventKind.NODE_ADDED})

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        raise RuntimeError("a bug")


class Quota(PreEnqueue):
    """A gate that a node opens."""

    name = "Quota"
    wakes = frozenset({EventKind.NODE_ADDED})
    shut = False

    def pre_enqueue(self, pod: PodInfo) -> str | None:
        return "quota exceeded" if self.shut else None


A_NODE = node_added(node("new"))


@pytest.fixture
def queue(clock: VirtualClock) -> Iterator[SchedulingQueue]:
    queue = SchedulingQueue(clock, {DEFAULT_NAME: Profile.of([SchedulingGates(), Fit(), Picky(), Broken()])})
    yield queue
    queue.close()


def names(queue: SchedulingQueue) -> list[str]:
    """Take out all that can be tried now."""
    found = []
    while (entry := queue.pop_now()) is not None:
        found.append(entry.pod.key.partition("/")[2])
    return found


def take(queue: SchedulingQueue) -> QueuedPod:
    entry = queue.pop_now()
    assert entry is not None
    return entry


def keep_busy(queue: SchedulingQueue) -> None:
    """Something of high priority to try first, so that back-offs matter."""
    queue.add(info("busy", priority=1000))


class TestOrder:
    def test_higher_priority_goes_first(self, queue: SchedulingQueue) -> None:
        for name, priority in (("low", -5), ("none", None), ("high", 10)):
            queue.add(info(name, priority=priority))
        assert names(queue) == ["high", "none", "low"]

    async def test_among_equals_who_came_first_goes_first(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        for name in ("a", "c", "b"):
            queue.add(info(name))
            await clock.advance(0.001)
        assert names(queue) == ["a", "c", "b"]

    async def test_a_pod_that_failed_queues_up_again_behind_its_equals(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        queue.add(info("failing"))
        entry = take(queue)
        await clock.advance(1)
        queue.add(info("waiting"))
        await clock.advance(1)
        queue.give_back(entry, ())
        await clock.advance(1)
        assert names(queue) == ["waiting", "failing"]

    def test_a_pod_whose_priority_changes_while_it_waits_changes_its_place(self, queue: SchedulingQueue) -> None:
        queue.add(info("a"))
        queue.add(info("b"))
        queue.update(info("b", priority=7), ())
        assert names(queue) == ["b", "a"]

    async def test_pop_waits_until_there_is_a_pod(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        popped = asyncio.create_task(queue.pop())
        await clock.settle()
        assert not popped.done()
        queue.add(info())
        await clock.settle()
        assert popped.result().pod.key == "default/p"


class TestErrors:
    """A pod that comes back refused by nobody: the server or a plugin failed."""

    async def test_the_pause_doubles_from_one_second_to_ten(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        for seconds in (1, 2, 4, 8, 10, 10):
            queue.give_back(take(queue), ())
            assert queue.place_of("default/p") is Place.BACKING_OFF
            await clock.advance(seconds - 0.01)
            assert names(queue) == []
            await clock.advance(0.01)
            assert queue.place_of("default/p") is Place.ACTIVE

    async def test_a_refusal_in_between_begins_anew(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        for _ in range(3):
            queue.give_back(take(queue), ())
            await clock.advance(10)
        queue.give_back(take(queue), {"Fit"})
        queue.happened(A_NODE)
        queue.give_back(take(queue), ())
        await clock.advance(0.99)
        assert names(queue) == []
        await clock.advance(0.01)
        assert names(queue) == ["p"]

    async def test_refusals_before_do_not_make_it_longer(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        for _ in range(4):
            queue.give_back(take(queue), {"Fit"})
            queue.happened(A_NODE)
        queue.give_back(take(queue), ())
        await clock.advance(1)
        assert names(queue) == ["p"]

    async def test_they_wait_even_if_there_is_nothing_else_to_do(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        queue.add(info())
        queue.give_back(take(queue), ())
        queue.happened(A_NODE)
        assert names(queue) == []

    async def test_they_wake_whoever_waits_in_pop(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        queue.give_back(take(queue), ())
        popped = asyncio.create_task(queue.pop())
        await clock.advance(1)
        assert popped.result().attempts == 2


class TestRefusals:
    def refuse(self, queue: SchedulingQueue, name: str = "p", *plugins: str) -> None:
        queue.add(info(name))
        queue.give_back(take(queue), plugins or ("Fit",))

    async def test_nothing_but_an_event_wakes_them_soon(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        self.refuse(queue)
        await clock.advance(299)
        assert queue.place_of("default/p") is Place.STUCK
        assert names(queue) == []

    def test_an_event_that_their_plugin_waits_for_does(self, queue: SchedulingQueue) -> None:
        self.refuse(queue)
        queue.happened(A_NODE)
        assert names(queue) == ["p"]

    def test_one_that_none_of_their_plugins_waits_for_does_not(self, queue: SchedulingQueue) -> None:
        self.refuse(queue, "p", "Picky")
        queue.happened(pod_removed(info("other", node="n")))
        assert queue.place_of("default/p") is Place.STUCK

    def test_a_plugin_tells_whom_an_event_helps(self, queue: SchedulingQueue) -> None:
        self.refuse(queue, "a", "Picky")
        self.refuse(queue, "b", "Picky")
        queue.happened(node_added(node("b")))
        assert names(queue) == ["b"]

    def test_any_of_several_plugins_is_enough(self, queue: SchedulingQueue) -> None:
        self.refuse(queue, "p", "Picky", "Fit")
        queue.happened(A_NODE)
        assert names(queue) == ["p"]

    def test_a_plugin_that_cannot_tell_is_taken_to_say_yes(self, queue: SchedulingQueue) -> None:
        self.refuse(queue, "p", "Broken")
        queue.happened(A_NODE)
        assert names(queue) == ["p"]

    def test_what_happened_during_the_try_counts_too(self, queue: SchedulingQueue) -> None:
        queue.add(info())
        entry = take(queue)
        queue.happened(A_NODE)
        queue.give_back(entry, {"Fit"})
        assert queue.place_of("default/p") is Place.BACKING_OFF

    def test_what_happened_before_the_try_does_not(self, queue: SchedulingQueue) -> None:
        queue.happened(A_NODE)
        queue.add(info())
        queue.happened(A_NODE)
        queue.give_back(take(queue), {"Fit"})
        assert queue.place_of("default/p") is Place.STUCK

    async def test_after_five_minutes_they_are_tried_all_the_same(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        self.refuse(queue)
        await clock.advance(300)
        assert names(queue) == ["p"]

    async def test_five_minutes_are_those_of_each_pod(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        self.refuse(queue, "a")
        await clock.advance(100)
        self.refuse(queue, "b")
        await clock.advance(200)
        assert names(queue) == ["a"]
        assert queue.place_of("default/b") is Place.STUCK
        await clock.advance(100)
        assert names(queue) == ["b"]

    async def test_a_pod_that_stuck_at_any_moment_is_found_within_half_a_minute_of_its_time(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        for number in range(40):
            self.refuse(queue, f"p{number}")
            await clock.advance(1)
        await clock.advance(300 + 30 - 40)
        assert {queue.place_of(f"default/p{number}") for number in range(30)} == {Place.ACTIVE}


class TestPauseAfterRefusal:
    """A pod that was refused and woken pauses as well, but only while the scheduler has something else to do."""

    def refused_and_woken(self, queue: SchedulingQueue, name: str = "p", priority: int = 0) -> None:
        queue.add(info(name, priority=priority))
        queue.give_back(take(queue), {"Fit"})
        queue.happened(A_NODE)

    async def test_whoever_is_active_goes_first(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        self.refused_and_woken(queue, priority=100)
        queue.add(info("active"))
        assert names(queue) == ["active", "p"]

    async def test_after_the_pause_priority_counts_again(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        self.refused_and_woken(queue, priority=100)
        queue.add(info("active"))
        await clock.advance(1)
        assert names(queue) == ["p", "active"]

    async def test_the_pause_doubles_with_each_refusal(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        for seconds in (1, 2, 4, 8, 10, 10):
            queue.give_back(take(queue), {"Fit"})
            queue.happened(A_NODE)
            await clock.advance(seconds - 0.01)
            assert queue.place_of("default/p") is Place.BACKING_OFF
            await clock.advance(0.01)
            assert queue.place_of("default/p") is Place.ACTIVE

    async def test_one_that_waited_long_enough_for_its_event_does_not_pause(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        queue.add(info())
        queue.give_back(take(queue), {"Fit"})
        await clock.advance(2)
        queue.happened(A_NODE)
        assert queue.place_of("default/p") is Place.ACTIVE

    async def test_pauses_that_end_within_one_second_are_cut_short_in_order_of_priority(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        self.refused_and_woken(queue, "first", priority=0)
        await clock.advance(0.1)
        self.refused_and_woken(queue, "second", priority=5)
        assert names(queue) == ["second", "first"]

    async def test_cutting_it_short_wakes_whoever_waits_in_pop(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        queue.add(info())
        entry = take(queue)
        popped = asyncio.create_task(queue.pop())
        await clock.settle()
        queue.give_back(entry, {"Fit"})
        queue.happened(A_NODE)
        await clock.settle()
        assert popped.done()


class TestGates:
    GATED = [{"name": "example.com/quota"}]

    def test_a_gated_pod_is_not_tried(self, queue: SchedulingQueue) -> None:
        queue.add(info(schedulingGates=self.GATED))
        assert names(queue) == []
        assert "default/p" in queue

    async def test_neither_events_nor_time_open_a_gate(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info(schedulingGates=self.GATED))
        queue.happened(A_NODE)
        await clock.advance(1000)
        assert names(queue) == []

    async def test_a_gated_pod_costs_no_timer(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info(schedulingGates=self.GATED))
        assert clock.next_timer() is None
        queue.add(info("other"))
        queue.give_back(take(queue), {"Fit"})
        queue.remove("default/other")
        await clock.advance(300)
        assert clock.next_timer() is None

    def test_a_gate_may_be_opened_by_an_event(self, clock: VirtualClock) -> None:
        quota = Quota()
        quota.shut = True
        queue = SchedulingQueue(clock, {DEFAULT_NAME: Profile.of([quota])})
        queue.add(info())
        queue.happened(A_NODE)
        assert queue.place_of("default/p") is Place.STUCK
        quota.shut = False
        queue.happened(pod_removed(info("other", node="n")))
        assert queue.place_of("default/p") is Place.STUCK
        queue.happened(A_NODE)
        assert names(queue) == ["p"]

    def test_a_gate_that_tells_is_not_tried_until_it_does(self, clock: VirtualClock) -> None:
        quota = Quota()
        quota.shut, quota.tells = True, True
        queue = SchedulingQueue(clock, {DEFAULT_NAME: Profile.of([quota, Fit()])})
        queue.add(info())
        quota.shut = False
        queue.happened(A_NODE)
        assert names(queue) == []
        queue.reopen("default/p")
        assert queue.place_of("default/p") is Place.STUCK
        queue.happened(A_NODE)
        assert names(queue) == ["p"]

    def test_taking_away_the_last_gate_does_without_any_pause(self, queue: SchedulingQueue) -> None:
        gated, free = info(schedulingGates=self.GATED), info(schedulingGates=[])
        queue.add(gated)
        queue.update(free, list(pod_changes(gated, free)))
        assert queue.place_of("default/p") is Place.ACTIVE

    def test_taking_away_one_of_two_does_not(self, queue: SchedulingQueue) -> None:
        two, one = info(schedulingGates=[*self.GATED, {"name": "b"}]), info(schedulingGates=self.GATED)
        queue.add(two)
        queue.update(one, list(pod_changes(two, one)))
        assert queue.place_of("default/p") is Place.STUCK

    def test_another_pods_gates_are_no_concern(self, queue: SchedulingQueue) -> None:
        queue.add(info(schedulingGates=self.GATED))
        queue.happened(PodEvent(EventKind.POD_GATES_GONE, info("q", schedulingGates=self.GATED), info("q")))
        assert queue.place_of("default/p") is Place.STUCK


class TestChanges:
    def test_a_change_that_helps_wakes_the_pod(self, queue: SchedulingQueue) -> None:
        large, small = info(requests={"cpu": "2"}), info(requests={"cpu": "1"})
        queue.add(large)
        queue.give_back(take(queue), {"Fit"})
        queue.update(small, list(pod_changes(large, small)))
        assert take(queue).pod is small

    def test_any_other_change_does_not(self, queue: SchedulingQueue) -> None:
        before, after = info(), info(labels={"a": "b"})
        queue.add(before)
        queue.give_back(take(queue), {"Fit"})
        queue.update(after, list(pod_changes(before, after)))
        assert queue.place_of("default/p") is Place.STUCK

    def test_a_pod_that_waits_its_turn_is_tried_as_it_is_then(self, queue: SchedulingQueue) -> None:
        queue.add(info())
        queue.update(info(labels={"new": "yes"}), ())
        assert take(queue).pod.labels == {"new": "yes"}
        assert names(queue) == []

    async def test_so_is_one_that_pauses(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        queue.give_back(take(queue), ())
        queue.update(info(labels={"new": "yes"}), ())
        assert names(queue) == []
        await clock.advance(1)
        assert take(queue).pod.labels == {"new": "yes"}

    def test_a_change_during_the_try_counts_when_it_fails(self, queue: SchedulingQueue) -> None:
        large, small = info(requests={"cpu": "2"}), info(requests={"cpu": "1"})
        queue.add(large)
        entry = take(queue)
        queue.update(small, list(pod_changes(large, small)))
        queue.give_back(entry, {"Fit"}, small)
        assert take(queue).pod is small

    def test_a_pod_that_is_being_bound_comes_back_as_it_is_then(self, queue: SchedulingQueue) -> None:
        queue.add(info())
        entry = take(queue)
        queue.binding(entry)
        changed = info(labels={"new": "yes"})
        queue.update(changed, ())
        assert entry.pod.labels == {}
        queue.give_back(entry, (), changed)
        assert entry.pod is changed

    def test_a_changed_pod_that_is_not_known_is_new(self, queue: SchedulingQueue) -> None:
        queue.update(info(), ())
        assert names(queue) == ["p"]

    async def test_a_namesake_begins_without_the_others_past(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info(uid="old"))
        queue.give_back(take(queue), ())
        queue.update(info(uid="new"), ())
        entry = take(queue)
        assert (entry.pod.uid, entry.attempts) == ("new", 1)


class TestLeaving:
    def test_a_removed_pod_is_not_tried(self, queue: SchedulingQueue) -> None:
        queue.add(info())
        queue.remove("default/p")
        assert names(queue) == []
        assert len(queue) == 0

    async def test_not_even_when_its_pause_is_over(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.add(info())
        queue.give_back(take(queue), ())
        queue.remove("default/p")
        await clock.advance(1)
        assert names(queue) == []

    async def test_the_end_of_a_pause_that_was_cut_short_does_not_disturb_the_try(
        self, queue: SchedulingQueue, clock: VirtualClock
    ) -> None:
        queue.add(info())
        queue.give_back(take(queue), {"Fit"})
        queue.happened(A_NODE)
        take(queue)
        await clock.advance(1)
        assert queue.place_of("default/p") is Place.TRYING

    def test_nor_does_it_come_back_from_a_try_under_way(self, queue: SchedulingQueue) -> None:
        queue.add(info())
        entry = take(queue)
        queue.remove("default/p")
        queue.give_back(entry, {"Fit"})
        assert "default/p" not in queue

    def test_a_try_of_a_pod_that_is_gone_does_not_end_that_of_its_namesake(self, queue: SchedulingQueue) -> None:
        queue.add(info(uid="old"))
        old = take(queue)
        queue.update(info(uid="new"), ())
        new = take(queue)
        queue.done(old)
        queue.give_back(old, ())
        assert queue.place_of("default/p") is Place.TRYING
        queue.done(new)
        assert "default/p" not in queue

    async def test_no_timer_outlives_the_queue(self, queue: SchedulingQueue, clock: VirtualClock) -> None:
        for name, plugins in (("a", {"Fit"}), ("b", set[str]())):
            queue.add(info(name))
            queue.give_back(take(queue), plugins)
        queue.close()
        assert clock.next_timer() is None
