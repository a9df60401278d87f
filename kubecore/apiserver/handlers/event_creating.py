"""Events as components of this process tell them, many at once: what is so of all is settled once, and all are begun
before one is waited for. Each becomes what `Creator` makes of it, to whom those are left that are not so simple.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from kubecore.api.errors import StatusError
from kubecore.api.schemas import BuiltinKind
from kubecore.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kubecore.apiserver.registry import direct_writes, lifecycle
from kubecore.apiserver.registry.codec import dumps
from kubecore.apiserver.registry.size_limit import MOST_BYTES
from kubecore.apiserver.registry.validation.problems import Enough
from kubecore.apiserver.storage.interface import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.writing import Creator
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

_EVENTS = "events"
_SIMPLE = {"name", "namespace"}
# Room for what is added to an event, which is not measured.
_ROOM = 16 * 1024


class _Reference(TypedDict, total=False):
    namespace: str | None


class _Event(TypedDict, total=False):
    """What of an event has to be judged. Of its metadata no more is known than names."""

    metadata: dict[str, str]
    involvedObject: _Reference | None
    eventTime: str | None
    reportingComponent: str | None
    reportingInstance: str | None
    action: str | None
    reason: str | None
    message: str | None


_EVENT: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Event)


class EventCreating:
    """`creator`: of each alone."""

    @classmethod
    def of(cls, creator: Creator) -> EventCreating | None:
        """None where it creates no events, or in another form than they are stored in."""
        store, resource = creator.served.stored(), creator.served.resource
        return cls(creator, store) if resource.key == _EVENTS and store.resource is resource else None

    def __init__(self, creator: Creator, store: Store) -> None:
        self._creator = creator
        self._store = store
        schema = store.schema
        assert isinstance(schema, BuiltinKind), "events are built in"
        self._schema = schema

    async def create_at_once(self, user: UserInfo, bodies: Sequence[bytes]) -> list[bytes | None]:
        """What was stored of each, all of them begun before one is waited for; None of those that are left to the
        `creator`."""
        made: list[bytes | None] = [None] * len(bodies)
        admission, ctx = self._store.registry.admission, self._creator.context(user)
        # What looks at nothing but the namespace is heard once for all of them.
        if ctx.dry_run or admission.handles(_EVENTS, "CREATE", "", user, but=NamespaceLifecycle.name):
            return made
        ctx.operation = "CREATE"
        try:
            admission.mutate(ctx, {}, None)
        except StatusError:
            return made
        begun = [(number, self._begun(ctx, body)) for number, body in enumerate(bodies)]
        # The last one is the last to be answered: to wait for it first is to wait once.
        for number, writing in reversed(begun):
            if writing is None:
                continue
            try:  # contextlib.suppress would be three more calls of Python for each
                made[number] = (await writing).value
            except StorageError:
                pass
        return made

    def _begun(self, ctx: RequestContext, body: bytes) -> Awaitable[Stored] | None:
        """None for an event that has more of metadata than a name, or that is not right."""
        store = self._store
        try:
            event = _EVENT.decode(body)
            metadata = event.get("metadata") or {}
            if metadata.keys() != _SIMPLE or metadata["namespace"] != ctx.namespace or len(body) > MOST_BYTES - _ROOM:
                return None
            if store.strategy.validate(ctx, event):
                return None
        except (msgspec.MsgspecError, StatusError, Enough):
            return None
        made = dumps({"uid": lifecycle.new_uid(), "creationTimestamp": ctx.now})
        value = self._schema.created(body, made, by=(ctx.field_manager, ctx.now), opening=store.codec.opening)
        return direct_writes.begin_create(store, ctx.namespace, metadata["name"], value)
