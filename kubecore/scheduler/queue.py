"""The order in which pods are tried, and when each is tried again. (kubernetes `pkg/scheduler/backend/queue`.)"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import logging
import math
from collections import Counter as Counts
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecore.clock import Clock, Timer
from kubecore.scheduler.events import ClusterEvent, label_of
from kubecore.scheduler.extenders import RefusedByExtender
from kubecore.scheduler.framework import Plugin, PreEnqueue, QueueSort
from kubecore.scheduler.plugins.priority_sort import PrioritySort
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile

log = logging.getLogger(__name__)

# A pod that no event woke for this long is tried again all the same; how often such ones are looked for.
_FORGOTTEN_SECONDS = 300.0
_SWEEP_SECONDS = 30.0
# Back-offs that end within the same one of these windows count as equal when pods are taken out before their end.
_WINDOW_SECONDS = 1.0

# Why pods come to wait, in kube-scheduler's words, where no event of the cluster is the reason.
_ADDED = "UnschedulablePodAdd"
_UPDATED = "UnschedulablePodUpdate"
_FAILED = "ScheduleAttemptFailure"
_BACKED_OFF = "BackoffComplete"
_FORCED = "ForceActivate"
_FORGOTTEN = "UnschedulableTimeout"


class Place(enum.Enum):
    ACTIVE = "to be tried next"
    BACKING_OFF = "to be tried after a pause"
    STUCK = "waits for an event that can help, or for its gates to open"
    TRYING = "given out by `pop`"
    BINDING = "given a node, which is being written"
    GONE = "not in the queue any more"


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long a pod waits after a try that failed, in seconds: doubled each time, up to a maximum."""

    initial: float = 1.0
    maximum: float = 10.0

    def seconds(self, failures: int) -> float:
        return min(self.initial * 2.0 ** min(failures - 1, 60), self.maximum)


Order = tuple[int, Any, int]
"""What waiting pods are compared by: whether the QueueSort plugin failed, what it said, in which order they came."""


class _Sorted(QueueSort):
    """A QueueSort plugin of somebody else's, whose keys may turn out not to be comparable."""

    name = "QueueSort"

    def __init__(self, plugin: QueueSort) -> None:
        self._plugin = plugin

    def order(self, pod: PodInfo, since: float) -> Any:
        return _Key(self._plugin.order(pod, since), self._plugin.name)


class _Key:
    """Equal to what it cannot be compared with."""

    __slots__ = ("_given", "_plugin")

    def __init__(self, given: Any, plugin: str) -> None:
        self._given = given
        self._plugin = plugin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and not self < other and not other < self

    def __hash__(self) -> int:
        return 0

    def __lt__(self, other: _Key) -> bool:
        try:
            return bool(self._given < other._given)
        except Exception:
            log.exception("keys of plugin %s cannot be compared", self._plugin)
            return False


@dataclass(eq=False, slots=True)
class QueuedPod:
    """A pod that waits, and what became of its tries. Only the queue changes it."""

    pod: PodInfo
    backs_off: BackOff
    sort: QueueSort
    since: float
    """When it came, or came back from its last try."""
    sequence: int
    attempts: int = 0
    refusals: int = 0
    errors: int = 0
    """In a row."""
    refused_by: frozenset[str] = frozenset()
    gated: bool = False
    silent: bool = False
    """The gate's plugin tells when it opens."""
    first_ready: float = -1.0
    """When no gate was shut for the first time."""
    tried: float = -1.0
    """When its last try began."""
    place: Place = Place.GONE
    ticket: int = 0
    """Counts the moves: a heap entry of an older ticket is stale."""
    seen: list[ClusterEvent] = field(default_factory=list)
    """What happened while the pod was being tried."""

    def order(self) -> Order:
        """By the profile's QueueSort plugin; of equals, who came first. One that it cannot place comes last."""
        try:
            return (0, self.sort.order(self.pod, self.since), self.sequence)
        except Exception:
            log.exception("plugin %s cannot tell when the turn of %s is", self.sort.name, self.pod.key)
            return (1, None, self.sequence)

    @property
    def back_off_ends(self) -> float:
        count = self.errors or self.refusals
        if not count:
            return 0.0
        return self.since + self.backs_off.seconds(count)


