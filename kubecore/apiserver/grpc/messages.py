"""Objects as messages: their JSON as it is stored, and what can be known of them beside it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from kubecore.api.v1pb import objects_pb2 as pb

EVENT_TYPES = {
    "ADDED": pb.EVENT_TYPE_ADDED,
    "MODIFIED": pb.EVENT_TYPE_MODIFIED,
    "DELETED": pb.EVENT_TYPE_DELETED,
    "BOOKMARK": pb.EVENT_TYPE_BOOKMARK,
}


class _Meta(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: int = 0
    creationTimestamp: datetime | None = None
    deletionTimestamp: datetime | None = None
    labels: dict[str, str] | None = None


class _Head(msgspec.Struct, gc=False):
    """What is read of an object; the rest of its JSON is skipped, not decoded."""

    apiVersion: str = ""
    kind: str = ""
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _ListMeta(msgspec.Struct, gc=False):
    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ListBody(msgspec.Struct, gc=False):
    """A list with its items left as JSON."""

    apiVersion: str = ""
    kind: str = ""
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


_head = msgspec.json.Decoder(_Head)
decode_list = msgspec.json.Decoder(ListBody).decode


def object_message(body: bytes | memoryview, *, api_version: str = "", kind: str = "") -> pb.Object:
    """The message of an object; the defaults are for list items that leave their kind to the list, and get it back."""
    head = _head.decode(body)
    meta = head.metadata
    metadata = pb.Metadata(
        api_version=head.apiVersion or api_version,
        kind=head.kind or kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resourceVersion,
        generation=meta.generation,
        labels=meta.labels,
    )
    if meta.creationTimestamp is not None:
        metadata.creation_timestamp.CopyFrom(_timestamp(meta.creationTimestamp))
    if meta.deletionTimestamp is not None:
        metadata.deletion_timestamp.CopyFrom(_timestamp(meta.deletionTimestamp))
    json = bytes(body)
    if kind and not head.kind:
        json = b'{"apiVersion":"%b","kind":"%b",' % (api_version.encode(), kind.encode()) + json[1:]
    return pb.Object(metadata=metadata, json=json)


def _timestamp(when: datetime) -> Timestamp:
    return Timestamp(seconds=int(when.timestamp()), nanos=when.microsecond * 1000)


def page_message(body: ListBody) -> pb.ListPage:
    kind = body.kind.removesuffix("List")
    items = body.items or ()
    objects = [object_message(memoryview(item), api_version=body.apiVersion, kind=kind) for item in items]
    return pb.ListPage(objects=objects, resource_version=body.metadata.resourceVersion)


def events_message(events: Iterable[tuple[str, bytes]]) -> pb.WatchEvents:
    """Events (type, object JSON) of one message; none of them an ERROR."""
    made = [pb.WatchEvent(type=EVENT_TYPES[kind], object=object_message(body)) for kind, body in events]
    return pb.WatchEvents(events=made)
