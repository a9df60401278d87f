"""What a kind adds to the generic registry: hooks that default, prepare, check and allocate; never CRUD.

Hooks run in the request's turn of the event loop and never wait. Objects are plain dicts that belong to the request:
hooks change `obj` in place and leave `old` alone, which is shared with the cache.

The order for a create is: decode (schema) → `default` → mutating admission → `default` → webhooks and policies that
mutate → who guards the kind → `begin_create` → `prepare_for_create` → `validate` → validating admission → webhooks and
policies that validate → admission that may wait → `companions` → storage → `after_create`. An update runs `default`,
admission, `default`, webhooks, who guards the kind, a look at the revision it names, `begin_update`,
`prepare_for_update`, `validate` + `validate_update`, validating admission, webhooks, admission that may wait,
`companions`.
After upstream k8s.io/apiserver pkg/registry/rest/{create,update,delete}.go and pkg/registry/generic/registry/store.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from kubecore.api import errors
from kubecore.api.errors import Cause, StatusError
from kubecore.apiserver.registry.options import LONGEST_SECONDS

if TYPE_CHECKING:
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.audit.recording import Record
    from kubecore.apiserver.authorization.authorizer import Decision
    from kubecore.clock import Clock

JSON = dict[str, Any]

# Called once with whether the write succeeded; gives back what begin_create or begin_update took when it did not.
Finish = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class Companion:
    """An object of another resource that is there because of this one; `obj` is made as it is."""

    resource_key: str
    obj: JSON

    @property
    def key(self) -> tuple[str, str, str]:
        metadata = self.obj["metadata"]
        return self.resource_key, metadata.get("namespace") or "", metadata["name"]


class User(Protocol):
    """Who asks, as the front's authenticator or the in-process transport says."""

    @property
    def username(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def extra(self) -> Mapping[str, Sequence[str]]: ...


class Lookup(Protocol):
    """Reads of other objects, from the watch cache; what comes back is a fresh copy."""

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None: ...

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]: ...


