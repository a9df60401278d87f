"""Answers in the shape the client asked for: the objects themselves, a Table, or PartialObjectMetadata.

After upstream k8s.io/apiserver pkg/endpoints/handlers/response.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors, protobuf
from kubecore.api.queries import parse_query
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.negotiation import Form
from kubecore.apiserver.handlers.request import JSON_TYPE
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.conversion import in_version, untyped

if TYPE_CHECKING:
    from kubecore._native import Listing
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.handlers.converted_fields import Page
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.tables.column import KindTable
    from kubecore.apiserver.tables.printing import IncludeObject
    from kubecore.clock import Clock

JSON = dict[str, Any]

# Of which subresources upstream's servers can make no table.
_WITHOUT_TABLES = frozenset(
    {
        ("apiservices.apiregistration.k8s.io", "status"),
        ("certificatesigningrequests.certificates.k8s.io", "approval"),
        ("customresourcedefinitions.apiextensions.k8s.io", "status"),
        ("pods", "ephemeralcontainers"),
        ("pods", "resize"),
        ("resourceclaims.resource.k8s.io", "status"),
    }
)

# What is remembered of a resource's clients.
_MOST_SHAPES, _LONGEST_ACCEPT = 64, 256


class Shape:
    """How one request sees objects of a resource. Objects are given as they are stored; bodies are JSON."""

    def __init__(
        self,
        form: Form,
        served: Resource,
        stored: Resource | None,
        *,
        include: IncludeObject,
        clock: Clock,
        table: KindTable | None = None,
    ) -> None:
        """`stored` is None where objects come in the served version. `clock` tells ages in tables.
        `table` is that of a custom resource, whose objects come in the served version always."""
        self.form = form
        self._served = served
        self._stored = stored or served
        self._include = include
        self._table_of: str | KindTable = table or served.key
        self._custom = table is not None
        self._clock = clock
        self._meta_version = f"meta.k8s.io/{form.version}"
        # Stored objects are answered as they are.
        self.as_stored = form.media == JSON_TYPE and not form.transform and self._served is self._stored

    def one(self, value: bytes) -> bytes:
        """A single object. Raises 406 when a list was asked for."""
        match self.form.transform:
            case "":
                return self._in_version(value)
            case "Table":
                obj = loads(value)
                return orjson.dumps(self._table([value], _list_meta(obj["metadata"].get("resourceVersion"))))
            case "PartialObjectMetadata":
                return orjson.dumps(self._partial(value))
        raise self._mismatch("PartialObjectMetadataList", "not a list", self._served.kind)

    def many(self, items: Sequence[bytes], revision: int | None, more: JSON | None = None) -> bytes:
        """A list; `more` is what its metadata says besides the revision. Raises 406 when one object was asked for."""
        metadata = {**_list_meta(revision), **(more or {})}
        if self._custom and not self.form.transform:
            # As upstream, which says it of untyped lists in any case.
            metadata.setdefault("continue", "")
        kind = self._served.list_kind or f"{self._served.kind}List"
        match self.form.transform:
            case "":
                head = {"kind": kind, "apiVersion": self._served.api_version, "metadata": metadata}
                return orjson.dumps(head)[:-1] + b',"items":[' + b",".join(map(self._item, items)) + b"]}"
            case "Table":
                return orjson.dumps(self._table(items, metadata))
            case "PartialObjectMetadataList":
                head = {"kind": "PartialObjectMetadataList", "apiVersion": self._meta_version, "metadata": metadata}
                # As in Kubernetes, this list is null when there is nothing in it.
                return orjson.dumps({**head, "items": [self._partial(item) for item in items] or None})
        raise self._mismatch("PartialObjectMetadata", "a list", kind)

    def event(self, value: bytes, *, first: bool) -> bytes:
        """The object of a watch event. Only the first Table of a watch has column definitions."""
        match self.form.transform:
            case "":
                return self._in_version(value)
            case "Table":
                revision = loads(value)["metadata"].get("resourceVersion")
                return orjson.dumps(self._table([value], _list_meta(revision), headers=first))
        return orjson.dumps(self._partial(value))

    def _item(self, value: bytes) -> bytes:
        """Custom resources say their kind in lists, too; items of typed lists leave it to the list."""
        shown = self._in_version(value)
        return shown if self._custom else untyped(shown, self._served)

    def _in_version(self, value: bytes) -> bytes:
        return in_version(value, self._stored, self._served)

    def _table(self, items: Sequence[bytes], metadata: JSON, *, headers: bool = True) -> JSON:
        from kubecore.apiserver.tables import table_for

        return table_for(
            self._table_of,
            [loads(item) for item in items],
            include_object=self._include,
            shown=self._shown,
            now=self._clock.now(),
            headers=headers,
            metadata=metadata,
            version=self.form.version,
        )

    def _shown(self, obj: JSON) -> JSON:
        shown: JSON = loads(self._in_version(orjson.dumps(obj)))
        return shown

    def _partial(self, value: bytes) -> JSON:
        metadata = loads(self._in_version(value))["metadata"]
        return {"kind": "PartialObjectMetadata", "apiVersion": self._meta_version, "metadata": metadata}

    def _mismatch(self, asked: str, what: str, kind: str) -> errors.StatusError:
        """Upstream names the Go type, whose package is called like the group of a built-in kind."""
        group, _, domain = self._served.group.partition(".")
        package = "apiserverinternal" if group == "internal" and domain else group or "core"
        if self._served.storage_version:
            package, kind = "unstructured", "UnstructuredList" if what == "a list" else "Unstructured"
        message = f"you requested {asked}, but the requested object is {what} (*{package}.{kind})"
        return errors.StatusError(406, "NotAcceptable", message)


def _list_meta(revision: int | str | None) -> JSON:
    return {"resourceVersion": str(revision)} if revision else {}


def more_of(listing: Listing | Page) -> JSON:
    """What a page says of those after it."""
    more: JSON = {}
    if listing.next:
        more["continue"] = listing.next
        if listing.remaining is not None:
            more["remainingItemCount"] = listing.remaining
    return more


def shape_of(
    accept: str, query: str, served: Served, clock: Clock, *, streams: bool = False, subresource: str = ""
) -> Shape:
    """The shape of objects and lists of a resource; `streams` where watches can be had, too. Raises 400, 406."""
    if (served.resource.key, subresource) in _WITHOUT_TABLES:
        return shape_for(accept, query, served.resource, served.stored().resource, clock, tables=False)
    known = served.shapes.get(accept)
    if known is not None:
        return known
    stored = None if served.store is None else served.store.resource
    shape = shape_for(accept, query, served.resource, stored, clock, table=served.table, streams=streams)
    # What a Table includes is said elsewhere. Clients may send as many and as long headers as they like.
    if shape.form.transform != "Table" and len(accept) <= _LONGEST_ACCEPT and len(served.shapes) < _MOST_SHAPES:
        served.shapes[accept] = shape
    return shape


def shape_for(
    accept: str,
    query: str,
    served: Resource,
    stored: Resource | None,
    clock: Clock,
    *,
    table: KindTable | None = None,
    tables: bool = True,
    streams: bool = False,
) -> Shape:
    """See `Shape`. Raises 400, 406."""
    # Metadata alone has a form, whatever it is of.
    routed = protobuf.has_form(served.api_version, served.kind)
    in_protobuf = routed or "as=Partial" in accept
    tables = tables and bool(served.verbs & {"get", "list"})
    form = negotiation.form_for(accept, in_protobuf=in_protobuf, tables=tables, streams=streams, routed=routed)
    include = include_object(query) if form.transform == "Table" else "Metadata"
    return Shape(form, served, stored, include=include, clock=clock, table=table)


def include_object(query: str) -> IncludeObject:
    """TableOptions.includeObject. Raises 400."""
    match parse_query(query).get("includeObject", "") if query else "":
        case "" | "Metadata":
            return "Metadata"
        case "Object":
            return "Object"
        case "None":
            return "None"
        case other:
            problem = f"includeObject: Invalid value: \"{other}\": must be 'Metadata', 'Object', 'None', or empty"
            raise errors.bad_request(f"Unable to convert to Table as requested: {problem}")
