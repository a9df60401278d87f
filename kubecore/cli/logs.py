"""How the components log: one line an entry in Kubernetes' own klog form, to standard error and to a file."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5


class KlogFormatter(logging.Formatter):
    """`I1123 23:45:01.123456 scheduler.py:42] message`, as kubectl's users know it from every component."""

    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        severity = "F" if record.levelno >= logging.CRITICAL else record.levelname[0]
        stamp = self.formatTime(record, "%m%d %H:%M:%S")
        text = f"{severity}{stamp} {record.name}] {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _LogFile(logging.handlers.RotatingFileHandler):
    """Goes on without the entries that a full disk has no room for: whoever fails for it says so itself."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure(*, verbosity: int, file: Path | None) -> None:
    """Warnings go to standard error (everything with `verbosity` > 0); the file, where given, holds all of it."""
    root = logging.getLogger("kubecore")
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.WARNING if verbosity == 0 else logging.NOTSET)
    handlers: list[logging.Handler] = [console]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(file, maxBytes=MAX_BYTES, backupCount=KEPT_FILES))
    for handler in handlers:
        handler.setFormatter(KlogFormatter())
        root.addHandler(handler)
