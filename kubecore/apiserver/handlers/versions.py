"""Objects of custom resources in the version of the path they are asked for, when that is not how they are stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from kubecore._native import FieldSelector
from kubecore.api import errors
from kubecore.api.queries import parse_query
from kubecore.api.schemas import SchemaError, refuse_crowds
from kubecore.apiserver.handlers.failing import warned
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.registry.custom.conversion import api_version_of, renamed

if TYPE_CHECKING:
    from kubecore.api.schemas import Decoded
    from kubecore.apiserver.handlers.served import Served

Batch = list[WatchEvent]

# In a field selector's values.
_SPECIAL, _ESCAPED = re.compile(r"[\\,=]"), r"\\\g<0>"
_OF_ANOTHER = re.compile(r"the API version in the data \(([^/()]+)/([^/()]+)\) does not match ")


def decode(served: Served, body: bytes, content_type: str, field_validation: str) -> Decoded:
    """The body of a write to this path. Raises SchemaError and StatusError: of an object of another version it is told
    before, as upstream tells it, what is unknown there."""
    try:
        decoded = served.schema.decode(body, content_type, field_validation)
    except SchemaError as refusal:
        another = _OF_ANOTHER.match(refusal.message) if served.in_version is not None else None
        if another is None or another[1] != served.resource.group or served.in_version is None:
            raise
        known = served.in_version(another[2]).decode(body, content_type, field_validation)
        raise warned(refusal, known.warnings) from refusal
    if served.custom:
        refuse_crowds(decoded.body)
    return decoded


def patched(served: Served, current: bytes, patch: bytes, patch_type: str, field_validation: str) -> Decoded:
    """What a patch makes of an object of this path's version. Raises SchemaError and PatchError. What has become one of
    another version, which is refused later, is read as that, as upstream reads it: what is unknown there is told."""
    decoded = served.schema.patch_decode(current, patch, patch_type, field_validation)
    if served.in_version is None:
        return decoded
    refuse_crowds(decoded.body)
    group, _, version = api_version_of(decoded.body).rpartition("/")
    if group != served.resource.group or version == served.resource.version:
        return decoded
    return served.in_version(version).patch_decode(current, patch, patch_type, field_validation)


async def in_own_version(served: Served, items: Sequence[bytes]) -> Sequence[bytes]:
    """Stored objects as this path's version shows them. Raises StatusError when they cannot be converted."""
    conversion = served.stored().conversion
    return items if conversion is None else await conversion.read_all(list(items))


async def events_in_own_version(served: Served, batch: Batch) -> Batch:
    """The same for events of a watch, which ends where its objects cannot be converted."""
    conversion = served.stored().conversion
    if conversion is None:
        return batch
    told = [event.object for event in batch if event.type not in ("BOOKMARK", "ERROR")]
    try:
        objects = iter(await conversion.read_all(told))
    except errors.StatusError as error:
        return [WatchEvent("ERROR", error.to_json())]
    made = []
    for event in batch:
        if event.type == "BOOKMARK":
            made.append(WatchEvent(event.type, renamed(event.object, served.resource.api_version)))
        else:
            made.append(event if event.type == "ERROR" else WatchEvent(event.type, next(objects)))
    return made


def term(field: str, operator: str, value: str) -> str:
    """Of a field selector."""
    return f"{field}{operator}{_SPECIAL.sub(_ESCAPED, value)}"


def selecting(served: Served, query: str) -> str:
    """The query with fields under the names that objects are stored by. Raises 400 for one that this version does not
    let be selected by, though another may."""
    known = served.fields
    selector = parse_query(query).get("fieldSelector", "") if known and query else ""
    if not selector:
        return query
    try:
        wanted = FieldSelector.parse(selector).requirements()
    except ValueError:
        # Refused where the list is made, in the right words.
        return query
    for field, _, _ in wanted:
        if field not in known:
            raise errors.bad_request(f"field label not supported: {field}")
    if all(known[field] == field for field, _, _ in wanted):
        return query
    terms = [term(known[field], operator, value) for field, operator, value in wanted]
    return f"fieldSelector={quote(','.join(terms))}&{query}"  # the first one counts
