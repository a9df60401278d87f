"""What a kubelet counts and times of its own work, under upstream's names.

(kubernetes `pkg/kubelet/metrics/metrics.go`, `server/metrics`, `prober/prober_manager.go`; only what is counted here.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api import meta
from kubecore.clock import Clock
from kubecore.kubelet.node.counts import NodeNow
from kubecore.kubelet.pods.records import ContainerRecord
from kubecore.metrics import Counter, Histogram, Metrics, Named, exponential

Object = dict[str, Any]

_DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STARTING = (0.5, *range(1, 7), 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_OPERATION = exponential(0.005, 2.5, 14)
_WRITING = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)
_PULLING = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_MEBI, _GIBI = 1 << 20, 1 << 30
_IMAGE_SIZES = (
    (10 * _MEBI, "0-10MB"),
    (100 * _MEBI, "10MB-100MB"),
    (500 * _MEBI, "100MB-500MB"),
    (_GIBI, "500MB-1GB"),
    (5 * _GIBI, "1GB-5GB"),
    (10 * _GIBI, "5GB-10GB"),
    (20 * _GIBI, "10GB-20GB"),
    (30 * _GIBI, "20GB-30GB"),
    (40 * _GIBI, "30GB-40GB"),
    (60 * _GIBI, "40GB-60GB"),
    (100 * _GIBI, "60GB-100GB"),
)
_KINDS = {"init": "init_container", "ephemeral": "ephemeral_container"}
# Why pods are refused, of which some reasons bear the names of resources that anybody may have made up.
_REFUSALS = frozenset(
    {
        "AppArmor",
        "Evicted",
        "NodeAffinity",
        "NodeShutdown",
        "OutOfcpu",
        "OutOfephemeral-storage",
        "OutOfmemory",
        "OutOfpods",
        "PodOSNotSupported",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "SysctlForbidden",
        "UnexpectedAdmissionError",
    }
)


def _named(name: str, told: str, *labels: str) -> Named:
    return Named(f"kubelet_{name}", f"[ALPHA] {told}", labels)


class KubeletMetrics:
    def __init__(self) -> None:
        started = "Cumulative number of"
        self._started_containers = Counter(
            _named("started_containers_total", f"{started} containers started", "container_type")
        )
        self._started_containers_errors = Counter(
            _named(
                "started_containers_errors_total",
                f"{started} errors when starting containers",
                "container_type",
                "code",
            )
        )
        self._refusals = Counter(
            _named("admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", "reason")
        )
        self.evictions = Counter(
            _named("evictions", f"{started} pod evictions by eviction signal", "eviction_signal"),
        )
        self._pull_seconds = Histogram(
            _named("image_pull_duration_seconds", "Duration in seconds to pull an image.", "image_size_in_bytes"),
            _PULLING,
        )
        self.runtime = RuntimeMetrics()
        self.pods = PodTimes()
        self.requests = RequestMetrics()
        self.probes = ProbeMetrics()

    def container_started(self, record: ContainerRecord, code: str) -> None:
        """Or not, for a reason, the `code`."""
        kind = _KINDS.get(record.kind, "container")
        self._started_containers.add(kind)
        if code:
            self._started_containers_errors.add(kind, code)

    def refused(self, reason: str) -> None:
        extended = "OutOfExtendedResources" if reason.startswith("OutOf") else "Other"
        self._refusals.add(reason if reason in _REFUSALS else extended)

    def pulled(self, seconds: float, size: int) -> None:
        """`size` in bytes."""
        self._pull_seconds.observe(seconds, next((label for most, label in _IMAGE_SIZES if size < most), "GT100GB"))

    def render(self, now: NodeNow) -> bytes:
        """The body of /metrics."""
        told = Metrics()
        told.add(
            *now.samples(),
            *self.runtime.all(),
            self._started_containers,
            self._started_containers_errors,
            self._refusals,
            self.evictions,
            self._pull_seconds,
            *self.pods.all(),
            *self.requests.all(),
        )
        return told.render()


class RuntimeMetrics:
    """Of what is asked of container runtimes."""

    def __init__(self) -> None:
        started = "Cumulative number of"
        self.started_pods = Counter(_named("started_pods_total", f"{started} pods started"))
        self.started_pods_errors = Counter(
            _named("started_pods_errors_total", f"{started} errors when starting pods"),
        )
        only_linux = "This metric is only collected on Linux."
        self.started_with_own_users = Counter(
            _named("started_user_namespaced_pods_total", f"{started} pods with user namespaces started. {only_linux}")
        )
        self.started_with_own_users_errors = Counter(
            _named(
                "started_user_namespaced_pods_errors_total",
                f"{started} errors when starting pods with user namespaces. {only_linux}",
            )
        )
        self.sandbox_seconds = Histogram(
            _named(
                "run_podsandbox_duration_seconds",
                "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
                "runtime_handler",
            ),
            _DEFAULT,
        )
        self.sandbox_errors = Counter(
            _named(
                "run_podsandbox_errors_total",
                f"{started} the run_podsandbox operation errors by RuntimeClass.Handler.",
                "runtime_handler",
            )
        )
        self.operations = Counter(
            _named("runtime_operations_total", f"{started} runtime operations by operation type.", "operation_type")
        )
        self.operation_seconds = Histogram(
            _named(
                "runtime_operations_duration_seconds",
                "Duration in seconds of runtime operations. Broken down by operation type.",
                "operation_type",
            ),
            _OPERATION,
        )
        self.operation_errors = Counter(
            _named(
                "runtime_operations_errors_total",
                f"{started} runtime operation errors by operation type.",
                "operation_type",
            )
        )

    def all(self) -> Sequence[Counter | Histogram]:
        return (
            self.started_pods,
            self.started_pods_errors,
            self.started_with_own_users,
            self.started_with_own_users_errors,
            self.sandbox_seconds,
            self.sandbox_errors,
            self.operations,
            self.operation_seconds,
            self.operation_errors,
        )


class PodTimes:
    """How long pods take."""

    def __init__(self) -> None:
        self._containers = Histogram(
            _named("containers_per_pod_count", "The number of containers per pod."), (1, 2, 4, 8, 16)
        )
        self._worker_start = Histogram(
            _named(
                "pod_worker_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod to starting a worker.",
            ),
            _DEFAULT,
        )
        self._sync = Histogram(
            _named(
                "pod_worker_duration_seconds",
                "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
                "operation_type",
            ),
            _DEFAULT,
        )
        self._start = Histogram(
            _named(
                "pod_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            ),
            _STARTING,
        )
        self._total = Histogram(
            _named(
                "pod_start_total_duration_seconds",
                "Duration in seconds to start a pod since creation, including time to pull images and run init "
                "containers, measured from pod creation timestamp to when all its containers are reported as started "
                "and observed via watch",
            ),
            _STARTING,
        )
        self.write_seconds = Histogram(
            _named(
                "pod_status_sync_duration_seconds",
                "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod "
                "status until the API is successfully updated for that pod, even if multiple intevening changes to pod "
                "status occur.",
            ),
            _WRITING,
        )

    def all(self) -> Sequence[Histogram]:
        return self._containers, self._worker_start, self._sync, self._start, self._total, self.write_seconds

    def of(self, pod: Object, clock: Clock) -> OnePodsTimes:
        self._containers.observe(len(pod["spec"].get("containers") or []))
        return OnePodsTimes(self, pod, clock)


class OnePodsTimes:
    """Of a pod that the kubelet has just heard of."""

    def __init__(self, times: PodTimes, pod: Object, clock: Clock) -> None:
        self._times = times
        self._clock = clock
        self._seen = clock.monotonic()
        self._syncs = 0
        pending = (pod.get("status") or {}).get("phase", "Pending") == "Pending"
        self._is_to_run = self._is_to_be_seen = pending

    def synced(self, began: float, *, updated: bool) -> None:
        """`began`: when, monotonic. `updated`: since the pod had changed."""
        if not self._syncs:
            self._times._worker_start.observe(began - self._seen)
        kind = "create" if not self._syncs else "update" if updated else "sync"
        self._times._sync.observe(self._clock.monotonic() - began, kind)
        self._syncs += 1

    def told(self, status: Object) -> None:
        """The pod's status is about to be written."""
        if self._is_to_run and status.get("phase") == "Running":
            self._is_to_run = False
            self._times._start.observe(self._clock.monotonic() - self._seen)

    def written(self, began: float) -> None:
        """The API has taken its status."""
        self._times.write_seconds.observe(self._clock.monotonic() - began)

    def watched(self, pod: Object) -> None:
        """The API's newest view of it has come."""
        if not self._is_to_be_seen:
            return
        told = (pod.get("status") or {}).get("containerStatuses") or []
        if told and all("running" in (one.get("state") or {}) for one in told):
            self._is_to_be_seen = False
            created = meta.parse_time(pod["metadata"]["creationTimestamp"])
            self._times._total.observe((self._clock.now() - created).total_seconds())


