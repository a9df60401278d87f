"""Generic CRUD for one resource: what every kind shares. Kinds differ by their strategy only.

Reads are the watch cache's, which is never behind an answered write. Writes go to the storage with the revision they
were computed from, and are computed again when another write came first and the client left that to us.
After upstream k8s.io/apiserver pkg/registry/generic/registry/store.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.schemas import apart, with_members
from kubecore.apiserver.admission.chain import guarded
from kubecore.apiserver.admission.dynamic import stored as stored_requests
from kubecore.apiserver.registry import companions, empty_lists, inert, lifecycle
from kubecore.apiserver.registry.codec import Codec, dumps, loads
from kubecore.apiserver.registry.custom.spoken import ConversionNeeded, SpokenCustomVersions
from kubecore.apiserver.registry.judging import judge_new, judge_update
from kubecore.apiserver.registry.missing import may_be, missing
from kubecore.apiserver.registry.owning import Owning
from kubecore.apiserver.registry.size_limit import MOST_BYTES, check_size
from kubecore.apiserver.registry.spoken import SpokenVersions
from kubecore.apiserver.registry.subresources import SUBRESOURCE_MERGE, keep, keep_metadata, kept_by_status
from kubecore.apiserver.registry.writes import Change, Intent, Written, storage_status
from kubecore.apiserver.storage.interface import KeyExists, KeyMissing, RevisionConflict, StorageError, Stored

if TYPE_CHECKING:
    from kubecore.api.schemas import Books, KindSchema
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import Finish, RequestContext, Strategy
    from kubecore.apiserver.registry.writes import Conversion
    from kubecore.apiserver.storage.cacher import Cached
    from kubecore.apiserver.storage.interface import Template

JSON = dict[str, Any]

_NAME_TRIES = 8
# Whose resets upstream's field manager knows; what is written through others is owned as it was sent.
_KNOWN_RESETS = frozenset({"", *SUBRESOURCE_MERGE})


class Store:
    """The registry of one group resource, in the version it is stored in; of a custom resource, in one version.

    `conversion` is None where objects are stored as this store speaks of them.
    """

    def __init__(
        self,
        registry: Registry,
        cached: Cached,
        strategy: Strategy,
        *,
        resource: Resource | None = None,
        schema: KindSchema | None = None,
        conversion: Conversion | None = None,
        spoken: SpokenCustomVersions | None = None,
    ) -> None:
        self.registry = registry
        self.resource: Resource = resource or cached.resource
        self.told = self.resource  # What errors are about; another one for who came by another group.
        self.strategy = strategy
        self.conversion = conversion
        self.spoken = spoken
        self.codec = Codec(self.resource)
        self.cached = cached
        self.has_status = "status" in self.resource.subresources
        self.owning = Owning(self)
        self._nobody = inert.warning(self.resource.key)
        self._lists = empty_lists.paths_of(self.resource.key)
        self._prefix = cached.prefix
        self._cache, self._storage = registry.cacher.native, registry.storage
        self._admission = registry.admission
        self._guards = registry.admission.guards(self.resource.key)
        self.versions = SpokenVersions(registry.scheme, registry.schemas, self.resource)
        self.schema: KindSchema = schema or self.versions.schema(self.resource)

    # --- reading

    def key(self, namespace: str, name: str) -> str:
        return f"{self._prefix}{namespace}/{name}" if self.resource.namespaced else self._prefix + name

    def current(self, namespace: str, name: str) -> Stored | None:
        try:
            found = self._cache.get(self.cached.number, namespace, name)
        except KeyError:
            # A custom resource whose definition has gone meanwhile.
            raise errors.no_such_path() from None
        return None if found is None else Stored(*found)

    def get(self, namespace: str, name: str) -> Stored:
        """Raises 404."""
        found = self.current(namespace, name)
        if found is None:
            raise missing(self.told, namespace, name)
        return found

    async def read(self, namespace: str, name: str) -> Stored:
        """The object in the version this store speaks. Raises 404."""
        found = self.get(namespace, name)
        return found if self.conversion is None else await self.conversion.read(found)

    def books(self, ctx: RequestContext) -> Books:
        """Who owns what, for one request."""
        return self.schema if self.spoken is None else self.spoken.books(ctx)

    async def template(self, body: bytes) -> Template:
        """An object of this store's version, ready to be stored."""
        return self.codec.template(body) if self.conversion is None else await self.conversion.template(body)

    async def _read_back(self, stored: Stored) -> bytes:
        return stored.value if self.conversion is None else (await self.conversion.read(stored)).value

    def not_found(self, name: str) -> StatusError:
        return errors.not_found(self.told.group, self.told.plural, name)

    def conflict(self, name: str, detail: str = errors.MODIFIED) -> StatusError:
        return errors.conflict(self.told.group, self.told.plural, name, detail)

    # --- creating

    async def create(self, ctx: RequestContext, obj: JSON) -> Written:
        """Stores a decoded object; `obj` is the caller's no more."""
        resource, strategy = self.resource, self.strategy
        metadata = obj.get("metadata")
        if metadata is None:
            metadata = obj["metadata"] = {}
        ctx.operation = "CREATE"
        generated, version = lifecycle.begin(ctx, resource, metadata)
        if generated and strategy.keeps_generate_name:
            metadata["name"] = generated
        if ctx.managed is not None:
            metadata["managedFields"] = loads(ctx.managed)
        ctx.name, ctx.name_prefix = metadata.get("name") or "", generated
        if self.has_status and not strategy.status_on_create:
            obj.pop("status", None)
        strategy.default(obj)
        self.dedup_owners(ctx, metadata)
        if (coming := self._admission.expect(ctx, obj)) is not None:
            await coming
        # Before admission: what the server adds or changes is nobody's.
        managed = ctx.owned = self.owning.managed(ctx, None, obj)
        if self._admission.mutate(ctx, obj, None):
            strategy.default(obj)
        dynamic = self._admission.asked
        if dynamic is not None:
            managed = await stored_requests.mutate_new(dynamic, self, ctx, obj, managed, unnamed=bool(generated))
        if self._guards:
            await guarded(self._guards, ctx, obj, None)
        ctx.name_prefix = ""
        finish = strategy.begin_create(ctx, obj)
        done = False
        try:
            self._check_new(ctx, obj)
            if dynamic is not None:
                await stored_requests.validate(dynamic, self, ctx, obj, None, None, managed)
            lifecycle.check_new_version(ctx, version)
            if (deciding := self._admission.decide(ctx, obj, None)) is not None:
                await deciding
            if wanted := strategy.companions(obj):
                async with companions.beside(self.registry, ctx, wanted):
                    body = await self._insert(ctx, obj, managed, generated)
            else:
                body = await self._insert(ctx, obj, managed, generated)
            done = not ctx.dry_run
        finally:
            _finish(ctx, finish, done)
        if done:
            strategy.after_create(ctx, obj)
        elif version:
            # Only what is stored has one of its own.
            body = with_members(body, dumps({"metadata": {"resourceVersion": version}}))
        return Written(body, created=True)

    def _check_new(self, ctx: RequestContext, obj: JSON) -> None:
        """Everything between what is taken for a new object and storing it; raises what is wrong with it."""
        resource, strategy = self.resource, self.strategy
        if strategy.tracks_generation and "spec" in obj:
            obj["metadata"]["generation"] = 1
        strategy.prepare_for_create(ctx, obj)
        judge_new(ctx, resource, strategy, obj)
        ctx.warnings += strategy.warnings(ctx, obj, None)
        if self._nobody:
            ctx.warn(self._nobody)
        self._admission.validate(ctx, obj, None)
        strategy.canonicalize(obj)
        empty_lists.to_null(obj, self._lists)

    async def _insert(self, ctx: RequestContext, obj: JSON, managed: bytes | None, generated: str) -> bytes:
        metadata = obj["metadata"]
        for attempt in range(_NAME_TRIES):
            if attempt and not self.strategy.keeps_generate_name:
                metadata["name"] = ctx.name = meta.generate_name(generated)
                self.strategy.canonicalize(obj)
            name = metadata["name"]
            body = self._storable(ctx, obj, managed)
            taken = ctx.dry_run and self.current(ctx.namespace, name) is not None
            if ctx.dry_run and not taken:
                return body
            try:
                if not taken:
                    # Where nothing is converted, without a coroutine for each step: every create pays for them.
                    template = self.codec.template(body) if self.conversion is None else await self.template(body)
                    stored = await self._storage.create(self.key(ctx.namespace, name), template)
                    return stored.value if self.conversion is None else await self._read_back(stored)
            except KeyExists:
                pass
            except StorageError as error:
                raise storage_status(error) from error
            if not generated:
                raise lifecycle.already_there(self.told, name, self.current(ctx.namespace, name))
        raise errors.generate_name_conflict(self.told.group, self.told.plural, metadata["name"])

    def _storable(self, ctx: RequestContext, obj: JSON, managed: bytes | None, *like: bytes) -> bytes:
        """Its bytes, without managedFields where only they make it too large: an apply needs them. StatusError."""
        body = self.codec.encode_managed(obj, managed, ctx.sent, *like)
        if len(body) <= MOST_BYTES or ctx.dry_run:
            return body
        try:
            check_size(self.resource, body)
        except StatusError:
            if ctx.managed is not None:
                raise
            body = self.codec.encode_managed(obj, None, ctx.sent, *like)
            check_size(self.resource, body)
        return body

    def dedup_owners(self, ctx: RequestContext, metadata: JSON, *, patched: bool = False) -> None:
        told = lifecycle.without_duplicate_owners(metadata, admitted=patched) if "ownerReferences" in metadata else ""
        if told and told not in ctx.warnings:
            ctx.warnings.append(told)

    # --- updating

    async def update(self, ctx: RequestContext, change: Change) -> Written:
        """Replaces an object by what `change` makes of it; of what others have made of it meanwhile, too, while the
        request still may take time."""
        written = await self._try_update(ctx, change)
        if written is None:
            async with self.registry.turns.of(self.key(ctx.namespace, ctx.name)):
                while written is None:
                    ctx.seconds_left()
                    written = await self._try_update(ctx, change)
        return written

    async def _try_update(self, ctx: RequestContext, change: Change) -> Written | None:
        """None where somebody else was faster, which is no matter to the client."""
        stored = self.current(ctx.namespace, ctx.name)
        if stored is None:
            if change.creates is None or not may_be(self.resource, ctx.namespace, ctx.name):
                raise missing(self.told, ctx.namespace, ctx.name)
            try:
                return await self.create(ctx, change.creates())
            except StatusError as error:
                if not errors.is_already_exists(error) or self.current(ctx.namespace, ctx.name) is None:
                    raise
                return None
        if self.conversion is not None:
            stored = await self.conversion.read(stored)
        ctx.operation = "UPDATE"
        intent = self._intended(ctx, change, stored)
        while isinstance(intent, ConversionNeeded):
            await intent.settle()
            intent = self._intended(ctx, change, stored)
        try:
            return await self._replace(ctx, intent, stored)
        except RevisionConflict as error:
            if intent.conditional:
                raise self.conflict(ctx.name) from error
        except KeyMissing as error:
            if intent.conditional or change.creates is None:
                raise self.not_found(ctx.name) from error
        except StorageError as error:
            raise storage_status(error) from error
        return None

    def _intended(self, ctx: RequestContext, change: Change, stored: Stored) -> Intent | ConversionNeeded:
        try:
            old = loads(apart(stored.value)[0] if change.without_owners else stored.value)
            obj = change.make(old, stored)
            version = obj["metadata"].get("resourceVersion") or ""
            conditional = ctx.verb == "update" and version not in lifecycle.NO_REVISION
            if change.whole:
                ctx.whole = {**obj, "metadata": {**obj["metadata"]}}
                self.strategy.default(ctx.whole)
            return Intent(obj, old, conditional, version, *self._defaulted(ctx, obj, old, stored))
        except ConversionNeeded as needed:
            return needed

    async def _replace(self, ctx: RequestContext, intent: Intent, stored: Stored) -> Written:
        obj, old, _, version, rules, managed = intent
        dynamic = self._admission.asked
        if dynamic is not None:
            managed = await stored_requests.mutate_changed(
                dynamic, self, ctx, obj, old, stored, managed, rules=rules, version=version
            )
        if self._guards:
            await guarded(self._guards, ctx, obj, old)
        lifecycle.check_version(ctx, self, version, stored.revision)
        finish = None if ctx.subresource else self.strategy.begin_update(ctx, obj, old)
        written = None
        try:
            self._check_update(ctx, rules, obj, old)
            if dynamic is not None:
                await stored_requests.validate(dynamic, self, ctx, obj, old, stored, managed)
            written = await self._write_update(ctx, obj, old, stored, managed)
        finally:
            _finish(ctx, finish, written is not None and not ctx.dry_run)
        return written

    async def _write_update(
        self, ctx: RequestContext, obj: JSON, old: JSON, stored: Stored, managed: bytes | None
    ) -> Written:
        strategy = self.strategy
        revision = old["metadata"].pop("resourceVersion", None)
        obj["metadata"].pop("resourceVersion", None)
        if self._changes_nothing(ctx, obj, old, stored, managed):
            self._admission.metrics.validated(ctx)
            return Written(stored.value)
        old["metadata"]["resourceVersion"] = revision
        if (deciding := self._admission.decide(ctx, obj, old)) is not None:
            await deciding
        body = self._storable(ctx, obj, managed, stored.value)
        if lifecycle.may_go(obj["metadata"]) and not strategy.holds_deletion(obj):
            return Written(await self.remove(ctx, obj, body, stored), deleted=True)
        if ctx.dry_run:
            return Written(self.codec.rendered(body, stored.revision))
        key = self.key(ctx.namespace, ctx.name)
        template = self.codec.template(body) if self.conversion is None else await self.template(body)
        wanted, had = strategy.companions(obj), strategy.companions(old)
        if wanted or had:
            async with companions.beside(self.registry, ctx, wanted, had):
                result = await self._storage.update(key, template, expected=stored.revision)
        else:
            result = await self._storage.update(key, template, expected=stored.revision)
        strategy.after_update(ctx, obj, old)
        return Written(result.value if self.conversion is None else await self._read_back(result))

    def _changes_nothing(
        self, ctx: RequestContext, obj: JSON, old: JSON, stored: Stored, managed: bytes | None
    ) -> bool:
        """Where the bytes on disk are not what the cache made of them, a write that changes nothing renews them."""
        if self.cached.is_outdated(self.key(ctx.namespace, ctx.name)):
            return False
        metadata, old_metadata = obj["metadata"], old["metadata"]
        sent, had = metadata.pop("managedFields", None), old_metadata.pop("managedFields", None)
        alike = self.codec.writes_alike(obj, old)
        if alike and (sent != had or ctx.subresource not in _KNOWN_RESETS):
            # Of what a client says of owners, `managed` is what counts.
            alike = (managed or b"[]") == (apart(stored.value)[1] or b"[]")
        for one, owners in ((metadata, sent), (old_metadata, had)):
            if owners is not None:
                one["managedFields"] = owners
        return alike

    def _defaulted(self, ctx: RequestContext, obj: JSON, old: JSON, stored: Stored) -> tuple[Strategy, bytes | None]:
        """What an update means in full: the strategy that rules it, and the new managedFields."""
        resource = self.resource
        metadata, old_metadata = obj["metadata"], old["metadata"]
        obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
        lifecycle.carry_over(ctx, resource, metadata, old_metadata)
        self.dedup_owners(ctx, metadata, patched=ctx.verb == "patch")
        if ctx.managed is not None:
            metadata["managedFields"] = loads(ctx.managed)
        elif ctx.subresource or metadata.get("managedFields") is None:
            metadata["managedFields"] = old_metadata.get("managedFields") or []
        elif not metadata["managedFields"]:
            # What a client sends of them counts. None at all, as `[{}]`, is the wish to forget all owners.
            metadata["managedFields"] = [{}]
        if not metadata.get("managedFields"):
            metadata.pop("managedFields", None)
        sent = obj if ctx.subresource in _KNOWN_RESETS else meta.deepcopy(obj)
        strategy = self.restrict(ctx, obj, old)
        default = strategy.default_status if ctx.subresource == "status" else strategy.default
        default(obj)
        if sent is not obj:
            default(sent)
        # Before admission: what the server adds or changes is nobody's.
        managed = self.owning.managed(ctx, stored.value, sent)
        if self._admission.mutate(ctx, obj, old):
            default(obj)
        return strategy, managed

    def _check_update(self, ctx: RequestContext, strategy: Strategy, obj: JSON, old: JSON) -> None:
        """Everything between what is taken for an update and storing it; raises what is wrong with it."""
        resource, metadata, old_metadata = self.resource, obj["metadata"], old["metadata"]
        if ctx.subresource == "status":
            strategy.prepare_for_status_update(ctx, obj, old)
        else:
            strategy.prepare_for_update(ctx, obj, old)
        # A write of the status has the old spec.
        may_change = strategy.tracks_generation and ctx.subresource != "status"
        if may_change and "spec" in obj and lifecycle.spec_changed(obj, old, empty_is_null=bool(self._lists)):
            metadata["generation"] = (old_metadata.get("generation") or 0) + 1
        judge_update(ctx, resource, strategy, obj, old)
        ctx.warnings += strategy.warnings(ctx, obj, old)
        self._admission.validate(ctx, obj, old)
        strategy.canonicalize(obj)
        empty_lists.to_null(obj, self._lists)

    def restrict(self, ctx: RequestContext, obj: JSON, old: JSON) -> Strategy:
        """Undoes what this path may not change; the strategy that rules the rest."""
        if not ctx.subresource:
            if self.has_status:
                keep(obj, old, "status")
            return self.strategy
        merge = SUBRESOURCE_MERGE.get(ctx.subresource)
        if merge is not None:
            merge(obj, old)
            if ctx.subresource == "status":
                keep_metadata(obj, old, kept_by_status(self.resource.key))
            return self.strategy
        found = self.strategy.subresource_strategy(ctx.subresource)
        if found is None:
            raise errors.no_such_path()
        found.restrict(obj, old)
        return found

    async def remove(self, ctx: RequestContext, obj: JSON, body: bytes, stored: Stored) -> bytes:
        """Takes the object out of the store; `body` is its last state. Raises RevisionConflict, KeyMissing."""
        if ctx.dry_run:
            return self.codec.rendered(body, stored.revision)
        key = self.key(obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        gone = await self._storage.delete(key, await self.template(body), expected=stored.revision)
        self.strategy.after_delete(ctx, obj)
        await companions.take_away(self.registry, ctx, self.strategy.companions(obj))
        return await self._read_back(gone)

    async def store_update(self, ctx: RequestContext, obj: JSON, stored: Stored) -> bytes:
        """Stores what the server itself changed (deletion marks). Raises RevisionConflict, KeyMissing."""
        key = self.key(obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        return await self.replace_stored(ctx, key, self.codec.encode(obj, stored.value), stored)

    async def replace_stored(self, ctx: RequestContext, key: str, body: bytes, stored: Stored) -> bytes:
        """By other bytes of this store's version, as they are. Raises RevisionConflict, KeyMissing."""
        if ctx.dry_run:
            return self.codec.rendered(body, stored.revision)
        written = await self._storage.update(key, await self.template(body), expected=stored.revision)
        return await self._read_back(written)


def _finish(ctx: RequestContext, finish: Finish | None, done: bool) -> None:
    """Tells the strategy and the admission plugin that want to know how a write ended."""
    if finish is not None:
        finish(done)
    if ctx.finish is not None:
        finish, ctx.finish = ctx.finish, None
        finish(done)
