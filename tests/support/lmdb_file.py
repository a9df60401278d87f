"""The LMDB store's file, read and written by py-lmdb: an independent implementation of its format (`native/store`).

    current   key                → mod revision, create revision, value or, where it is the log's, nothing
    log       revision           → type, time, previous revision, length of the key, key, value
    meta      name               → revision | compacted | indexed | format

Numbers are big-endian, of 8 bytes, but for the type (1) and the length (2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

CURRENT, LOG, META = b"current", b"log", b"meta"
_NUMBER, _CURRENT, _LOG = struct.Struct(">Q"), struct.Struct(">QQ"), struct.Struct(">BQQH")


class CurrentRecord(NamedTuple):
    revision: int
    created: int
    value: bytes


class LogRecord(NamedTuple):
    type: int
    time: int
    previous: int
    key: str
    value: bytes


@dataclass
class Contents:
    current: dict[str, CurrentRecord] = field(default_factory=dict)
    log: dict[int, LogRecord] = field(default_factory=dict)
    meta: dict[bytes, bytes] = field(default_factory=dict)


def environment(directory: Path) -> Any:
    return lmdb.open(str(directory), max_dbs=3, map_size=64 << 20)


def read(directory: Path) -> Contents:
    """All of a file that nobody has open."""
    found = Contents()
    with environment(directory) as env, env.begin() as txn:
        for key, raw in txn.cursor(db=env.open_db(CURRENT, txn=txn)):
            found.current[key.decode()] = CurrentRecord(*_CURRENT.unpack_from(raw), raw[_CURRENT.size :])
        for number, raw in txn.cursor(db=env.open_db(LOG, txn=txn)):
            kind, time, previous, length = _LOG.unpack_from(raw)
            text = raw[_LOG.size :]
            record = LogRecord(kind, time, previous, text[:length].decode(), text[length:])
            found.log[_NUMBER.unpack(number)[0]] = record
        found.meta = dict(txn.cursor(db=env.open_db(META, txn=txn)))
    return found


def write(directory: Path, contents: Contents) -> None:
    """A new file with these contents."""
    directory.mkdir(parents=True, exist_ok=True)
    with environment(directory) as env, env.begin(write=True) as txn:
        current, log, meta = (env.open_db(name, txn=txn) for name in (CURRENT, LOG, META))
        for key, (revision, created, value) in contents.current.items():
            txn.put(key.encode(), _CURRENT.pack(revision, created) + value, db=current)
        for number, (kind, time, previous, text, value) in contents.log.items():
            key_bytes = text.encode()
            header = _LOG.pack(kind, time, previous, len(key_bytes))
            txn.put(_NUMBER.pack(number), header + key_bytes + value, db=log)
        for name, raw in contents.meta.items():
            txn.put(name, raw, db=meta)


def number(value: int) -> bytes:
    return _NUMBER.pack(value)
