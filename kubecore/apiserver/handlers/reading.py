"""Reads that Rust leaves to Python: Tables above all. Plain reads never come here over HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from kubecore._native import FieldSelector
from kubecore.api import errors
from kubecore.api.errors import Cause, FieldError
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.request import JSON_TYPE, Headers, Request, Response, Stream, warning_headers
from kubecore.apiserver.handlers.served import Served
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.handlers.writing import list_body
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.conversion import in_version
from kubecore.apiserver.registry.custom.conversion import renamed
from kubecore.apiserver.registry.options import parse_query

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.tables.printing import IncludeObject

JSON = dict[str, Any]

_MIN_WATCH_SECONDS = 1800
Bodies = list[bytes]
Objects = list[JSON]
Batch = list[WatchEvent]


@dataclass(frozen=True, slots=True)
class ListOptions:
    """metav1.ListOptions, checked."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    start: str = ""
    at: int | None = None
    revision: int = 0
    bookmarks: bool = False
    initial: bool = False
    timeout: int | None = None
    include_object: IncludeObject = "Metadata"


def list_options(params: Mapping[str, str], *, watch: bool) -> ListOptions:
    """Raises 400 for what cannot be read, 422 for what does not go together."""
    given = params.get("resourceVersion", "")
    match = params.get("resourceVersionMatch", "")
    start = params.get("continue", "")
    initial = params.get("sendInitialEvents", "").lower() in ("true", "1")
    revision = _number(given, "resourceVersion") if given else 0
    causes = _match_causes(params, given=given, match=match, start=start, watch=watch)
    if causes:
        raise errors.invalid("ListOptions", "", causes, group="meta.k8s.io")
    timeout = params.get("timeoutSeconds", "")
    return ListOptions(
        label_selector=params.get("labelSelector", ""),
        field_selector=params.get("fieldSelector", ""),
        limit=0 if given == "0" and not match else _number(params.get("limit", "") or "0", "limit"),
        start=start,
        at=revision if match == "Exact" else None,
        revision=revision,
        bookmarks=params.get("allowWatchBookmarks", "").lower() in ("true", "1"),
        initial=initial,
        timeout=_number(timeout, "timeoutSeconds") if timeout else None,
        include_object=include_object(params.get("includeObject", "")),
    )


def include_object(given: str) -> IncludeObject:
    """TableOptions.includeObject. Raises 400."""
    if given in ("", "Metadata"):
        return "Metadata"
    if given == "Object":
        return "Object"
    if given == "None":
        return "None"
    raise errors.bad_request(f"unrecognized includeObject value: {given}")


def _number(text: str, name: str) -> int:
    if not text.isdigit():
        raise errors.bad_request(f'{name}: Invalid value: "{text}": strconv.ParseUint: invalid syntax')
    return int(text)


