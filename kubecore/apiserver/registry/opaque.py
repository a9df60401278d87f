"""Members that mean nothing to the server, runtime.RawExtension in Go, are stored as they are written: controllers in
Go compare the bytes of a ControllerRevision's data with what they would write now, and make another one if they differ.

Objects are dicts between decoding and storing, which know values and not how they were written; so the texts are taken
from the bodies that an object is made of, and put where its values are the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import orjson

from kubecore.api.quoting import escaped_as_go
from kubecore.api.schemas import with_gos_numbers

JSON = dict[str, Any]
Path = tuple[str, ...]

# Stands for each element of a list.
_EACH = "*"
_CONFIGURED = ("devices", "config", _EACH, "opaque", "parameters")
_PATHS: dict[str, tuple[Path, ...]] = {
    "controllerrevisions.apps": (("data",),),
    "deviceclasses.resource.k8s.io": (("spec", "config", _EACH, "opaque", "parameters"),),
    "resourceclaims.resource.k8s.io": (
        ("spec", *_CONFIGURED),
        ("status", "allocation", *_CONFIGURED),
        ("status", "devices", _EACH, "data"),
    ),
    "resourceclaimtemplates.resource.k8s.io": (("spec", "spec", *_CONFIGURED),),
}

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw] | None)
# What no client can know, and so not write.
_MARK = uuid.uuid4().hex


class OpaqueMembers:
    """Those of one resource."""

    def __init__(self, resource_key: str) -> None:
        self._paths = _PATHS.get(resource_key, ())

    def __bool__(self) -> bool:
        return bool(self._paths)

    def sent(self, body: bytes, *, escaped: bool) -> bytes:
        """What of a client's body the texts are taken from; `escaped`: Go would escape them when it shows them."""
        return (escaped_as_go(body) if escaped else body) if self._paths else b""

    def marked(self, obj: JSON, bodies: Iterable[bytes]) -> tuple[JSON, list[bytes]]:
        """`obj`, copied along the way, with marks in the place of values that one of the bodies has, too, the last of
        them in doubt; and the texts that `unmarked` is to put there."""
        known = {_same(orjson.loads(text)): text for body in bodies if body for text in self._texts(body)}
        texts: list[bytes] = []
        if known:
            for path in self._paths:
                obj = _replaced(obj, path, known, texts)
        return obj, texts

    def _texts(self, body: bytes) -> Iterator[bytes]:
        for path in self._paths:
            yield from _found(msgspec.Raw(body), path)


def unmarked(body: bytes, texts: list[bytes]) -> bytes:
    for number, text in enumerate(texts):
        body = body.replace(f'"{_MARK}{number}"'.encode(), text)
    return body


def _found(raw: msgspec.Raw, path: Path) -> Iterator[bytes]:
    if not path:
        yield bytes(raw)
    elif path[0] == _EACH:
        for element in _ELEMENTS.decode(raw) or ():
            yield from _found(element, path[1:])
    elif (member := (_MEMBERS.decode(raw) or {}).get(path[0])) is not None:
        yield from _found(member, path[1:])


def _replaced(value: Any, path: Path, known: dict[bytes, bytes], texts: list[bytes]) -> Any:
    if not path:
        text = known.get(_same(value))
        if text is None:
            return value
        texts.append(text)
        return f"{_MARK}{len(texts) - 1}"
    if path[0] == _EACH:
        return [_replaced(one, path[1:], known, texts) for one in value] if value else value
    if not value or value.get(path[0]) is None:
        return value
    return {**value, path[0]: _replaced(value[path[0]], path[1:], known, texts)}


def _same(value: object) -> bytes:
    """The same for values that are the same, numbers however they are written."""
    return with_gos_numbers(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
