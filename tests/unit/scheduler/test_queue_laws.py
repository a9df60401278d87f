"""What holds of the queue whatever is done to it: it loses no pod, and gives each to one at a time."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kubecore.clock import VirtualClock
from kubecore.scheduler.events import EventKind, node_added, pod_changes, pod_removed
from kubecore.scheduler.plugins.scheduling_gates import SchedulingGates
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import DEFAULT_NAME, Profile
from kubecore.scheduler.queue import Place, QueuedPod, SchedulingQueue
from tests.unit.scheduler.builders import RefusesNothing, info, node


class Nodes(RefusesNothing):
    name = "Nodes"
    wakes = frozenset({EventKind.NODE_ADDED})


class Room(RefusesNothing):
    name = "Room"
    wakes = frozenset({EventKind.POD_REMOVED, EventKind.POD_SCALED_DOWN})


NAMES = st.sampled_from([f"p{number}" for number in range(5)])
REFUSALS = st.sampled_from([(), ("Nodes",), ("Room",), ("Nodes", "Room")])
GATE = [{"name": "shut"}]


class QueueLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.queue = SchedulingQueue(self.clock, {DEFAULT_NAME: Profile.of([SchedulingGates(), Nodes(), Room()])})
        self.known: dict[str, PodInfo] = {}
        self.trying: dict[str, QueuedPod] = {}
        self.uid = 0

    def advance(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.advance(seconds))

    def make(self, name: str, *, gated: bool = False, cpu: int = 1, priority: int = 0, uid: str = "") -> PodInfo:
        self.uid += 1
        gates = GATE if gated else []
        requests = {"cpu": str(cpu)}
        return info(name, uid=uid or str(self.uid), schedulingGates=gates, requests=requests, priority=priority)

    def take(self, entry: QueuedPod) -> None:
        key = entry.pod.key
        assert entry.pod is self.known[key], "tried as it is now"
        assert not entry.pod.spec["schedulingGates"], "no gate is passed"
        assert key not in self.trying, "no pod is given out twice"
        self.trying[key] = entry

    # ------------------------------------------------------------------ what can be done to it
    @rule(name=NAMES, gated=st.booleans(), priority=st.integers(0, 2))
    def add(self, name: str, gated: bool, priority: int) -> None:
        if f"default/{name}" not in self.known:
            pod = self.make(name, gated=gated, priority=priority)
            self.queue.add(pod)
            self.known[pod.key] = pod

    @precondition(lambda self: self.known)
    @rule(data=st.data(), cpu=st.integers(1, 3))
    def change(self, data: st.DataObject, cpu: int) -> None:
        old = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        gated = bool(old.spec["schedulingGates"]) and data.draw(st.booleans())
        name = old.key.partition("/")[2]
        new = self.make(name, gated=gated, cpu=cpu, priority=old.priority, uid=old.uid)
        self.queue.update(new, list(pod_changes(old, new)))
        self.known[new.key] = new

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def recreate(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.known)))
        pod = self.make(key.partition("/")[2], gated=data.draw(st.booleans()))
        self.queue.update(pod, ())
        self.known[key] = pod
        self.trying.pop(key, None)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.known)))
        self.queue.remove(key)
        del self.known[key]
        self.trying.pop(key, None)

    @rule()
    def pop(self) -> None:
        active = [pod for key, pod in self.known.items() if self.queue.place_of(key) is Place.ACTIVE]
        entry = self.queue.pop_now()
        if active:
            assert entry is not None
            assert entry.pod.priority == max(pod.priority for pod in active)
        if entry is not None:
            self.take(entry)

    @precondition(lambda self: self.trying)
    @rule(data=st.data(), refused_by=REFUSALS)
    def fail(self, data: st.DataObject, refused_by: tuple[str, ...]) -> None:
        key = data.draw(st.sampled_from(sorted(self.trying)))
        entry = self.trying.pop(key)
        if data.draw(st.booleans()):
            self.queue.binding(entry)
            refused_by = ()
        self.queue.give_back(entry, refused_by, self.known[key])

    @precondition(lambda self: self.trying)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.trying)))
        self.queue.done(self.trying.pop(key))
        del self.known[key]

    @rule(room=st.booleans())
    def event(self, room: bool) -> None:
        self.queue.happened(pod_removed(info("other", node="n")) if room else node_added(node()))

    @rule(seconds=st.sampled_from([0.3, 1.0, 7.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    # ------------------------------------------------------------------ what holds
    @invariant()
    def it_knows_the_pods_it_was_given(self) -> None:
        assert len(self.queue) == len(self.known)
        assert all(self.queue.place_of(key) is not Place.GONE for key in self.known)
        assert all(self.queue.place_of(key) is Place.TRYING for key in self.trying)

    def teardown(self) -> None:
        """In the end every pod comes out once, but those that are gated."""
        for entry in self.trying.values():
            self.queue.give_back(entry, ("Nodes",))
        self.trying.clear()
        self.advance(400)
        while (left := self.queue.pop_now()) is not None:
            self.take(left)
        assert self.trying.keys() == {key for key, pod in self.known.items() if not pod.spec["schedulingGates"]}
        self.queue.close()
        assert self.clock.next_timer() is None
        self.loop.close()


TestQueueLaws = QueueLaws.TestCase
TestQueueLaws.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
