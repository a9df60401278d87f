"""Everything that is in the LMDB file, declared once: sub-databases, their keys and records, encode beside decode.

    current   key                → mod revision, create revision, value
    log       revision           → type, time, previous revision, key, value
    meta      name               → revision | compacted | format

Numbers are big-endian, so that byte order is numeric order. A record of `log` at or below `compacted` is no history
any more: it is the value a later record replaced, kept so that reads at a revision in the window find it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CURRENT = b"current"
LOG = b"log"
META = b"meta"
DATABASES = (CURRENT, LOG, META)

META_REVISION = b"revision"
META_COMPACTED = b"compacted"
META_FORMAT = b"format"
FORMAT = b"kubecore/1"

# LMDB's compiled-in limit; longer keys cannot be stored.
MAX_KEY_BYTES = 511

_NUMBER = struct.Struct(">Q")
_CURRENT = struct.Struct(">QQ")
_LOG = struct.Struct(">BQQH")

encode_number = _NUMBER.pack
CURRENT_HEADER = _CURRENT.size
Buffer = bytes | memoryview


def decode_number(raw: Buffer) -> int:
    return int(_NUMBER.unpack_from(raw)[0])


# --- current

encode_current_header = _CURRENT.pack


def decode_current_header(raw: Buffer) -> tuple[int, int]:
    """Mod revision and create revision."""
    mod, created = _CURRENT.unpack_from(raw)
    return mod, created


def decode_current_value(raw: Buffer) -> bytes:
    return bytes(raw[CURRENT_HEADER:])


# --- log


class LogHeader(NamedTuple):
    type: int
    time: int  # unix seconds of the commit
    previous: int


class LogRecord(NamedTuple):
    type: int
    time: int
    previous: int
    key: str
    value: bytes


def encode_log(kind: int, time: int, previous: int, key: bytes, value: bytes) -> bytes:
    return b"%b%b%b" % (_LOG.pack(kind, time, previous, len(key)), key, value)


def decode_log_header(raw: Buffer) -> LogHeader:
    kind, time, previous, _ = _LOG.unpack_from(raw)
    return LogHeader(kind, time, previous)


def decode_log(raw: Buffer) -> LogRecord:
    kind, time, previous, length = _LOG.unpack_from(raw)
    start = _LOG.size
    return LogRecord(kind, time, previous, bytes(raw[start : start + length]).decode(), bytes(raw[start + length :]))