@dataclass(slots=True)
class RequestContext:
    """One request as hooks and admission plugins see it.

    `verb` is Kubernetes' (create, update, patch, delete, deletecollection), `operation` the admission operation
    (CREATE, UPDATE, DELETE, CONNECT), which for a patch that creates is CREATE; `now` is the request's time in
    RFC 3339 and goes into every timestamp it writes.
    """

    user: User
    verb: str
    resource_key: str
    namespace: str
    name: str
    clock: Clock
    now: str
    lookup: Lookup
    subresource: str = ""
    # What the name of a new object is to begin with, while mutating admission sees it: upstream makes names after that.
    name_prefix: str = ""
    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = "Warn"
    operation: str = ""
    # The version the client speaks ("apps/v1"); "" for the stored one.
    api_version: str = ""
    # As the client gave them: WriteOptions or DeleteOptions; None for what the server does by itself.
    options: object = None
    warnings: list[str] = field(default_factory=list)
    # The client's body, where something in it is opaque to the server.
    sent: bytes = b""
    # managedFields (JSON) as a server-side apply has left them; None: the store works out what this write owns.
    managed: bytes | None = None
    # Those of a new object, once they are worked out, or before: from an object that was just like it.
    owned: bytes | None = None
    # Told once how the write ended, by the store.
    finish: Finish | None = None
    # Neither webhooks nor policies are asked.
    exempt: bool = False
    # When, on the monotonic clock, the request has taken too long; 0 while nobody has said or asked.
    deadline: float = 0.0
    # How long admission has taken so far, by its two steps.
    admit_seconds: float = 0.0
    validate_seconds: float = 0.0
    # What admission has to say to the audit, by key.
    annotations: dict[str, str] | None = None
    # What the audit records of the request; None where it does not want to hear of it.
    audit: Record | None = None
    # Told how many seconds webhooks were waited for.
    waited: Callable[[float], None] | None = None
    # What an update of an object is to webhooks and policies, where it comes through a subresource of another kind.
    facet: Callable[[JSON, JSON], Subject] | None = None
    # What a kubelet sends with a write of the status of its node or of a claim, with what such a write does not change.
    whole: JSON | None = None
    # What authorizers that had to be waited for have said of it, before admission.
    consulted: Decision | None = None
    # What a conversion webhook has been asked for to compare an object in the words of other versions.
    converted: dict[tuple[bytes, str], bytes | StatusError] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The object as admission names it in refusals (upstream pkg/admission/errors.go)."""
        return self.name_prefix or (self.name if self.verb != "deletecollection" else "") or "Unknown"

    def annotate(self, key: str, value: str, *, of_object: bool = False) -> None:
        """For the audit; of several values for one key the first one stays. What is `of_object` is told where the
        request's object is."""
        if of_object and self.audit is not None and not self.audit.wants_request:
            return
        if self.annotations is None:
            self.annotations = {}
        self.annotations.setdefault(key, value)
        if self.audit is not None:
            self.audit.annotate(key, value)

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None:
        """Another object ("pods", "deployments.apps"; namespace "" for cluster scope), or None."""
        return self.lookup.get(resource_key, namespace, name)

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]:
        return self.lookup.list(resource_key, namespace, label_selector)

    def warn(self, text: str) -> None:
        """Adds a Warning header to the answer; a repeated text is sent once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def seconds_left(self) -> float:
        """How long the request may still take. Raises 504 when it has taken too long."""
        now = self.clock.monotonic()
        if not self.deadline:
            self.deadline = now + LONGEST_SECONDS
        if self.deadline <= now:
            raise errors.timeout("request did not complete within requested timeout - context deadline exceeded")
        return self.deadline - now


class Strategy:
    """Hooks of one resource; this base is also what a kind without particularities uses."""

    resource_key: str = ""

    # PUT to a name that does not exist creates it (leases, endpoints, nodes and a few more).
    allow_create_on_update: bool = False
    # PUT without a resourceVersion overwrites whatever is there.
    allow_unconditional_update: bool = True
    # The kind has a spec, so a change outside metadata and status counts up metadata.generation.
    tracks_generation: bool = True
    # A create may bring status with it (a kubelet registers its Node so); others start without.
    status_on_create: bool = False
    # A DELETE that removes the object answers it, not a Status.
    returns_deleted: bool = False
    # Extra names an object may have beyond a DNS subdomain: returns what is wrong with the name, [] when nothing.
    # None means DNS subdomain (RFC 1123), which most kinds want.
    name_errors: Callable[[str], list[str]] | None = None
    # Finalizers need not be qualified with a domain.
    any_finalizer: bool = False
    # `default` says something about the status, too.
    defaults_status: bool = True
    # Upstream deletes it with code of its own: it says otherwise what a precondition misses, and takes the wish that
    # dependents be not orphaned for one of foreground deletion.
    deletes_in_own_way: bool = False
    # Its first deletionTimestamp makes a new generation.
    deletion_counts: bool = True
    # Whether the garbage collector is told by finalizers what is to become of its dependents.
    has_dependents: bool = True
    # Members of a new object that nobody owns (upstream: GetResetFields), where there is a status subresource.
    unowned: Sequence[str] = ("status",)
    # Told to who deletes it and does not say what becomes of its dependents.
    deletion_warning: str = ""
    # Why nobody deletes certain objects by their names. Upstream asks where one is deleted, and not of a collection.
    undeletable: Mapping[str, str] = MappingProxyType({})
    # What generateName says is checked, too, and not only the name made of it.
    checks_generate_name: bool = True
    # What makes a name is the name (IPAddresses, which are named for what they are).
    keeps_generate_name: bool = False

    def default(self, obj: JSON) -> None:
        """Fills in what a client sees on read-back, in place. Must be idempotent."""

    def default_status(self, obj: JSON) -> None:
        """`default` for a write of the status, whose spec is the stored one."""
        if self.defaults_status:
            self.default(obj)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        """Clears what a client may not set. The base drops status where the resource has a status subresource."""

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        """Keeps what an update may not change. The store has already put the old status back."""

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        """`obj` already has the old object's everything but status and metadata."""

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        """What is wrong with the object by itself; metadata has been checked already."""
        return []

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        """What is wrong with the change; `validate` runs too, before it."""
        return []

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        """What is wrong with a change of status; `validate` does not run."""
        return []

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        """Texts for Warning headers (deprecated fields, doubtful values); `old` is None on create."""
        return []

    def begin_create(self, ctx: RequestContext, obj: JSON) -> Finish | None:
        """Takes what the object needs (cluster IPs, node ports) and writes it into `obj`, which is not validated yet.
        On a dry run, too: the returned Finish is told of no success then."""
        return None

    def begin_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> Finish | None:
        return None

    def companions(self, obj: JSON) -> Sequence[Companion]:
        """Objects that stand for what this one holds: made before it is stored, deleted when it names them no more."""
        return ()

    def after_create(self, ctx: RequestContext, obj: JSON) -> None:
        """The object is durable. `obj` is what was stored."""

    def after_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        """The change is durable."""

    def after_delete(self, ctx: RequestContext, obj: JSON) -> None:
        """The object is gone for good: give back what it held."""

    def restrict(self, obj: JSON, old: JSON) -> None:
        """Undoes, in place, what an update through this subresource cannot change, before anybody owns it."""

    def delete_grace(self, obj: JSON, requested: int | None) -> int | None:
        """Seconds the object stays after a DELETE, 0 for at once, None for a kind without graceful deletion.

        `requested` is gracePeriodSeconds of the options, None when not given."""
        return None

    def holds_deletion(self, obj: JSON) -> bool:
        """Something must still be done before a deleted object may go (finalizers)."""
        return bool(obj["metadata"].get("finalizers"))

    def keeps_deletion(self, obj: JSON) -> bool:
        """Whether a deletion that is under way stays as it is when it is asked for again, with other options even."""
        return False

    def mark_deleting(self, ctx: RequestContext, obj: JSON) -> None:
        """The object is about to be stored with its first deletionTimestamp: change what goes with that, in place."""

    def default_propagation(self, ctx: RequestContext, obj: JSON) -> str:
        """What becomes of dependents when the request does not say: Background or Orphan."""
        return "Background"

    def canonicalize(self, obj: JSON) -> None:
        """Last change before storage, after validation; must not need validation again."""

    def subresource_strategy(self, subresource: str) -> Strategy | None:
        """The strategy an update of the whole object through a subresource follows (pods/resize,
        pods/ephemeralcontainers); `status` and `scale` need none. None: there is no such subresource here."""
        return None

    def restore(self, entries: Sequence[JSON]) -> None:
        """All stored objects of the resource, once at start: rebuild allocations from them."""


GENERIC = Strategy()
