"""The scale subresource: autoscaling/v1 Scale over what has replicas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors
from kubecore.api.errors import FieldError
from kubecore.api.schemas import BuiltinKind
from kubecore.api.scheme import group_version, split_group_version
from kubecore.api.selectors import Selector
from kubecore.apiserver.admission.dynamic.subjects import OwnKind
from kubecore.apiserver.audit.recording import record_patch, record_sent
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.failing import telling
from kubecore.apiserver.handlers.patching import APPLY, check_patched, patch_options, type_of_patch
from kubecore.apiserver.handlers.request import Request, Response, warning_headers
from kubecore.apiserver.handlers.scale_ownership import Entries, Path, to_parent, to_scale
from kubecore.apiserver.handlers.transforming import Shape, shape_for
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import write_options
from kubecore.apiserver.registry.validation.metadata import validate_metadata
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.audit.recording import Record
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

KIND = "autoscaling/v1/Scale"
# A Scale's new state and its managedFields, made of its present state as JSON.
Wanted = Callable[[bytes], tuple[JSON, Entries]]


def scale_of(obj: JSON) -> JSON:
    """The Scale that shows an object's replicas."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    shown = ""
    selector = spec.get("selector")
    if selector:
        simple = "matchLabels" not in selector and "matchExpressions" not in selector
        wrapped = {"matchLabels": selector} if simple else selector
        shown = str(Selector.from_label_selector(wrapped))
    return make_scale(obj, replicas=spec.get("replicas") or 0, current=status.get("replicas") or 0, selector=shown)


