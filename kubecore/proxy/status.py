"""What a running proxy tells: its health, its metrics, its mode and its tables.

At kube-proxy's own addresses: /healthz and /livez at --healthz-bind-address, /metrics, /proxyMode and /healthz at
--metrics-bind-address; there, and at a Unix socket, also /services, which `kubecore proxy ls` reads. (kubernetes
`pkg/proxy/healthcheck/proxy_health.go`, `cmd/kube-proxy/app/server.go`; names of metrics as in `pkg/proxy/metrics`.)
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.clock import Clock
from kubecore.metrics import Counter, Histogram, Metrics, Named, Reading, exponential
from kubecore.process_metrics import process_metrics
from kubecore.proxy.http_answers import NOT_FOUND, Answer, HttpAnswers
from kubecore.proxy.modes import ProxyConfig

log = logging.getLogger(__name__)

_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_LATE_SECONDS = 60.0
_NEVER = "0001-01-01T00:00:00Z"
_SYNCS = "kubeproxy_sync_proxy_rules"


class ProxyStatus:
    """Kept by the proxy, read by whoever asks. `rows` and `mode` are asked for when needed; it serves `families`."""

    def __init__(
        self,
        clock: Clock,
        mode: Callable[[], str],
        rows: Callable[[], list[dict[str, Any]]],
        *,
        families: Sequence[str] = ("IPv4",),
    ) -> None:
        self._clock = clock
        self._families = families
        self._mode = mode
        self._rows = rows
        self._queued: float | None = None
        self._last_queued: datetime | None = None
        self._synced: datetime | None = None
        took = Histogram(
            Named(f"{_SYNCS}_duration_seconds", "[ALPHA] SyncProxyRules latency in seconds"), exponential(0.001, 2, 15)
        )
        self._syncs = took.series()
        self._answered = {
            f"/{name}": Counter(
                Named(f"kubeproxy_proxy_{name}_total", f"[ALPHA] Cumulative proxy {name} HTTP status", ("code",))
            )
            for name in ("healthz", "livez")
        }
        self._told = Metrics()
        self._told.add(took, *self._answered.values(), *self._counts(), *process_metrics())
        self._failures = 0
        self._service_changes = self._pending_services = 0
        self._slice_changes = self._pending_slices = 0
        self.node_eligible = True
        """False for a node that is being removed: load balancers should look elsewhere."""

    # ------------------------------------------------------------------ told by the proxy
    def changed(self, *, services: int = 0, slices: int = 0) -> None:
        self._service_changes += services
        self._slice_changes += slices
        self._pending_services += services
        self._pending_slices += slices
        self._last_queued = self._clock.now()
        if self._queued is None:
            self._queued = self._clock.monotonic()

    def synced(self, seconds: float, *, failed: bool = False) -> None:
        """Everything that had changed has been applied, or could not be."""
        if failed:
            self._failures += 1
            return
        self._syncs.observe(seconds)
        self._queued = None
        self._pending_services = self._pending_slices = 0
        self._synced = self._clock.now()

    @property
    def healthy(self) -> bool:
        """No change has waited for too long."""
        return self._queued is None or self._clock.monotonic() - self._queued < _LATE_SECONDS

    # ------------------------------------------------------------------ answers
    def health(self, path: str) -> Answer:
        """At the health port."""
        if path not in ("/healthz", "/livez"):
            return NOT_FOUND
        now, healthy = self._clock.now(), self.healthy
        good = healthy and (path == "/livez" or self.node_eligible)
        synced = meta.format_time(self._synced) if self._synced is not None else _NEVER
        told: dict[str, Any] = {
            "lastUpdated": meta.format_time(now) if good else synced,
            "currentTime": meta.format_time(now),
        }
        if path == "/healthz":
            told["nodeEligible"] = self.node_eligible
        told["healthy"] = healthy
        families = self._families if self._synced is not None else ()
        told["status"] = {one: {"lastUpdated": synced, "healthy": healthy} for one in families}
        code = 200 if good else 503
        self._answered[path].add(str(code))
        return Answer(json.dumps(told, separators=(",", ":")).encode(), _JSON, code)

    def inside(self, path: str) -> Answer:
        """At the port for metrics."""
        if path == "/healthz":
            return Answer(b"ok")
        if path == "/proxyMode":
            return Answer(self._mode().encode())
        if path == "/metrics":
            return Answer(self._told.render(), _METRICS)
        if path == "/services":
            told = {"mode": self._mode(), "services": self._rows()}
            return Answer(json.dumps(told).encode(), _JSON)
        return NOT_FOUND

    def _counts(self) -> Iterator[Reading]:
        for name, kind, read, told in (
            (
                f"{_SYNCS}_last_timestamp_seconds",
                "gauge",
                lambda: self._synced.timestamp() if self._synced is not None else 0,
                "[ALPHA] The last time proxy rules were successfully synced",
            ),
            (
                f"{_SYNCS}_last_queued_timestamp_seconds",
                "gauge",
                lambda: self._last_queued.timestamp() if self._last_queued is not None else 0,
                "[ALPHA] The last time a sync of proxy rules was queued",
            ),
            (
                f"{_SYNCS}_service_changes_pending",
                "gauge",
                lambda: self._pending_services,
                "[ALPHA] Pending proxy rules Service changes",
            ),
            (
                f"{_SYNCS}_endpoint_changes_pending",
                "gauge",
                lambda: self._pending_slices,
                "[ALPHA] Pending proxy rules Endpoint changes",
            ),
            (
                f"{_SYNCS}_service_changes_total",
                "counter",
                lambda: self._service_changes,
                "[ALPHA] Cumulative proxy rules Service changes",
            ),
            (
                f"{_SYNCS}_endpoint_changes_total",
                "counter",
                lambda: self._slice_changes,
                "[ALPHA] Cumulative proxy rules Endpoint changes",
            ),
            ("kubeproxy_sync_failures_total", "counter", lambda: self._failures, "Failures to change the tables"),
        ):
            yield Reading.alone(Named(name, told), read, kind)


class StatusServer:
    """Answers at the addresses that a proxy is configured with. One that is taken is done without, or gives way to a
    free one: proxies of several clusters may share a host."""

    def __init__(self, status: ProxyStatus) -> None:
        self._outside = HttpAnswers(lambda path, _: status.health(path))
        self._inside = HttpAnswers(lambda path, _: status.inside(path))

    async def start(self, config: ProxyConfig) -> None:
        asked = (("health", self._outside, config.health_address), ("metrics", self._inside, config.metrics_address))
        instead = []
        for what, answers, where in asked:
            if where is not None:
                try:
                    await answers.listen(*where)
                except OSError as error:
                    if config.note_port is None or error.errno != errno.EADDRINUSE:
                        log.warning("the proxy does without its port for %s, %s:%d: %s", what, *where, _why(error))
                        continue
                    port = await answers.listen(where[0], 0)
                    config.note_port(f"proxy-{what}", port)
                    instead.append(f"{what} at {port} ({where[1]} is taken)")
        if instead:
            log.info("the proxy tells its %s", " and ".join(instead))
        if config.status_socket is not None:
            try:
                await self._inside.listen_at(config.status_socket)
            except OSError as error:
                log.warning("the proxy does not tell of itself at %s: %s", config.status_socket, error)

    def close(self) -> None:
        self._outside.close()
        self._inside.close()


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "taken, perhaps by another cluster's proxy"
    return str(error.strerror)
