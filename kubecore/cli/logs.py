"""How the components log: one line an entry, as Kubernetes' do it, to standard error and to a file.

Entries may have values by name (`extra={VALUES: {...}}`), which follow the message. After k8s.io/klog and upstream
k8s.io/component-base logs/json.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from kubecore.cli import options

MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5
FORMATS = ("text", "json")
VALUES = "values"
_REQUESTS_FROM = 3
"""The verbosity at which kube-apiserver logs requests."""

LoggingFormat = Annotated[
    str,
    typer.Option(callback=options.one_of(FORMATS), help=f"How log entries are written: {', '.join(FORMATS)}."),
]


class KlogFormatter(logging.Formatter):
    """`I1123 23:45:01.123456    4711 kubecore.scheduler] message`, as users know it from every component: how bad it
    is, when it was, the process, and who says it."""

    def format(self, record: logging.LogRecord) -> str:
        severity = "F" if record.levelno >= logging.CRITICAL else record.levelname[0]
        if record.levelno < logging.WARNING:
            severity = "I"
        stamp = f"{self.formatTime(record, '%m%d %H:%M:%S')}.{int(record.created % 1 * 1e6):06} {record.process:7}"
        message, values = record.getMessage(), getattr(record, VALUES, None)
        if values:
            named = " ".join(f"{name}={_shown(value)}" for name, value in values.items())
            message = f"{_shown(message)} {named}"
        text = f"{severity}{stamp} {record.name}] {message}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _shown(value: object) -> str:
    """Texts in quotes, so that a line stays one."""
    return orjson.dumps(value).decode() if isinstance(value, str) else str(value)


class JsonFormatter(logging.Formatter):
    """An object a line, by which machines read it."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": round(record.created * 1000, 4),
            "caller": f"{record.filename}:{record.lineno}",
            "logger": record.name,
            "msg": record.getMessage(),
        }
        # As upstream: failures have no verbosity.
        if record.levelno < logging.ERROR:
            entry["v"] = 4 if record.levelno < logging.INFO else 0
        entry |= getattr(record, VALUES, None) or {}
        if record.exc_info:
            entry["err"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _LogFile(logging.handlers.RotatingFileHandler):
    """Goes on without the entries that a full disk has no room for: whoever fails for it says so itself."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure(*, verbosity: int, file: Path | None, form: str = "text") -> None:
    """Warnings go to standard error (everything with `verbosity` > 0); the file, where given, holds all of it."""
    root = logging.getLogger("kubecore")
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    requests = logging.getLogger("kubecore.apiserver.requests")
    requests.setLevel(logging.DEBUG if verbosity >= _REQUESTS_FROM else logging.INFO)
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.WARNING if verbosity <= 0 else logging.NOTSET)
    handlers: list[logging.Handler] = [console]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(file, maxBytes=MAX_BYTES, backupCount=KEPT_FILES))
    for handler in handlers:
        handler.setFormatter(JsonFormatter() if form == "json" else KlogFormatter())
        root.addHandler(handler)
