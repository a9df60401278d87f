"""Selection by the fields of a version that a webhook makes: of what is stored, nobody can tell them.

As upstream, where each version has a cache of its own, an object is selected by its values in the version of the path
(apiextensions-apiserver `pkg/registry/customresource/strategy.go`). The cache selects by all else; what it finds is
converted, and looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kubecore.api import errors
from kubecore.api.queries import int64, parse_query
from kubecore.api.selectors import FieldSelector
from kubecore.apiserver.handlers.versions import Batch, events_in_own_version, in_own_version, selecting, term
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.registry.codec import dumps, loads

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

# Objects that are converted at once for a page that is to have fewer.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Selection:
    """`query` is what the cache is asked; `wanted` selects among what it finds, None where that is all."""

    query: str
    wanted: FieldSelector | None


@dataclass(frozen=True, slots=True)
class Page:
    """A list: objects as they are stored, and as this path's version shows them."""

    revision: int
    stored: Sequence[bytes]
    items: Sequence[bytes]
    next: str | None
    remaining: int | None


def selection(served: Served, query: str) -> Selection:
    """Raises 400 for a field that this version does not let be selected by."""
    query = selecting(served, query)
    conversion = served.stored().conversion
    if conversion is None or not conversion.changes_fields:
        return Selection(query, None)
    given = parse_query(query).get("fieldSelector", "") if query else ""
    try:
        terms = FieldSelector.parse(given).requirements()
    except ValueError:
        # Refused where the list is made, in the right words.
        return Selection(query, None)
    ours = [one for one in terms if not one[0].startswith("metadata.")]
    if not ours:
        return Selection(query, None)
    left = ",".join(term(*one) for one in terms if one not in ours)
    return Selection(_saying(query, fieldSelector=left), FieldSelector.parse(",".join(term(*one) for one in ours)))


def _saying(query: str, **params: str) -> str:
    """The query with those parameters instead of what it says of them: the first of each counts."""
    return "&".join([*(f"{name}={quote(value)}" for name, value in params.items()), query])


def _values(served: Served, obj: JSON) -> dict[str, str]:
    """Of the fields that this version can be selected by, as Go prints them."""
    found = {}
    for label in served.fields:
        value: Any = obj
        for step in label.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        found[label] = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _is_wanted(served: Served, wanted: FieldSelector, item: bytes) -> bool:
    return wanted.matches(_values(served, loads(item)))


async def page_of(cacher: Cacher, served: Served, query: str, namespace: str, name: str = "") -> Page:
    """A list in this path's version. Raises StatusError, also when what it is chosen from cannot be converted."""
    chosen, key = selection(served, query), served.stored().resource.key
    if chosen.wanted is None:
        found = cacher.query(key, chosen.query, namespace, name)
        shown = await in_own_version(served, found.items)
        return Page(found.revision, found.items, shown, found.next, found.remaining)
    limit = _limit(query)
    whole = asked = _saying(chosen.query, limit=str(max(limit, _CHUNK))) if limit else chosen.query
    stored: list[bytes] = []
    items: list[bytes] = []
    while True:
        found = cacher.query(key, asked, namespace, name)
        shown = await in_own_version(served, found.items)
        for number, item in enumerate(shown, 1):
            if not _is_wanted(served, chosen.wanted, item):
                continue
            stored.append(found.items[number - 1])
            items.append(item)
            if len(items) == limit:
                rest = found.next
                if number < len(shown):
                    at = {} if parse_query(asked).get("continue") else _exactly(found.revision)
                    rest = cacher.query(key, _saying(asked, limit=str(number), **at), namespace, name).next
                return Page(found.revision, stored, items, rest, None)
        if found.next is None or not limit:
            return Page(found.revision, stored, items, found.next, None)
        asked = _saying(whole, **{"continue": found.next, "resourceVersion": "", "resourceVersionMatch": ""})


def _limit(query: str) -> int:
    """Of a list, 0 for none: one that may be of any revision is not paged. Raises 400."""
    params = parse_query(query)
    if params.get("resourceVersion") == "0" and not params.get("continue"):
        return 0
    return max(0, int64(params.get("limit") or "0"))


def _exactly(revision: int) -> dict[str, str]:
    return {"resourceVersion": str(revision), "resourceVersionMatch": "Exact"}


class ShownEvents:
    """Events of one watch in this path's version; `query` is what the cache is asked for them.

    What becomes of an object in the eyes of whoever selects by fields of that version is told by what it was before:
    those that are selected are remembered. Raises 400 for a field that this version does not let be selected by.
    """

    def __init__(self, cacher: Cacher, served: Served, query: str, namespace: str, name: str = "") -> None:
        chosen = selection(served, query)
        self.query = chosen.query
        self._cacher = cacher
        self._served = served
        self._wanted = chosen.wanted
        self._place = (namespace, name)
        # Last selected contents by namespace and name; None while it is not known what there was before.
        self._seen: dict[tuple[str, str], bytes] | None = {}
        if chosen.wanted is not None and not _begins_with_all(query):
            self._seen, self._since = None, _begins(query) or cacher.native.revision
            self.query = _saying(chosen.query, resourceVersion=str(self._since))

    async def told(self, batch: Batch) -> Batch:
        """An ERROR is the last one where something cannot be converted; there may be nothing to tell."""
        if self._wanted is None:
            return await events_in_own_version(self._served, batch)
        try:
            if self._seen is None:
                self._seen = await self._seen_before(self._wanted)
        except errors.StatusError as error:
            return [WatchEvent("ERROR", error.to_json())]
        converted = await events_in_own_version(self._served, batch)
        found = [self._told(event, self._seen, self._wanted) for event in converted]
        return [event for event in found if event is not None]

    async def _seen_before(self, wanted: FieldSelector) -> dict[tuple[str, str], bytes]:
        """What there was when the watch began, which it is not told of."""
        asked = parse_query(self.query)
        chosen = {name: asked.get(name, "") for name in ("labelSelector", "fieldSelector")}
        then = _exactly(min(self._since, self._cacher.native.revision))
        key = self._served.stored().resource.key
        found = self._cacher.query(key, _saying("", **chosen, **then), *self._place)
        shown = await in_own_version(self._served, found.items)
        return {_identity(loads(item)): item for item in shown if _is_wanted(self._served, wanted, item)}

    def _told(self, event: WatchEvent, seen: dict[tuple[str, str], bytes], wanted: FieldSelector) -> WatchEvent | None:
        if event.type in ("BOOKMARK", "ERROR"):
            return event
        obj = loads(event.object)
        whose = _identity(obj)
        before = seen.pop(whose, None)
        if event.type == "DELETED":
            return None if before is None else event
        if wanted.matches(_values(self._served, obj)):
            seen[whose] = event.object
            return WatchEvent("ADDED" if before is None else "MODIFIED", event.object)
        if before is None:
            return None
        last = loads(before)
        last["metadata"]["resourceVersion"] = obj["metadata"]["resourceVersion"]
        return WatchEvent("DELETED", dumps(last))


def _identity(obj: JSON) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _begins_with_all(query: str) -> bool:
    """Whether a watch is told first what there is."""
    params = parse_query(query)
    initial = params.get("sendInitialEvents")
    if initial is not None:
        return initial.lower() not in ("false", "0")
    return params.get("resourceVersion", "") in ("", "0")


def _begins(query: str) -> int:
    """The revision that a watch is to begin after, 0 for the newest; refused elsewhere if it is no number."""
    text = parse_query(query).get("resourceVersion", "")
    return int(text) if text.isascii() and text.isdigit() else 0
