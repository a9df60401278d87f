"""What the audit is told at the start, as kube-apiserver's `--audit-*` options say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

BATCH, STRICT = "batch", "blocking-strict"
MODES = (BATCH, "blocking", STRICT)
FORMATS = ("json", "legacy")
VERSION = "audit.k8s.io/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """The file is set aside at `megabytes` (0: 100), and old ones are kept for `days` and up to `backups` (0: all)."""

    path: str = ""
    """`-` is standard output."""
    megabytes: int = 0
    days: int = 0
    backups: int = 0
    compress: bool = False
    legacy: bool = False
    mode: str = "blocking"
    buffer: int = 10_000
    """Events that may wait, in mode batch."""
    event_bytes: int = 0
    """Where it is not 0, larger events lose their objects, and are not written if that is not enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOptions:
    """Events are sent when `batch` of them are there, or the first has waited for `wait` seconds; what `buffer` has no
    room for is lost. `back_off` is the first of the pauses between tries, in seconds. Batches are sent `rate` times a
    second in the long run (0: as they come), `burst` of them at once. Where `event_bytes` is not 0, larger events lose
    their objects, and are not sent if that is not enough; `batch_bytes` then bounds the events of a batch."""

    config_file: Path | None = None
    buffer: int = 10_000
    batch: int = 400
    wait: float = 30.0
    back_off: float = 10.0
    rate: float = 10.0
    burst: int = 15
    event_bytes: int = 0
    batch_bytes: int = 10 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """Without a policy nothing is audited. `policy` is what `audit.policy.load` makes of a file."""

    policy: bytes = b""
    log: LogOptions = field(default_factory=LogOptions)
    webhook: WebhookOptions = field(default_factory=WebhookOptions)
