"""Traces of requests. The front hands over all that are kept, those too that it could answer alone.

After upstream k8s.io/apiserver pkg/endpoints/filters/traces.go.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.audit.request_log import LONGEST_ID
from kubecore.apiserver.tracing import spans
from kubecore.apiserver.tracing.exporting import Exporter
from kubecore.apiserver.tracing.spans import Span, Tracer, Value, place
from kubecore.background_tasks import BackgroundTasks

if TYPE_CHECKING:
    import logging

    from kubecore._native import Request
    from kubecore.apiserver.tracing.options import TracingOptions
    from kubecore.clock import Clock

_SCOPE = "kubecore"
# Whose word counts on whether a trace is kept.
_TRUSTED = frozenset(("system:masters", "system:monitoring"))


class RequestTraces:
    """`handle` has a request handled within its span, where that is kept; `close` sends what is left."""

    def __init__(self, options: TracingOptions, clock: Clock, log: logging.Logger, *, instance: str) -> None:
        resource = {"service.name": "apiserver", "service.instance.id": instance}
        self._exporter = Exporter(options.endpoint, clock, resource, _SCOPE)
        self._tracer = Tracer(clock, options.per_million, self._exporter.keep)
        self._tasks = BackgroundTasks(log)

    def start(self) -> None:
        self._tasks.spawn(self._exporter.run(), "traces")

    async def close(self) -> None:
        await self._tasks.close()
        await self._exporter.finish()

    def begin(self, request: Request) -> Span | None:
        """None where it is not kept, or where who asks is not known yet: then the request comes once more."""
        user = request.user
        if user is None or not request.authorized:
            return None
        return self._tracer.begin(
            _name(request),
            place(request.header(spans.HEADER)),
            trusted=not _TRUSTED.isdisjoint(user.groups),
            attributes=lambda: _attributes(request),
            sampled=request.sampled,
        )

    async def handle(self, span: Span, work: Coroutine[Any, Any, None]) -> None:
        with spans.within(span):
            await work


def _name(request: Request) -> str:
    if not request.is_resource:
        return request.method
    parts = ["apis" if request.api_group else "api", request.api_group, request.api_version]
    parts += ["namespaces/{:namespace}" if request.namespace else "", request.resource]
    parts += ["{:name}" if request.name else "", request.subresource]
    return f"{request.method} /{'/'.join(part for part in parts if part)}"


def _attributes(request: Request) -> Mapping[str, Value]:
    address = request.remote.rpartition(":")[0].strip("[]")
    return {
        "http.request.method": request.method,
        "url.scheme": "https" if request.secure else "http",
        "url.path": request.path,
        "http.target": f"{request.path}?{request.query}" if request.query else request.path,
        "user_agent.original": request.user_agent,
        "client.address": address,
        "audit-id": (request.header("audit-id") or "")[:LONGEST_ID],
    }
