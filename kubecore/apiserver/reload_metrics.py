"""How often files of the configuration were read again, and with what success: `apiserver_*_config_controller_*`.

After upstream k8s.io/apiserver pkg/server/options/{authentication,authorization,encryption}config/metrics.
"""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

from kubecore.metrics import Counter, Gauge, Metric, Named

if TYPE_CHECKING:
    from kubecore.clock import Clock

_LABELS = ("status", "apiserver_id_hash")


class ReloadMetrics:
    """Of one configuration; call it with whether a reload has succeeded."""

    def __init__(self, kind: str, stability: str, clock: Clock) -> None:
        self._clock = clock
        self._server = f"sha256:{hashlib.sha256(socket.gethostname().encode()).hexdigest()}"
        name = f"apiserver_{kind}_config_controller_automatic_reload"
        counted, latest, by = "automatic reloads", "automatic reload", "status and apiserver identity"
        if kind == "encryption":
            counted, by = "reload successes and failures", "apiserver identity"
            latest = "successful or failed automatic reload"
        total = f"Total number of {counted} of {kind} configuration split by {by}."
        last = f"Timestamp of the last {latest} of {kind} configuration split by {by}."
        self._total = Counter(Named(f"{name}s_total", f"[{stability}] {total}", _LABELS))
        self._last = Gauge(Named(f"{name}_last_timestamp_seconds", f"[{stability}] {last}", _LABELS))

    @property
    def metrics(self) -> tuple[Metric, Metric]:
        return self._total, self._last

    def __call__(self, succeeded: bool) -> None:
        values = "success" if succeeded else "failure", self._server
        self._total.add(*values)
        self._last.set(self._clock.now().timestamp(), *values)
