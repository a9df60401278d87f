"""The storage protocol: what every implementation promises; tests/storage_contract holds them to it.

Model (etcd's): the store is a map from key to value with one revision counter. Every successful write is one revision;
revisions never repeat and never go back, not even across a restart or a crash. An object's resourceVersion is the
revision of its last write.

Durability: a write that was answered survives a crash of the process and of the machine. A write that was not answered
is either there as a whole or not at all.

Order: writes take effect one after another. `EventSink.publish` receives every committed write exactly once, in
revision order, before the write is answered. Hence a reader of what the sink feeds sees every write it was told about.

Keys: `/registry/<group or core>/<resource>/<namespace>/<name>`, or without namespace for cluster scope. A prefix given
to `list` ends in `/`, so that `foos/` never matches `foosbar/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kubecore._native import DeferredValue

PUT = 0
DELETE = 1


class Template(NamedTuple):
    """A value whose revision is not known yet: the stored bytes are head + revision in decimal + tail."""

    head: bytes
    tail: bytes

    def render(self, revision: int) -> bytes:
        return b"%b%d%b" % (self.head, revision, self.tail)


Value = Template | DeferredValue
"""What a write stores. A deferred one is worked out by the store while the caller goes on with other work."""


class Stored(NamedTuple):
    """A value as it is stored, revision spliced in."""

    revision: int
    value: bytes


class Event(NamedTuple):
    """A committed write. For a DELETE the value is the last one, with the deletion's revision spliced in."""

    type: int
    key: str
    revision: int
    value: bytes
    previous: int  # revision of the value this replaced, 0 when it created the key


class EventSink(Protocol):
    """Receives committed writes; called from the writer, must not wait on it."""

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        """Events in revision order, the last of revision `revision`."""

    def compacted(self, revision: int) -> None:
        """History up to and including `revision` is gone."""


@dataclass(frozen=True, slots=True)
class Page:
    """Keys in byte order, at one revision; `next` is the key to go on from, None at the end."""

    revision: int
    items: list[tuple[str, Stored]]
    next: str | None = None


class StorageError(Exception):
    """The store cannot do its work (disk full, map damaged); the write's fate is unknown unless a subclass says."""


class KeyExists(StorageError):
    """create: the key is taken. Nothing was written."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key exists: {key}")
        self.key = key


class KeyMissing(StorageError):
    """update, delete: no such key. Nothing was written."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key not found: {key}")
        self.key = key


class RevisionConflict(StorageError):
    """update, delete: the key's revision is not the expected one. Nothing was written; read again and retry."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, found {actual}")
        self.key = key
        self.expected = expected
        self.actual = actual


class ValueUnmade(StorageError):
    """create, update, delete: a deferred value turned out not to be there. Nothing was written."""

    def __init__(self, key: str) -> None:
        super().__init__(f"nothing to be stored could be made for {key}")
        self.key = key


class Compacted(StorageError):
    """The revision asked for is older than the history kept."""

    def __init__(self, revision: int, compacted: int) -> None:
        super().__init__(f"revision {revision} is compacted, oldest kept is {compacted + 1}")
        self.revision = revision
        self.compacted = compacted


class StorageClosed(StorageError):
    """The store is shutting down. Nothing was written."""


class DataDirError(StorageError):
    """The data directory cannot be used: not kubecore's, damaged, of another format, or in use."""


class Storage(Protocol):
    """A durable, ordered map with history.

    Methods that return an awaitable hand the work over when they are called or in the loop's next turn, in call order,
    and finish when it is durable (writes) or read. Calls come from the event loop's thread only.
    """

    def create(self, key: str, value: Value) -> Awaitable[Stored]:
        """Stores a new key. Raises KeyExists, ValueUnmade."""
        ...

    def update(self, key: str, value: Value, *, expected: int) -> Awaitable[Stored]:
        """Replaces the value of a key whose revision is `expected`. Raises KeyMissing, RevisionConflict,
        ValueUnmade."""
        ...

    def delete(self, key: str, last: Value, *, expected: int) -> Awaitable[Stored]:
        """Removes a key whose revision is `expected`; `last` is its last value, logged and published with the
        deletion's revision. Raises KeyMissing, RevisionConflict, ValueUnmade."""
        ...

    def get(self, key: str) -> Awaitable[Stored | None]:
        """The value after every write answered before the call (linearizable)."""
        ...

    def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Awaitable[Page]:
        """Keys under `prefix` from `start` on, at most `limit` (0: all), as of `revision` (0: now).

        Raises Compacted when the revision is no longer kept. A revision that is yet to come raises StorageError."""
        ...

    def events(self, since: int, *, limit: int = 0) -> Awaitable[Sequence[Event]]:
        """Writes with a revision above `since`, in order, at most `limit` (0: all). Raises Compacted."""
        ...

    def compact(self, revision: int) -> Awaitable[None]:
        """Forgets history up to and including `revision`; current values stay. Done in slices between commits."""
        ...

    @property
    def revision(self) -> int:
        """Revision of the last committed write."""
        ...

    @property
    def compacted(self) -> int:
        """Highest revision whose history is gone."""
        ...

    def hold(self) -> None:
        """What is called from now on may wait for `hand_over`, and then be begun together: for whoever makes many calls
        at once. Never across an await; without it, work may be begun together that comes in one turn of the loop."""
        ...

    def hand_over(self) -> None:
        """Ends `hold`."""
        ...

    async def close(self) -> None:
        """Finishes what was handed over, then refuses. Idempotent."""
        ...
