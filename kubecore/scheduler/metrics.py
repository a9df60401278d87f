"""What kube-scheduler tells of itself, under its names. (kubernetes `pkg/scheduler/metrics`.)"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable

from kubecore.clock import Clock
from kubecore.metrics import Counter, Histogram, Metric, Named, Reading, Series, exponential
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.queue import Place, QueuedPod, SchedulingQueue

SCHEDULED = "scheduled"
UNSCHEDULABLE = "unschedulable"
ERROR = "error"

_ATTEMPTS = exponential(0.001, 2, 15)
_MANY_ATTEMPTS = 15
_QUEUES = {Place.ACTIVE: "active", Place.BACKING_OFF: "backoff", Place.STUCK: "unschedulable"}

Values = Iterable[tuple[tuple[str, ...], float]]


def _named(name: str, told: str, *labels: str) -> Named:
    return Named(f"scheduler_{name}", told, labels)


class PointTimes:
    """How long the plugins of one profile take, all together, at each extension point."""

    def __init__(self, told: Histogram, profile: str, clock: Clock) -> None:
        self.now = clock.monotonic
        self._told = told
        self._profile = profile
        self._series: dict[tuple[str, str], Series] = {}

    def ended(self, point: str, began: float, status: str = "Success") -> None:
        """It began then, by `now`, and ended with that status (upstream's code)."""
        series = self._series.get((point, status))
        if series is None:
            series = self._series[point, status] = self._told.series(point, status, self._profile)
        series.observe(self.now() - began)


class SchedulerMetrics:
    """Times are those of the scheduler's clock, in seconds."""

    def __init__(self) -> None:
        self._attempts = Counter(
            _named(
                "schedule_attempts_total",
                "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be "
                "scheduled, while 'error' means an internal scheduler problem.",
                "result",
                "profile",
            )
        )
        self._durations = Histogram(
            _named(
                "scheduling_attempt_duration_seconds",
                "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)",
                "result",
                "profile",
            ),
            _ATTEMPTS,
        )
        algorithm = Histogram(
            _named("scheduling_algorithm_duration_seconds", "[ALPHA] Scheduling algorithm latency in seconds"),
            _ATTEMPTS,
        )
        self.algorithm = algorithm.series()
        self._waited = Histogram(
            _named(
                "pod_scheduling_sli_duration_seconds",
                "[BETA] E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and "
                "might involve multiple scheduling attempts.",
                "attempts",
            ),
            exponential(0.01, 2, 20),
        )
        tries = Histogram(
            _named("pod_scheduling_attempts", "[STABLE] Number of attempts to successfully schedule a pod."),
            exponential(1, 2, 5),
        )
        self._tries = tries.series()
        self.preemptions = Counter(
            _named("preemption_attempts_total", "[STABLE] Total preemption attempts in the cluster till now")
        )
        victims = Histogram(
            _named("preemption_victims", "[STABLE] Number of selected preemption victims"), exponential(1, 2, 7)
        )
        self.victims = victims.series()
        self._points = Histogram(
            _named(
                "framework_extension_point_duration_seconds",
                "[STABLE] Latency for running all plugins of a specific extension point.",
                "extension_point",
                "status",
                "profile",
            ),
            exponential(0.0001, 2, 12),
        )
        self._series: dict[tuple[str, str], Series] = {}
        self._counted: list[Metric] = [
            self._attempts,
            self._durations,
            algorithm,
            self._waited,
            tries,
            self.preemptions,
            victims,
            self._points,
        ]

    def times(self, profile: str, clock: Clock) -> PointTimes:
        return PointTimes(self._points, profile, clock)

    # ------------------------------------------------------------------ told by the scheduler
    def concluded(self, entry: QueuedPod, result: str, now: float) -> None:
        """A try has ended."""
        which = (result, entry.pod.scheduler_name)
        series = self._series.get(which)
        if series is None:
            series = self._series[which] = self._durations.series(*which)
        self._attempts.count(which)
        series.observe(now - entry.tried)
        if result == SCHEDULED:
            attempts = entry.attempts
            self._tries.observe(attempts)
            label = str(attempts) if attempts < _MANY_ATTEMPTS else f"{_MANY_ATTEMPTS}+"
            self._waited.observe(now - entry.first_ready, label)

    # ------------------------------------------------------------------ told to whoever asks
    def of(self, queue: SchedulingQueue, cache: Cache) -> list[Metric]:
        """All there is to tell, with what the queue and the cache hold at that time."""
        pending = _named(
            "pending_pods",
            "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' "
            "means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that "
            "the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the "
            "scheduler never attempted to schedule because they are gated.",
            "queue",
        )
        size = _named(
            "cache_size",
            "[ALPHA] Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            "type",
        )
        refused = _named(
            "unschedulable_pods",
            "[ALPHA] The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for "
            "all plugins that caused it to not schedule and so this metric have meaning only when broken down by "
            "plugin.",
            "plugin",
            "profile",
        )
        incoming = _named(
            "queue_incoming_pods_total",
            "[STABLE] Number of pods added to scheduling queues by event and queue type.",
            "queue",
            "event",
        )
        return [
            *self._counted,
            Reading(pending, lambda: _pending(queue)),
            Reading(size, lambda: [((kind,), count) for kind, count in cache.sizes().items()]),
            Reading(refused, lambda: _refused(queue)),
            Reading(incoming, lambda: _incoming(queue), "counter"),
        ]


def _pending(queue: SchedulingQueue) -> Values:
    counts = dict.fromkeys(("active", "backoff", "unschedulable", "gated"), 0)
    for entry in queue.entries():
        place = "gated" if entry.gated else _QUEUES.get(entry.place)
        if place is not None:
            counts[place] += 1
    return [((place,), count) for place, count in counts.items()]


def _refused(queue: SchedulingQueue) -> Values:
    counts = Counts(
        (plugin, entry.pod.scheduler_name)
        for entry in queue.entries()
        if entry.place in (Place.STUCK, Place.BACKING_OFF, Place.ACTIVE)
        for plugin in entry.refused_by
    )
    return counts.items()


def _incoming(queue: SchedulingQueue) -> Values:
    return [((_QUEUES[place], event), count) for (place, event), count in queue.incoming.copy().items()]