def _match_causes(params: Mapping[str, str], *, given: str, match: str, start: str, watch: bool) -> list[Cause]:
    """How resourceVersion, resourceVersionMatch, continue and sendInitialEvents exclude each other
    (upstream k8s.io/apimachinery pkg/apis/meta/internalversion/validation)."""
    initial = "sendInitialEvents" in params
    if watch:
        if initial and match != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            return [FieldError.forbidden("resourceVersionMatch", detail)]
        if match and not initial:
            return [FieldError.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch")]
        return []
    if initial:
        return [FieldError.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")]
    if not match:
        return []
    causes: list[Cause] = []
    if match not in ("Exact", "NotOlderThan"):
        causes.append(FieldError.not_supported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
    if not given:
        detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        causes.append(FieldError.forbidden("resourceVersionMatch", detail))
    if start:
        detail = "resourceVersionMatch is forbidden when continue is provided"
        causes.append(FieldError.forbidden("resourceVersionMatch", detail))
    if match == "Exact" and given == "0":
        detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        causes.append(FieldError.forbidden("resourceVersionMatch", detail))
    return causes


class Reading:
    """get, list and watch in forms that Python makes."""

    def __init__(self, registry: Registry, hub: WatchHub) -> None:
        self._registry = registry
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, request: Request, served: Served) -> Response:
        """One object, or its status or other whole-object subresource."""
        store = served.stored()
        stored = await store.read(_namespace(request, served), request.name)
        body = in_version(stored.value, store.resource, served.resource)
        headers = _headers(served)
        if request.accept in ("", JSON_TYPE, "*/*"):
            return Response(200, body, JSON_TYPE, headers)
        form = negotiation.form_for(request.accept)
        if form.transform:
            include = include_object(parse_query(request.query).get("includeObject", ""))
            body = self._transform(form, served, [stored.value], stored.revision, include, single=True)
        body, media = negotiation.encode(form, body)
        return Response(200, body, media, headers)

    async def list(self, request: Request, served: Served) -> Response:
        store = served.stored()
        options = list_options(parse_query(request.query), watch=False)
        check_fields(served, options.field_selector)
        field_selector = _with_name(options.field_selector, request.name)
        listing = self._registry.cacher.list(
            store.resource.key,
            _namespace(request, served),
            label_selector=options.label_selector,
            field_selector=field_selector,
            limit=options.limit,
            start=options.start or None,
            at=options.at,
        )
        more: JSON = {}
        if listing.next:
            more["continue"] = listing.next
            if listing.remaining is not None:
                more["remainingItemCount"] = listing.remaining
        form = negotiation.form_for(request.accept)
        items = listing.items if store.conversion is None else await store.conversion.read_all(listing.items)
        if not form.transform:
            body = list_body(served, items, listing.revision, more)
        else:
            body = self._transform(form, served, items, listing.revision, options.include_object, more=more)
        body, media = negotiation.encode(form, body)
        return Response(200, body, media, _headers(served))

    def _transform(
        self,
        form: negotiation.Form,
        served: Served,
        items: Bodies,
        revision: int,
        include: IncludeObject,
        *,
        single: bool = False,
        more: JSON | None = None,
    ) -> bytes:
        """Table, PartialObjectMetadata or a list of these."""
        objects = [loads(item) for item in items]
        metadata = {"resourceVersion": str(revision), **(more or {})}
        if form.transform == "Table":
            return orjson.dumps(self._table(form, served, objects, include, metadata))
        api_version = f"meta.k8s.io/{form.version}"
        partial = [
            {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj["metadata"]} for obj in objects
        ]
        if single:
            return orjson.dumps(partial[0])
        listed = {"kind": "PartialObjectMetadataList", "apiVersion": api_version}
        return orjson.dumps({**listed, "metadata": metadata, "items": partial})

    def _table(
        self,
        form: negotiation.Form,
        served: Served,
        objects: Objects,
        include: IncludeObject,
        metadata: JSON,
        headers: bool = True,
    ) -> JSON:
        from kubecore.apiserver.tables import table_for

        return table_for(
            served.table or served.resource.key,
            objects,
            include_object=include,
            now=self._registry.clock.now(),
            headers=headers,
            metadata=metadata,
            version=form.version,
        )

    # --- watch

    def watch(self, request: Request, served: Served) -> None:
        """Starts to stream; answers by itself. Raises what refuses the watch."""
        store = served.stored()
        options = list_options(parse_query(request.query), watch=True)
        check_fields(served, options.field_selector)
        form = negotiation.form_for(request.accept)
        if form.media != JSON_TYPE:
            raise errors.not_acceptable([JSON_TYPE])
        watch = self._hub.watch(
            store.resource.key,
            _namespace(request, served),
            label_selector=options.label_selector,
            field_selector=_with_name(options.field_selector, request.name),
            revision=options.revision,
            bookmarks=options.bookmarks,
            initial=options.initial or options.revision == 0,
        )
        stream = request.respond_stream(200, JSON_TYPE, _headers(served))
        stream.on_closed(watch.close)
        # Random, so that watches begun together do not end together.
        seconds = options.timeout or int(_MIN_WATCH_SECONDS * (1 + random.random()))
        timer = self._registry.clock.call_later(seconds, watch.close)
        legacy = not options.initial

        async def run() -> None:
            first = True
            try:
                async for batch in watch.batches():
                    batch = await events_in_version(served, batch)
                    lines = []
                    for event in batch:
                        if legacy and event.type == "BOOKMARK" and b"initial-events-end" in event.object:
                            continue
                        lines.append(self._line(form, served, event.type, event.object, options, first))
                        first = False
                    if lines and not stream.write(b"".join(lines)):
                        return
                    if batch[-1].type == "ERROR":
                        return
                    await drained(stream)
            finally:
                timer.cancel()
                stream.close()

        task = asyncio.get_running_loop().create_task(run(), name=f"watch {served.resource.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _line(
        self, form: negotiation.Form, served: Served, kind: str, value: bytes, options: ListOptions, first: bool
    ) -> bytes:
        store = served.stored()
        if kind != "ERROR":
            value = in_version(value, store.resource, served.resource)
            if form.transform:
                obj = loads(value)
                if form.transform == "Table":
                    metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
                    rows = [] if kind == "BOOKMARK" else [obj]
                    table = self._table(form, served, rows, options.include_object, metadata, headers=first)
                    if kind == "BOOKMARK":
                        table["rows"] = [{"cells": [], "object": _partial(form, obj)}]
                    value = orjson.dumps(table)
                else:
                    value = orjson.dumps(_partial(form, obj))
        return b'{"type":"' + kind.encode() + b'","object":' + value + b"}\n"

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def events_in_version(served: Served, batch: Batch) -> Batch:
    """Events of a watch with their objects as the version of the path shows them."""
    store = served.stored()
    if store.conversion is None:
        return batch
    told = [event.object for event in batch if event.type not in ("BOOKMARK", "ERROR")]
    try:
        objects = iter(await store.conversion.read_all(told))
    except errors.StatusError as error:
        return [WatchEvent("ERROR", error.to_json())]
    made = []
    for event in batch:
        if event.type == "BOOKMARK":
            made.append(WatchEvent(event.type, renamed(event.object, served.resource.api_version)))
        else:
            made.append(event if event.type == "ERROR" else WatchEvent(event.type, next(objects)))
    return made


def check_fields(served: Served, selector: str) -> None:
    """Raises 400 for a field that this version does not let be selected by, though another may."""
    if not selector or not served.custom:
        return
    try:
        wanted = FieldSelector.parse(selector).requirements()
    except ValueError:
        return
    for field, _, _ in wanted:
        if field not in served.fields:
            raise errors.bad_request(f"field label not supported: {field}")


def _headers(served: Served) -> Headers:
    return warning_headers([served.warning]) if served.warning else ()


def _partial(form: negotiation.Form, obj: JSON) -> JSON:
    api_version = f"meta.k8s.io/{form.version}"
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj["metadata"]}


def _namespace(request: Request, served: Served) -> str:
    """A request for a Namespace carries its name as the namespace, too."""
    return request.namespace if served.resource.namespaced else ""


def _with_name(field_selector: str, name: str) -> str:
    """A list or watch of one name (`/api/v1/watch/...`, `?watch` on an object's path)."""
    if not name:
        return field_selector
    wanted = f"metadata.name={name}"
    return f"{field_selector},{wanted}" if field_selector else wanted


async def drained(stream: Stream) -> None:
    """Waits while the client reads slower than we write."""
    if stream.writable or stream.closed:
        return
    room = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not room.done():
            room.set_result(None)

    stream.on_writable(wake)
    await room