class SchedulingQueue:
    """Every pod in `_known` is in exactly one place, its entry's `place`; `_stuck` holds those that are STUCK, by who
    refused them, but for the `silent` ones, `_trying` those that are TRYING. The heaps hold the ACTIVE and the
    BACKING_OFF ones, and stale entries of pods that have moved since, which their ticket tells.

    A pod that came back because of an error waits out its back-off. One that was refused and then woken by an event
    does so only while there is something else to do: `pop` takes it rather than wait (KEP-5142).
    """

    def __init__(self, clock: Clock, profiles: Mapping[str, Profile], back_off: BackOff | None = None) -> None:
        """`profiles` by the scheduler's name; pods of other schedulers must not be given to the queue."""
        self._clock = clock
        self._back_off = back_off or BackOff()
        self._plugins: dict[str, dict[str, Plugin]] = {
            name: {one.name: one for one in (RefusedByExtender(), *profile.plugins())}
            for name, profile in profiles.items()
        }
        self._gates = {name: profile.at(PreEnqueue) for name, profile in profiles.items()}
        sorts = [sort for profile in profiles.values() for sort in profile.at(QueueSort)]
        # all profiles share one order
        sort = sorts[0] if sorts else PrioritySort()
        self._sort = sort if isinstance(sort, PrioritySort) else _Sorted(sort)
        self._known: dict[str, QueuedPod] = {}
        self._stuck: dict[tuple[str, frozenset[str]], dict[str, QueuedPod]] = {}
        self._trying: set[QueuedPod] = set()
        self._active: list[tuple[Order, int, QueuedPod]] = []
        self._backing_off: list[tuple[float, int, int, QueuedPod]] = []
        self._impatient: list[tuple[float, Order, int, QueuedPod]] = []
        self._sequence = itertools.count()
        self._available = asyncio.Event()
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._sweep: Timer | None = None
        self.incoming: Counts[tuple[Place, str]] = Counts()
        """How many pods came to be ACTIVE, BACKING_OFF or STUCK, by why, in kube-scheduler's words."""

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def entries(self) -> list[QueuedPod]:
        """On any thread."""
        return list(self._known.values())

    def place_of(self, key: str) -> Place:
        entry = self._known.get(key)
        return entry.place if entry is not None else Place.GONE

    # ------------------------------------------------------------------ pods come, change and go
    def add(self, pod: PodInfo) -> None:
        """A pod without node was seen for the first time."""
        if pod.key in self._known:
            self.update(pod, ())
            return
        entry = QueuedPod(pod, self._back_off, self._sort, self._clock.monotonic(), next(self._sequence))
        self._known[pod.key] = entry
        self._release(entry, _ADDED)

    def update(self, pod: PodInfo, events: Iterable[ClusterEvent]) -> None:
        """The pod itself changed; `events` say in what that matters to scheduling, which may be all it needed."""
        entry = self._known.get(pod.key)
        if entry is None or entry.pod.uid != pod.uid:
            self.remove(pod.key)
            self.add(pod)
            return
        if entry.place is Place.BINDING:
            # decided as it was; should the binding fail, the pod comes back as it is then
            return
        before, entry.pod = entry.order(), pod
        if entry.place is Place.TRYING:
            entry.seen.extend(events)
        elif entry.place is Place.STUCK:
            event = next((one for one in events if self._is_helped_by(entry, one)), None)
            if entry.gated or event is not None:
                self._release(entry, _UPDATED if event is None else label_of(event))
        elif entry.order() != before:
            self._put(entry, entry.place)

    def remove(self, key: str) -> None:
        """The pod is gone, or has a node."""
        entry = self._known.pop(key, None)
        if entry is not None:
            self._move(entry, Place.GONE)

    # ------------------------------------------------------------------ tries
    async def pop(self) -> QueuedPod:
        """The next pod to try; the caller must say `binding`, `done` or `give_back`."""
        while (entry := self.pop_now()) is None:
            self._available.clear()
            await self._available.wait()
        return entry

    def pop_now(self) -> QueuedPod | None:
        """Like `pop`; None when there is nothing to try."""
        entry = self._next_active() or self._next_impatient()
        if entry is None:
            return None
        self._move(entry, Place.TRYING)
        self._trying.add(entry)
        entry.attempts += 1
        entry.tried = self._clock.monotonic()
        return entry

    def binding(self, entry: QueuedPod) -> None:
        """The pod was given a node. From here only an error can bring it back, so that events do not matter to it."""
        if entry.place is Place.TRYING:
            self._move(entry, Place.BINDING)

    def done(self, entry: QueuedPod) -> None:
        """The pod has its node, or is not to be scheduled after all."""
        if self._known.get(entry.pod.key) is entry:
            self.remove(entry.pod.key)

    def give_back(self, entry: QueuedPod, refused_by: Iterable[str], pod: PodInfo | None = None) -> None:
        """The try failed. Refused by plugins, the pod waits for an event that can help; by nobody (an error of ours or
        the server's), it is tried again after its back-off. `pod` is what it has become meanwhile.
        """
        if entry.place not in (Place.TRYING, Place.BINDING):
            return
        entry.pod = pod or entry.pod
        entry.since = self._clock.monotonic()
        entry.refused_by = frozenset(refused_by)
        if entry.refused_by:
            entry.refusals += 1
            entry.errors = 0
        else:
            entry.errors += 1
        seen, entry.seen = entry.seen, []
        if not entry.refused_by or any(self._is_helped_by(entry, event) for event in seen):
            self._release(entry, _FAILED)
        else:
            self._put(entry, Place.STUCK, _FAILED)

    def activate(self, key: str) -> None:
        """Try the pod next if it waits, whatever it waits for except its gates."""
        entry = self._known.get(key)
        if entry is not None and entry.place in (Place.STUCK, Place.BACKING_OFF):
            self._release(entry, _FORCED, at_once=True)

    def reopen(self, key: str) -> None:
        """A gate whose plugin tells so has opened: the pod waits like others for an event that can help it."""
        entry = self._known.get(key)
        if entry is not None and entry.silent and entry.place is Place.STUCK:
            self._move(entry, Place.GONE)
            entry.gated = False
            self._put(entry, Place.STUCK)

    def happened(self, event: ClusterEvent, *, to_priority: int | None = None) -> None:
        """Wake the pods that were refused by a plugin for which this event changes things; if it does so only for
        those up to a priority, only these.
        """
        if not self._trying and not self._stuck:
            return
        for entry in self._trying:
            if _concerns(entry, to_priority):
                entry.seen.append(event)
        for (profile, refused_by), entries in list(self._stuck.items()):
            plugins = self._interested(profile, refused_by, event)
            if plugins:
                for entry in list(entries.values()):
                    if _concerns(entry, to_priority) and any(_helps(plugin, event, entry.pod) for plugin in plugins):
                        self._release(entry, label_of(event))

    def _is_helped_by(self, entry: QueuedPod, event: ClusterEvent) -> bool:
        plugins = self._interested(entry.pod.scheduler_name, entry.refused_by, event)
        return any(_helps(plugin, event, entry.pod) for plugin in plugins)

    def _interested(self, profile: str, names: frozenset[str], event: ClusterEvent) -> list[Plugin]:
        plugins = map(self._plugins[profile].get, names)
        return [plugin for plugin in plugins if plugin is not None and event.kind in plugin.wakes]

    # ------------------------------------------------------------------ places
    def _release(self, entry: QueuedPod, why: str, *, at_once: bool = False) -> None:
        """To the active ones, or to back-off if its last try is too fresh, unless it is to be tried `at_once`; nowhere
        while a gate is shut."""
        gates = self._gates[entry.pod.scheduler_name]
        gate = next((plugin for plugin in gates if _is_shut(plugin, entry.pod)), None)
        entry.gated = gate is not None
        if gate is not None:
            self._move(entry, Place.GONE)
            entry.refused_by |= {gate.name}
            if gate.tells:
                entry.place, entry.silent = Place.STUCK, True
                self.incoming[Place.STUCK, why] += 1
            else:
                self._put(entry, Place.STUCK, why)
            return
        now = self._clock.monotonic()
        if entry.first_ready < 0:
            entry.first_ready = now
        backs_off = not at_once and entry.back_off_ends > now
        self._put(entry, Place.BACKING_OFF if backs_off else Place.ACTIVE, why)

    def _move(self, entry: QueuedPod, place: Place) -> None:
        if entry.silent:
            entry.silent = False
        elif entry.place is Place.STUCK:
            kind = (entry.pod.scheduler_name, entry.refused_by)
            entries = self._stuck[kind]
            del entries[entry.pod.key]
            if not entries:
                del self._stuck[kind]
        elif entry.place is Place.TRYING:
            self._trying.discard(entry)
        entry.place = place
        entry.ticket += 1

    def _put(self, entry: QueuedPod, place: Place, why: str = "") -> None:
        self._move(entry, place)
        if why:
            self.incoming[place, why] += 1
        if place is Place.STUCK:
            kind = (entry.pod.scheduler_name, entry.refused_by)
            self._stuck.setdefault(kind, {})[entry.pod.key] = entry
            if not entry.gated:
                self._set_sweep(_FORGOTTEN_SECONDS)
        elif place is Place.ACTIVE:
            heapq.heappush(self._active, (entry.order(), entry.ticket, entry))
            self._available.set()
        elif place is Place.BACKING_OFF:
            due = entry.back_off_ends
            heapq.heappush(self._backing_off, (due, entry.sequence, entry.ticket, entry))
            self._set_timer()
            if entry.refused_by:
                window = math.floor(due / _WINDOW_SECONDS)
                heapq.heappush(self._impatient, (window, entry.order(), entry.ticket, entry))
                self._available.set()

    def _next_active(self) -> QueuedPod | None:
        while self._active:
            _, ticket, entry = heapq.heappop(self._active)
            if ticket == entry.ticket:
                return entry
        return None

    def _next_impatient(self) -> QueuedPod | None:
        while self._impatient:
            _, _, ticket, entry = heapq.heappop(self._impatient)
            if ticket == entry.ticket:
                return entry
        return None

    # ------------------------------------------------------------------ time
    def _set_timer(self) -> None:
        if not self._backing_off:
            return
        due = self._backing_off[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._back_off_ended)

    def _back_off_ended(self) -> None:
        self._timer = None
        # timers may fire a hair early; what is due within the same millisecond goes along
        now = self._clock.monotonic() + 0.001
        while self._backing_off and self._backing_off[0][0] <= now:
            _, _, ticket, entry = heapq.heappop(self._backing_off)
            if ticket == entry.ticket:
                self._put(entry, Place.ACTIVE, _BACKED_OFF)
        self._set_timer()

    def _set_sweep(self, seconds: float) -> None:
        if self._sweep is None:
            self._sweep = self._clock.call_later(seconds, self._sweep_stuck)

    def _sweep_stuck(self) -> None:
        self._sweep = None
        now = self._clock.monotonic()
        stuck = [one for entries in self._stuck.values() for one in entries.values() if not one.gated]
        for entry in stuck:
            # timers may fire a hair early
            if now - entry.since >= _FORGOTTEN_SECONDS - 0.001:
                self._release(entry, _FORGOTTEN)
        oldest = min((entry.since for entry in stuck if entry.place is Place.STUCK), default=None)
        if oldest is not None:
            self._set_sweep(max(_SWEEP_SECONDS, oldest + _FORGOTTEN_SECONDS - now))

    def close(self) -> None:
        for timer in (self._timer, self._sweep):
            if timer is not None:
                timer.cancel()
        self._timer = self._sweep = None


def _concerns(entry: QueuedPod, to_priority: int | None) -> bool:
    return to_priority is None or entry.pod.priority <= to_priority


def _is_shut(gate: PreEnqueue, pod: PodInfo) -> bool:
    """One that fails stays shut until something happens that concerns it."""
    try:
        return gate.pre_enqueue(pod) is not None
    except Exception:
        log.exception("plugin %s cannot tell whether %s may be tried", gate.name, pod.key)
        return True


def _helps(plugin: Plugin, event: ClusterEvent, pod: PodInfo) -> bool:
    try:
        return plugin.helps(event, pod)
    except Exception:
        log.exception("plugin %s cannot tell whether %s helps %s", plugin.name, event.kind, pod.key)
        return True