_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})


class RequestMetrics:
    """Of the kubelet's server."""

    _LABELS = ("long_running", "method", "path", "server_type")
    _LONG = frozenset({"exec", "attach", "portForward", "debug"})

    def __init__(self) -> None:
        self._total = Counter(
            _named(
                "http_requests_total", "Number of the http requests received since the server started", *self._LABELS
            )
        )
        self._seconds = Histogram(
            _named("http_requests_duration_seconds", "Duration in seconds to serve http requests", *self._LABELS),
            _DEFAULT,
        )

    def all(self) -> Sequence[Counter | Histogram]:
        return self._total, self._seconds

    def labels(self, method: str, path: str) -> tuple[str, ...]:
        """`path`: its first part, or "other". Methods that anybody may make up are one."""
        return str(path in self._LONG).lower(), method if method in _METHODS else "other", path, "readwrite"

    def begun(self, labels: tuple[str, ...]) -> None:
        self._total.count(labels)

    def ended(self, labels: tuple[str, ...], seconds: float) -> None:
        self._seconds.observe(seconds, *labels)


class ProbeMetrics:
    """The body of /metrics/probes. Series go with their pods."""

    _KINDS = {"startup": "Startup", "readiness": "Readiness", "liveness": "Liveness"}
    _RESULTS = {"success": "successful", "failure": "failed", "unknown": "unknown"}

    def __init__(self) -> None:
        labels = ("container", "namespace", "pod", "pod_uid", "probe_type", "result")
        told = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result."
        self._total = Counter(Named("prober_probe_total", told, labels))
        self._seconds = Histogram(
            Named(
                "prober_probe_duration_seconds",
                "[ALPHA] Duration in seconds for a probe response.",
                ("container", "namespace", "pod", "probe_type"),
            ),
            _DEFAULT,
        )

    def tried(self, pod: Object, container: str, kind: str, result: str, seconds: float) -> None:
        """`result`: as `probes.Result`. Failures are not timed, since they may be time-outs."""
        named = (container, meta.namespace(pod), meta.name(pod))
        self._total.add(*named, meta.uid(pod), self._KINDS[kind], self._RESULTS[result])
        if result != "failure":
            self._seconds.observe(seconds, *named, self._KINDS[kind])

    def forget(self, pod: Object) -> None:
        uid, named = meta.uid(pod), (meta.namespace(pod), meta.name(pod))
        self._total.forget(lambda values: values[3] == uid)
        self._seconds.forget(lambda values: values[1:3] == named)

    def render(self) -> bytes:
        told = Metrics()
        told.add(self._total, self._seconds)
        return told.render()
