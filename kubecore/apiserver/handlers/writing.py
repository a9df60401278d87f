"""The verbs that write: create, update, patch, delete, deletecollection of whole objects and of their subresources."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors, meta, protobuf
from kubecore.api.schemas import BuiltinKind, apart
from kubecore.api.scheme import split_group_version
from kubecore.apiserver.admission.dynamic.subjects import OwnKind
from kubecore.apiserver.audit.recording import record_object, record_patch, record_sent
from kubecore.apiserver.authorization.authorizer import Attributes, Authorizer, forbidden
from kubecore.apiserver.handlers import applying, negotiation, versions
from kubecore.apiserver.handlers.converted_fields import page_of
from kubecore.apiserver.handlers.delete_options import sent_options
from kubecore.apiserver.handlers.failing import telling, warned
from kubecore.apiserver.handlers.patching import APPLY, check_patched, patch_options, type_of_patch
from kubecore.apiserver.handlers.request import JSON_TYPE, Request, Response, warning_headers
from kubecore.apiserver.handlers.served import Served
from kubecore.apiserver.handlers.status_writes import judged_whole, of_status, says_status_alone, writes_status
from kubecore.apiserver.handlers.transforming import Shape, more_of, shape_of
from kubecore.apiserver.registry import deletion, lifecycle
from kubecore.apiserver.registry.codec import OF_STATUS, loads
from kubecore.apiserver.registry.conversion import in_storage, in_version
from kubecore.apiserver.registry.options import DeleteOptions, WriteOptions, manager_of, write_options
from kubecore.apiserver.registry.store import Store
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.api.schemas import Decoded
    from kubecore.apiserver.audit.recording import Record
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]


class Writing:
    """Handlers of writes over the registry."""

    def __init__(self, registry: Registry, authorizer: Authorizer) -> None:
        self._registry = registry
        self._authorizer = authorizer
        self._schemas = registry.schemas
        self._clock = registry.clock
        never = datetime.fromtimestamp(0, UTC)
        self._stamp = (never, never, "")

    def now(self) -> str:
        """The time in RFC 3339, made once a second."""
        since, until, text = self._stamp
        when = self._clock.now()
        if not since <= when < until:
            since = when.replace(microsecond=0)
            text = meta.format_time(since)
            self._stamp = (since, since + timedelta(seconds=1), text)
        return text

    def context(self, request: Request, user: UserInfo, served: Served, options: WriteOptions) -> RequestContext:
        ctx = self.made(user, served, options, self.facts(request, served, options), request.audit)
        ctx.waited = request.waited
        return ctx

    def facts(self, request: Request, served: Served, options: WriteOptions) -> JSON:
        """What a context says of a request, whoever asks and whenever."""
        store = served.store
        return {
            "verb": request.verb,
            "resource_key": served.resource.key if store is None else store.resource.key,
            # A request for a Namespace carries its name as the namespace, too.
            "namespace": request.namespace if served.resource.namespaced else "",
            "name": request.name,
            "clock": self._clock,
            "lookup": self._registry,
            "subresource": request.subresource,
            "dry_run": options.dry_run,
            "field_manager": manager_of(options, request.user_agent),
            "field_validation": options.field_validation,
            "api_version": served.resource.api_version,
            "options": options,
        }

    def made(
        self, user: UserInfo, served: Served, options: WriteOptions, facts: JSON, audit: Record | None
    ) -> RequestContext:
        """The context of a request that comes now."""
        return RequestContext(
            user=user,
            now=self.now(),
            audit=audit,
            deadline=self._clock.monotonic() + options.seconds if options.seconds else 0.0,
            warnings=[served.warning] if served.warning else [],
            **facts,
        )

    def decode(
        self,
        ctx: RequestContext,
        kind: str,
        body: bytes,
        content_type: str,
        default: Callable[[JSON], None] | None = None,
    ) -> JSON:
        """The body as an object that is judged and not stored, unknown fields dropped and told about. Raises 400,
        415."""
        decoded = BuiltinKind(self._schemas, kind).decode(body, content_type or JSON_TYPE, ctx.field_validation)
        if decoded.warnings:
            ctx.warnings += decoded.warnings
        obj: JSON = loads(decoded.body)
        if default is not None:
            default(obj)
        if ctx.audit is not None:
            record_sent(ctx.audit, obj)
        return obj

    def own(self, ctx: RequestContext, kind: str, obj: JSON) -> None:
        """Writes into an object that is answered and not stored who has sent which of its fields."""
        metadata = obj.setdefault("metadata", {})
        metadata.pop("managedFields", None)
        sent = {name: value for name, value in obj.items() if name != "status"}
        managed = BuiltinKind(self._schemas, kind).managed(
            None, orjson.dumps(sent), manager=ctx.field_manager, time=ctx.now, subresource=ctx.subresource
        )
        if managed and managed != b"[]":
            metadata["managedFields"] = loads(managed)

    # --- verbs

    def create(self, request: Request, user: UserInfo, served: Served) -> Coroutine[Any, Any, Response]:
        return Creator(self, request, served).create(user, request.body, audit=request.audit, waited=request.waited)

    async def update(self, request: Request, user: UserInfo, served: Served) -> Response:
        store = served.stored()
        shape = self.shape(request, served)
        _check_media(served, request)
        ctx = self.context(request, user, served, write_options("update", request.query))
        decoded = versions.decode(served, request.body, request.content_type or JSON_TYPE, ctx.field_validation)
        ctx.warnings += decoded.warnings
        ctx.sent = _opaquely(store, decoded, request.content_type)
        whole = judged_whole(ctx)
        part = not whole and writes_status(ctx, served)

        def make(old: JSON, stored: Stored) -> JSON:
            sent = of_status(decoded.body) if part else decoded.body
            obj = in_storage(loads(sent), store.resource, served.resource)
            obj.setdefault("metadata", {})
            if ctx.audit is not None:
                record_object(ctx.audit, store, obj)
            lifecycle.check_same(ctx, store.resource, obj)
            lifecycle.check_uid(ctx, store.resource, obj["metadata"], old["metadata"].get("uid"))
            if obj["metadata"].get("resourceVersion") == str(stored.revision):
                # Another one, or none, is told instead.
                _check_identity(ctx, served, obj, old)
            return obj

        def creates() -> JSON:
            obj = in_storage(loads(decoded.body), store.resource, served.resource)
            if ctx.audit is not None:
                record_object(ctx.audit, store, obj)
            lifecycle.check_same(ctx, store.resource, obj)
            if not (store.strategy.allow_create_on_update and _may_create(ctx, served)):
                raise store.not_found(ctx.name)
            return obj

        return await self._updated(store, ctx, Change(make, creates, part, whole), shape)

    async def _updated(self, store: Store, ctx: RequestContext, change: Change, shape: Shape) -> Response:
        try:
            written = await store.update(ctx, change)
        except Exception as failure:
            raise warned(failure, ctx.warnings) from failure
        return self.answer(201 if written.created else 200, written.body, shape, ctx)

    async def patch(self, request: Request, user: UserInfo, served: Served) -> Response:
        store = served.stored()
        patch_type = type_of_patch(request.content_type, custom=served.custom)
        shape = self.shape(request, served)
        options = patch_options(patch_type, request.query)
        ctx = self.context(request, user, served, options)
        if ctx.audit is not None:
            record_patch(ctx.audit, request.body)
        if patch_type == APPLY:
            change = await self._application(ctx, request, user, served, force=bool(options.force))
        else:
            change = self._patching(ctx, request, served, patch_type)
        return await self._updated(store, ctx, change, shape)

    async def _application(
        self, ctx: RequestContext, request: Request, user: UserInfo, served: Served, *, force: bool
    ) -> Change:
        """Server-side apply, the one patch that creates what is not there."""
        store = served.stored()

        def applied(live: bytes | None) -> JSON:
            obj = applying.apply(ctx, served, live, request.body, force=force)
            if live is None:
                applying.check_no_uid(served, obj, ctx.name)
            check_patched(ctx, served, obj.setdefault("metadata", {}))
            return in_storage(obj, store.resource, served.resource)

        def make(old: JSON, stored: Stored) -> JSON:
            return applied(in_version(stored.value, store.resource, served.resource))

        where = {"namespace": request.namespace, "name": request.name}
        asked = Attributes("create", request.api_group, request.api_version, request.resource, **where)
        # Asked before it is known whether anything is created: afterwards there is no waiting for a webhook.
        known = await self._authorizer.decide(user, asked) if self._authorizer.asks_webhooks else None

        def creates() -> JSON:
            decision = known or self._authorizer.authorize(user, asked)
            if not decision.allowed:
                raise forbidden(user, asked, decision.reason)
            return applied(None)

        return Change(make, creates if _may_create(ctx, served) else None)

    def _patching(self, ctx: RequestContext, request: Request, served: Served, patch_type: str) -> Change:
        store = served.stored()
        part = writes_status(ctx, served)
        only_status = part and not served.custom and says_status_alone(request.body, patch_type)
        whole = not only_status and judged_whole(ctx)
        part = part and not whole
        told = False

        def make(old: JSON, stored: Stored) -> JSON:
            nonlocal told
            current = in_version(stored.value, store.resource, served.resource)
            if only_status:
                # The rest of the object is neither read nor changed.
                current = apart(current, OF_STATUS)[0]
            decoded = versions.patched(served, current, request.body, patch_type, ctx.field_validation)
            if not told:
                ctx.warnings += decoded.warnings
                told = True
            ctx.sent = _opaquely(store, decoded, patch_type)
            made = of_status(decoded.body) if part else decoded.body
            obj = in_storage(loads(made), store.resource, served.resource)
            metadata = obj.setdefault("metadata", {})
            if not metadata.get("resourceVersion"):
                metadata["resourceVersion"] = str(stored.revision)
            check_patched(ctx, served, metadata)
            _check_identity(ctx, served, obj, old)
            return obj

        return Change(make, without_owners=part, whole=whole)

    async def delete(self, request: Request, user: UserInfo, served: Served) -> Response:
        store = served.stored()
        shape = self.shape(request, served)
        options = write_options("delete", request.query)
        ctx = self.context(request, user, served, options)
        given = deletion.delete_options(self._options_of(ctx, request), options.params)
        # Of the query only where there is no body.
        ctx.dry_run = given.dry_run
        if (why := store.strategy.undeletable.get(ctx.name)) is not None:
            raise errors.forbidden(served.resource.group, served.resource.plural, ctx.name, why)
        with telling(_warned_of(ctx, store, given)):
            deleted = await deletion.delete(store, ctx, given)
        if deleted.gone and not store.strategy.returns_deleted:
            body = deletion.deletion_status(store, ctx.name, deleted.uid)
            return self.answer(200, body, shape, ctx, transform=False)
        # As upstream: only who asks in the old way is told that it goes on.
        goes_on = given.orphan is False and not deleted.gone
        return self.answer(202 if goes_on else 200, deleted.body, shape, ctx)

    async def delete_collection(self, request: Request, user: UserInfo, served: Served) -> Response:
        store = served.stored()
        shape = self.shape(request, served)
        options = write_options("delete", request.query)
        ctx = self.context(request, user, served, options)
        given = deletion.delete_options(self._options_of(ctx, request), options.params)
        ctx.dry_run = given.dry_run
        with telling(_warned_of(ctx, store, given)):
            query = deletion.of_its_time(request.query)
            page = await page_of(self._registry.cacher, served, query, ctx.namespace)
            await deletion.delete_all(store, ctx, given, page.stored)
        body, media = negotiation.encode(shape.form, shape.many(page.items, page.revision, more_of(page)))
        return Response(200, body, media, warning_headers(ctx.warnings))

    def _options_of(self, ctx: RequestContext, request: Request) -> bytes:
        given = sent_options(self._schemas, request)
        if given and ctx.audit is not None:
            ctx.audit.requested(given)
        return given

    def shape(self, request: Request, served: Served) -> Shape:
        """Settled before anything is written: what cannot be shown is refused."""
        return shape_of(request.accept, request.query, served, self._clock, subresource=request.subresource)

    async def admit(
        self,
        ctx: RequestContext,
        served: Served,
        obj: JSON,
        *,
        kind: str = "",
        subresource: str = "",
        judge: Callable[[], None] | None = None,
        reviews: bool = False,
    ) -> None:
        """Admission of what is created and not stored: an object of `kind`, by default what is served, which plugins,
        webhooks and policies may change; `judge` is asked before they validate. What only `reviews` is not for plugins
        to judge. Raises StatusError to refuse."""
        ctx.operation = "CREATE"
        admission, dynamic = self._registry.admission, self._registry.admission.asked
        if not reviews:
            if (coming := admission.expect(ctx, obj)) is not None:
                await coming
            admission.mutate(ctx, obj, None)
        subject = None
        if dynamic is not None:
            subject = self._own_kind(ctx, served, obj, kind=kind, subresource=subresource)
            await dynamic.mutate(subject, lambda: False)
        elif reviews:
            admission.metrics.admitted(ctx)
        if judge is not None:
            judge()
        if not reviews:
            admission.validate(ctx, obj, None)
        if dynamic is not None and subject is not None:
            await dynamic.validate(subject)
        admission.metrics.validated(ctx)

    def _own_kind(self, ctx: RequestContext, served: Served, obj: JSON, *, kind: str, subresource: str) -> OwnKind:
        if served.resource.namespaced:
            metadata = obj.setdefault("metadata", {})
            metadata["namespace"] = metadata.get("namespace") or ctx.namespace
        schema = BuiltinKind(self._schemas, kind or served.kind)
        return OwnKind(ctx, served.resource, obj, subresource=subresource, schema=schema)

    def review(self, answer: JSON, request: Request, served: Served, warnings: list[str]) -> Response:
        """What is answered and not stored."""
        shape = self.shape(request, served)
        told = shape.one(orjson.dumps(answer))
        if request.audit is not None and request.audit.wants_response:
            request.audit.responded(told)
        body, media = negotiation.encode(shape.form, told)
        return Response(201, body, media, warning_headers(warnings))

    def answer(
        self, status: int, body: bytes, shape: Shape, ctx: RequestContext, *, transform: bool = True
    ) -> Response:
        """The object (stored bytes) as the client wants to see it; `transform` is False for a Status."""
        media = JSON_TYPE
        if not shape.as_stored:
            body = shape.one(body) if transform else body
        if ctx.audit is not None and (ctx.audit.wants_response or not transform):
            ctx.audit.responded(body)
        if not shape.as_stored:
            body, media = negotiation.encode(shape.form, body)
        return Response(status, body, media, warning_headers(ctx.warnings) if ctx.warnings else ())


class Creator:
    """Creates objects of bodies, as many as there are, with the options of one request or of others with the same
    head: what depends neither on the object nor on who asks is settled once."""

    def __init__(self, writing: Writing, request: Request, served: Served) -> None:
        """Raises what refuses the request, whatever its body."""
        self._writing = writing
        self.served = served
        self._store = served.stored()
        self._shape = writing.shape(request, served)
        _check_media(served, request)
        self._options = write_options("create", request.query)
        self._content_type = request.content_type or JSON_TYPE
        self._facts = writing.facts(request, served, self._options)
        self._last: tuple[bytes, Decoded, RequestContext] | None = None

    async def create(
        self,
        user: UserInfo,
        body: bytes,
        *,
        repeated: bool = False,
        audit: Record | None = None,
        waited: Callable[[float], None] | None = None,
    ) -> Response:
        """`repeated`: the same body may come again. Raises StatusError."""
        served, store = self.served, self._store
        ctx = self.context(user, audit)
        ctx.waited = waited
        try:
            decoded = self._again(ctx, body) if repeated else self._decoded(ctx, body)
            if decoded.warnings:
                ctx.warnings += decoded.warnings
            ctx.sent = _opaquely(store, decoded, self._content_type)
            obj = loads(decoded.body)
            _check_identity(ctx, served, obj, None)
            if store.resource is not served.resource:
                obj = in_storage(obj, store.resource, served.resource)
            if audit is not None:
                record_object(audit, store, obj)
            written = await store.create(ctx, obj)
        except Exception as failure:
            raise warned(failure, ctx.warnings) from failure
        return self._writing.answer(201, written.body, self._shape, ctx)

    def context(self, user: UserInfo, audit: Record | None = None) -> RequestContext:
        """Of one that is created now."""
        return self._writing.made(user, self.served, self._options, self._facts, audit)

    def _decoded(self, ctx: RequestContext, body: bytes) -> Decoded:
        return versions.decode(self.served, body, self._content_type, ctx.field_validation)

    def _again(self, ctx: RequestContext, body: bytes) -> Decoded:
        """Controllers create many objects that differ in nothing but the name they will get."""
        if self._last is not None and self._last[0] is body:
            _, decoded, former = self._last
            ctx.owned = former.owned if former.now == ctx.now else None
            return decoded
        decoded = self._decoded(ctx, body)
        self._last = (body, decoded, ctx)
        return decoded


def _warned_of(ctx: RequestContext, store: Store, options: DeleteOptions) -> list[str]:
    """The request's warnings, with what is told to who does not say what becomes of dependents."""
    if store.strategy.deletion_warning and not options.propagation and options.orphan is None:
        ctx.warn(store.strategy.deletion_warning)
    return ctx.warnings


