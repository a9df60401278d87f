"""How often files of the configuration were read again, with what success, and which one is in force:
`apiserver_*_config_controller_*`.

After upstream k8s.io/apiserver pkg/server/options/{authentication,authorization,encryption}config/metrics.
"""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

from kubecore.metrics import Counter, Gauge, Metric, Named, Reading

if TYPE_CHECKING:
    from kubecore.clock import Clock

_LABELS = ("status", "apiserver_id_hash")


def hashed(content: bytes | str) -> str:
    """How metrics name what is too long, or nobody's to know."""
    raw = content.encode() if isinstance(content, str) else content
    return f"sha256:{hashlib.sha256(raw).hexdigest()}" if raw else ""


def server_hash() -> str:
    """This server's name in metrics."""
    return hashed(socket.gethostname())


class ReloadMetrics:
    """Of one configuration; call it with whether a reload has succeeded, and tell it what is `applied`."""

    def __init__(self, kind: str, stability: str, clock: Clock) -> None:
        self._clock = clock
        self._server = server_hash()
        self._applied: list[tuple[tuple[str, ...], float]] = []
        name = f"apiserver_{kind}_config_controller_automatic_reload"
        counted, latest, by = "automatic reloads", "automatic reload", "status and apiserver identity"
        if kind == "encryption":
            counted, by = "reload successes and failures", "apiserver identity"
            latest = "successful or failed automatic reload"
        total = f"Total number of {counted} of {kind} configuration split by {by}."
        last = f"Timestamp of the last {latest} of {kind} configuration split by {by}."
        self._total = Counter(Named(f"{name}s_total", f"[{stability}] {total}", _LABELS))
        self._last = Gauge(Named(f"{name}_last_timestamp_seconds", f"[{stability}] {last}", _LABELS))
        info = (
            f"Information about the last applied {kind} configuration with hash as label, split by apiserver identity."
        )
        named = Named(
            f"apiserver_{kind}_config_controller_last_config_info", f"[ALPHA] {info}", ("apiserver_id_hash", "hash")
        )
        self._info = Reading(named, lambda: self._applied)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._total, self._last, self._info

    def applied(self, content: bytes) -> None:
        """The file that is in force from now on."""
        self._applied = [((self._server, hashed(content)), 1.0)]

    def __call__(self, succeeded: bool) -> None:
        values = "success" if succeeded else "failure", self._server
        self._total.add(*values)
        self._last.set(self._clock.now().timestamp(), *values)
