"""What handlers tell the audit of a request: its object, and its answer where the front cannot read it.

The front collects it and writes the events (`native/front/src/audit`); what is asked within this process comes by
`Auditor.local`. After upstream k8s.io/apiserver `pkg/audit/request.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson

from kubecore.api.configuration_file import InvalidConfiguration, parsed
from kubecore.api.meta import deepcopy

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.handlers.request import Request
    from kubecore.apiserver.registry.store import Store

JSON = dict[str, Any]


Layer = Literal["authentication", "authorization", "mutating-webhook", "validating-webhook"]


class Record(Protocol):
    """Of a request that the audit wants to hear of (`_native.AuditRecord`)."""

    @property
    def wants_request(self) -> bool: ...
    @property
    def wants_response(self) -> bool: ...
    def annotate(self, key: str, value: str) -> None: ...
    def decided(self, decision: str, reason: str) -> None: ...
    def named(self, namespace: str, name: str, uid: str, resource_version: str) -> None: ...
    def requested(self, object: bytes) -> None: ...
    def responded(self, body: bytes) -> None: ...
    def panicked(self, why: str) -> None: ...
    def took(self, layer: Layer, seconds: float) -> None: ...


def record_object(record: Record, store: Store, obj: JSON) -> None:
    """The object of a create or an update as it was decoded: with defaults, and nothing of the server's."""
    _name(record, obj)
    if record.wants_request:
        told = deepcopy(obj)
        store.strategy.default(told)
        record.requested(store.codec.encode(told))


def record_sent(record: Record, obj: JSON) -> None:
    """The same of what is judged, and not stored: a review, an eviction, a Scale."""
    _name(record, obj)
    if record.wants_request:
        record.requested(orjson.dumps(obj))


def _name(record: Record, obj: JSON) -> None:
    metadata = obj.get("metadata") or {}
    record.named(*(metadata.get(field) or "" for field in ("namespace", "name", "uid", "resourceVersion")))


def record_patch(record: Record, patch: bytes) -> None:
    """As it came; what an apply has in YAML is told as JSON."""
    if not record.wants_request:
        return
    try:
        orjson.loads(patch)
    except orjson.JSONDecodeError:
        try:
            patch = orjson.dumps(parsed(patch))
        except (InvalidConfiguration, TypeError):
            return
    record.requested(patch)


class LocalAudit:
    """Records requests of components in this process."""

    def __init__(self, native: _native.Audit) -> None:
        self._native = native

    @property
    def is_on(self) -> bool:
        return self._native.is_on

    def begin(self, request: Request, user: _native.UserInfo) -> _native.AuditRecord | None:
        """None where the audit does not want to hear of it."""
        resource = None
        if request.is_resource:
            group, version, plural = request.api_group, request.api_version, request.resource
            resource = (group, version, plural, request.subresource, request.namespace, request.name)
        uri = f"{request.path}?{request.query}" if request.query else request.path
        return self._native.begin(user, request.verb, uri, request.path, resource, user_agent=request.user_agent)

    def end(self, record: _native.AuditRecord, status: int, body: Callable[[], bytes]) -> None:
        """`body` is asked for where it is told of."""
        if status >= 400 or record.wants_response:
            record.responded(body())
        record.complete(status)
