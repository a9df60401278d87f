"""Reviews that come back: read as clients in Go read them, by the kind's own schema.

After upstream k8s.io/apimachinery pkg/runtime/serializer/json and k8s.io/client-go kubernetes/scheme.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from kubecore import _native
from kubecore.api import schemas, scheme
from kubecore.api.quoting import quoted
from kubecore.api.schemas import SchemaError
from kubecore.apiserver.webhooks.wording import empty

JSON = dict[str, Any]

_HEAD = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_SCHEME = 'in scheme "pkg/runtime/scheme.go:111"'


class BadReview(Exception):
    """What came back is no such review; the text says why."""


class _Head(msgspec.Struct):
    apiVersion: str | None = None
    kind: str | None = None


_HEADS = msgspec.json.Decoder(_Head)


def review_of(body: bytes, status: int, content_type: str, *, version: str, kind: str) -> JSON:
    """The review, without fields that its kind has not; what it does not say of itself is as expected. Raises
    BadReview."""
    if not body:
        raise BadReview(empty(status, content_type))
    try:
        head = _HEADS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReview(unparsed(body, error)) from None
    _check_kind(head.apiVersion or version, head.kind or kind, version, kind)
    return _decoded(body, version, kind)


_ANY = "map[string]interface {}"


def unparsed(body: bytes, error: Exception) -> str:
    """Of an answer that is no JSON, or no object, in the words of Go's decoder; `error` is what else there may be."""
    why = _native.json_object_fault(body) or str(error)
    return f"couldn't get version/kind; json parse error: {why.replace(_ANY, _HEAD)}"


def _check_kind(given: str, found: str, version: str, kind: str) -> None:
    if (given, found) == (version, kind):
        return
    if not _is_registered(given, found, version, kind):
        raise BadReview(f"no kind {quoted(found)} is registered for version {quoted(given)} {_SCHEME}")
    of, to = (one.rpartition("/")[2] for one in (given, version))
    raise BadReview(f"converting ({of}.{found}) to ({to}.{kind}): unknown conversion")


def _is_registered(given: str, found: str, version: str, kind: str) -> bool:
    """Whether clients know that kind."""
    group, _, number = given.rpartition("/")
    if found == kind and group == version.rpartition("/")[0]:
        return number in ("v1", "v1beta1")
    return (given, found) == ("v1", "Status") or scheme.default().for_kind(group, number, found) is not None


def _decoded(body: bytes, version: str, kind: str) -> JSON:
    group, _, number = version.rpartition("/")
    own = f"{group}/v1/{kind}"
    if not schemas.default().has(own):
        # A kind of webhooks alone, which no API serves.
        found = orjson.loads(body)
        if not isinstance(found.get("status") or {}, dict):
            raise BadReview(f"json: cannot unmarshal a value that is no object into Go struct field {kind}.status")
        return dict(found)
    # v1beta1 has the same fields there.
    bare = {**orjson.loads(body), "apiVersion": f"{group}/v1", "kind": kind}
    try:
        return dict(orjson.loads(schemas.default().decode(own, orjson.dumps(bare)).body))
    except SchemaError as error:
        why = str(error).partition(f" cannot be handled as a {kind}: ")[2] or str(error)
        raise BadReview(why.replace(" of type v1.", f" of type {number}.")) from None