def make_scale(obj: JSON, *, replicas: int, current: int, selector: str) -> JSON:
    """A Scale of that object."""
    metadata = obj["metadata"]
    shown = {
        name: metadata[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in metadata
    }
    status: JSON = {"replicas": current}
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": shown,
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


class Replicas:
    """Where a kind keeps its replicas: in `spec.replicas`, unless a subclass knows better."""

    def show(self, obj: JSON) -> JSON:
        """The object's Scale."""
        return scale_of(obj)

    def put(self, obj: JSON, replicas: int) -> None:
        obj["spec"]["replicas"] = replicas

    def check_present(self, obj: JSON) -> None:
        """Raises what a GET of a Scale is refused with."""

    def path(self, served: Resource, api_version: str) -> Path | None:
        """Where the replicas are in objects of a version of the kind: () where these have no scale, None where there is
        no such version."""
        return ("spec", "replicas") if split_group_version(api_version)[0] == served.group else None


class _ScaleSubject(OwnKind):
    """The Scale of an object that is being changed."""

    def __init__(
        self, replicas: Replicas, ctx: RequestContext, resource: Resource, obj: JSON, old: JSON, schema: KindSchema
    ) -> None:
        shown = replicas.show(obj)
        super().__init__(ctx, resource, shown, replicas.show(old), subresource="scale", schema=schema)
        self._replicas, self._ctx = replicas, ctx
        self._parent, self._custom = obj, bool(resource.storage_version)

    async def put(self, target: Resource, body: bytes) -> bool:
        changed = await super().put(target, body)
        self._replicas.put(self._parent, _replicas_in(self.obj, self._ctx, custom=self._custom))
        return changed


class ScaleSubresource:
    def __init__(self, registry: Registry, writing: Writing, replicas: Replicas | None = None) -> None:
        self._registry = registry
        self._writing = writing
        self._replicas = replicas or Replicas()

    async def get(self, request: Request, user: UserInfo, served: Served) -> Response:
        shape = self._shape(request, served)
        obj = loads((await served.stored().read(request.namespace, request.name)).value)
        self._replicas.check_present(obj)
        return self._answer(shape, self._replicas.show(obj), served.headers, request.audit)

    async def update(self, request: Request, user: UserInfo, served: Served) -> Response:
        ctx = self._writing.context(request, user, served, write_options("update", request.query))
        body = self._registry.schemas.decode(KIND, request.body, request.content_type, ctx.field_validation)
        ctx.warnings += body.warnings
        scale = loads(body.body)
        if ctx.audit is not None:
            record_sent(ctx.audit, scale)
        with telling(ctx.warnings):
            lifecycle.check_same(ctx, served.resource, scale)

        def replaced(current: bytes) -> tuple[JSON, Entries]:
            return scale, self._tracked(ctx, current, body.body)

        return await self._scale(request, served, ctx, replaced)

    async def patch(self, request: Request, user: UserInfo, served: Served) -> Response:
        patch_type = type_of_patch(request.content_type, custom=served.custom)
        options = patch_options(patch_type, request.query)
        ctx = self._writing.context(request, user, served, options)
        if ctx.audit is not None:
            record_patch(ctx.audit, request.body)
        schemas, told = self._registry.schemas, False

        def of_this(body: bytes) -> JSON:
            scale: JSON = loads(body)
            check_patched(ctx, served, scale.setdefault("metadata", {}))
            return scale

        def patched(current: bytes) -> tuple[JSON, Entries]:
            nonlocal told
            changed = schemas.patch_decode(KIND, current, request.body, patch_type, ctx.field_validation)
            if not told:
                ctx.warnings += changed.warnings
                told = True
            return of_this(changed.body), self._tracked(ctx, current, changed.body)

        def applied(current: bytes) -> tuple[JSON, Entries]:
            outcome = schemas.apply(
                KIND,
                current,
                request.body,
                manager=ctx.field_manager,
                time=ctx.now,
                subresource="scale",
                force=bool(options.force),
            )
            return of_this(outcome.body), loads(outcome.managed)

        return await self._scale(request, served, ctx, applied if patch_type == APPLY else patched)

    def _tracked(self, ctx: RequestContext, current: bytes, new: bytes) -> Entries:
        managed = self._registry.schemas.managed(
            KIND, current, new, manager=ctx.field_manager, time=ctx.now, subresource="scale"
        )
        entries: Entries = loads(managed) if managed is not None else []
        return entries

    async def _scale(self, request: Request, served: Served, ctx: RequestContext, wanted: Wanted) -> Response:
        store, shape = served.stored(), self._shape(request, served)
        # The change goes through the parent's strategy and admission, as a change of its spec. Webhooks and policies
        # see the Scale.
        ctx.subresource = ""

        def facet(obj: JSON, old: JSON) -> Subject:
            schema = BuiltinKind(self._registry.schemas, KIND)
            return _ScaleSubject(self._replicas, ctx, served.resource, obj, old, schema)

        ctx.facet = facet

        def path_of(version: str) -> Path | None:
            return self._replicas.path(served.resource, version)

        def make(old: JSON, stored: Stored) -> JSON:
            obj: JSON = loads(stored.value)
            owners: Entries = obj["metadata"].get("managedFields") or []
            current = self._replicas.show(obj)
            if shown := to_scale(owners, path_of):
                current["metadata"]["managedFields"] = shown
            scale, entries = wanted(orjson.dumps(current))
            self._replicas.put(obj, _replicas_in(scale, ctx, custom=bool(served.resource.storage_version)))
            ctx.managed = orjson.dumps(to_parent(owners, entries, path_of, served.resource.api_version))
            given = scale.get("metadata") or {}
            lifecycle.check_uid(ctx, store.resource, given, obj["metadata"].get("uid"))
            obj["metadata"]["resourceVersion"] = version = given.get("resourceVersion") or ""
            if not version:
                # Not the object as a whole is replaced: whatever its kind says of updates without a version.
                ctx.verb = "patch"
            return obj

        with telling(ctx.warnings):
            written = await store.update(ctx, Change(make))
        shown = self._replicas.show(loads(written.body))
        return self._answer(shape, shown, warning_headers(ctx.warnings), ctx.audit)

    def _shape(self, request: Request, served: Served) -> Shape:
        own = served.resource.subresources["scale"]
        scale = replace(
            served.resource,
            group=own.group,
            version=own.version,
            kind=own.kind,
            api_version=group_version(own.group, own.version),
            key=f"scales.{own.group}",
        )
        return shape_for(request.accept, request.query, scale, None, self._registry.clock)

    def _answer(self, shape: Shape, scale: JSON, headers: Any, audit: Record | None) -> Response:
        told = shape.one(orjson.dumps(scale))
        if audit is not None and audit.wants_response:
            audit.responded(told)
        body, media = negotiation.encode(shape.form, told)
        return Response(200, body, media, headers)


def _replicas_in(scale: JSON, ctx: RequestContext, *, custom: bool) -> int:
    """How many a Scale asks for, if it is right; without a name it is that of the path. That of a custom resource is
    judged by the resource's own rules. Raises 422."""
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if custom:
        return int(replicas)
    named = {"name": ctx.name, "namespace": ctx.namespace}
    metadata = {"metadata": named | (scale.get("metadata") or {})}
    causes = validate_metadata(metadata, namespaced=True)
    if replicas < 0:
        causes.append(FieldError.invalid("spec.replicas", replicas, "must be greater than or equal to 0"))
    if causes:
        raise errors.invalid("Scale", ctx.name, causes, group="autoscaling")
    return int(replicas)
