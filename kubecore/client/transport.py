"""What a client needs of the wire, whichever wire it is: HTTPS, or the API server in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from kubecore.api.amendment import Amendment, PodName

NO_QUERY: Mapping[str, str] = MappingProxyType({})


class WatchEvent(Protocol):
    """One event of a watch. The object stays JSON bytes, so that each consumer decodes only what it needs."""

    @property
    def type(self) -> str:
        """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR (the object of an ERROR is a Status)."""
        ...

    @property
    def object(self) -> bytes: ...


class Event(NamedTuple):
    """The plainest WatchEvent."""

    type: str
    object: bytes


@runtime_checkable
class ManyAtOnce(Protocol):
    """A transport to which many creates in one collection cost less together than one by one."""

    async def create_all(
        self, path: str, bodies: Sequence[bytes], *, query: Mapping[str, str] = NO_QUERY
    ) -> list[tuple[int, bytes]]:
        """(HTTP status, body) for each, as `Transport.request` gives it; all are under way before one is answered."""
        ...


@runtime_checkable
class InProcess(Protocol):
    """A transport to a server of this process."""

    @property
    def in_process(self) -> bool: ...


@runtime_checkable
class AmendsPods(Protocol):
    """A transport by which conditions of pods cost less than patches that set them."""

    async def amend_pods(
        self, amendments: Sequence[Amendment], *, query: Mapping[str, str] = NO_QUERY
    ) -> list[tuple[int, bytes]] | None:
        """(HTTP status, body) for each: what comes of it is what comes of a PATCH of the status, and a DELETE. None
        where those have to be sent."""
        ...


@runtime_checkable
class BindsPods(Protocol):
    """A transport by which a pod's binding costs less than a POST of it."""

    async def bind_pod(self, pod: PodName, node: str, *, query: Mapping[str, str] = NO_QUERY) -> bool:
        """What comes of it is what comes of that. False where it has to be sent, which may be to hear why not."""
        ...


@runtime_checkable
class RenewsLeases(Protocol):
    """A transport by which the renewal of a lease costs less than a PUT of it."""

    async def renew_lease(
        self, namespace: str, name: str, version: str, renew_time: str, *, query: Mapping[str, str] = NO_QUERY
    ) -> bytes | None:
        """The lease with another renewTime, as it is written, if `version` is its present one: what comes of it is what
        comes of a PUT. None where that has to be sent, which may be to hear why not."""
        ...


class Transport(Protocol):
    """Carries requests as one identity.

    `request` answers (HTTP status, body) and never raises for a status; it raises OSError (or a subclass) when the
    server cannot be reached. `query` values are unescaped.

    `watch` yields events in batches, in order, until the server ends the watch; it raises StatusError when the watch is
    refused. An ERROR event inside the stream is yielded like any other. Closing the iterator ends the watch.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = NO_QUERY,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]: ...

    def watch(self, path: str, *, query: Mapping[str, str] = NO_QUERY) -> AsyncIterator[Sequence[WatchEvent]]: ...

    async def close(self) -> None: ...