def _opaquely(store: Store, decoded: Decoded, content_type: str) -> bytes:
    """The body that says how opaque members are written. Go escapes those that come as JSON when it shows them."""
    return store.codec.opaque.sent(decoded.body, escaped=not content_type.startswith(protobuf.MEDIA))


# As upstream's, whose storage of these does not tell a write of the status from one of the whole.
_CREATED_BY_STATUS = frozenset(("services", "validatingadmissionpolicies.admissionregistration.k8s.io"))


def _may_create(ctx: RequestContext, served: Served) -> bool:
    """Whether an update or apply of this may make what is not there."""
    return not ctx.subresource or (ctx.subresource == "status" and served.resource.key in _CREATED_BY_STATUS)


def _check_media(served: Served, request: Request) -> None:
    """Raises 415: custom kinds have no form but JSON and YAML."""
    if served.custom and request.content_type.partition(";")[0].strip() == protobuf.MEDIA:
        raise errors.unsupported_media_type((JSON_TYPE, negotiation.YAML_TYPE))


def _check_identity(ctx: RequestContext, served: Served, obj: JSON, old: JSON | None) -> None:
    """Raises 422: a custom resource is decoded whatever it says it is. It is judged as it came, without defaults."""
    if not served.custom:
        return
    given, version = obj.get("kind") or "", obj.get("apiVersion") or ""
    if (given, version) == (served.resource.kind, served.resource.api_version):
        return
    strategy = served.stored().strategy
    if old is None:
        causes = strategy.validate(ctx, obj)
    elif ctx.subresource == "status":
        causes = strategy.validate_status_update(ctx, obj, old)
    else:
        causes = strategy.validate_update(ctx, obj, old)
    name = (obj.get("metadata") or {}).get("name") or ""
    raise errors.invalid(given, name, causes, group=split_group_version(version)[0])
