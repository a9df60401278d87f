"""Which form an answer takes: Accept parsed once per distinct header, objects encoded accordingly.

After upstream k8s.io/apiserver pkg/endpoints/handlers/negotiation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import orjson

from kubecore.api import errors, protobuf
from kubecore.apiserver.discovery.accepting import MediaRange, media_ranges, passes_the_router
from kubecore.apiserver.handlers.request import JSON_TYPE, Response

JSON = dict[str, Any]

YAML_TYPE = "application/yaml"
_ACCEPTED = (JSON_TYPE, YAML_TYPE, protobuf.MEDIA)
_STREAMS = (f"{JSON_TYPE};stream=watch", protobuf.STREAM_MEDIA)
_TEXT, _AS_IT_IS = "text/plain; charset=utf-8", [("X-Content-Type-Options", "nosniff")]
_TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Form:
    """`media` is JSON, YAML or protobuf; `transform` is "" or the kind asked for by `as=`, in `version`."""

    media: str = JSON_TYPE
    transform: str = ""
    version: str = "v1"


PLAIN = Form()


@functools.lru_cache(maxsize=512)
def negotiate(accept: str, *, in_protobuf: bool = True, tables: bool = True) -> Form | None:
    """The best form for an Accept header; None when nothing fits (406)."""
    if not accept:
        return PLAIN
    for clause in media_ranges(accept):
        form = _form(clause)
        if form is None or (form.media == protobuf.MEDIA and not in_protobuf):
            continue
        if tables or form.transform != "Table":
            return form
    return None


def form_for(
    accept: str, *, in_protobuf: bool = True, tables: bool = True, streams: bool = False, routed: bool = True
) -> Form:
    """`in_protobuf`: whether there is such a form of what is answered, and `routed`, whether upstream has a router look
    at the header first; `tables` is False for kinds that are no objects to be listed, `streams` True where watches are.
    Raises 406."""
    if routed and not passes_the_router(accept, _ACCEPTED):
        raise errors.no_representation((*_ACCEPTED, *_STREAMS) if streams else _ACCEPTED)
    form = negotiate(accept, in_protobuf=in_protobuf, tables=tables)
    if form is None:
        raise errors.not_acceptable(_ACCEPTED)
    return form


def _form(clause: MediaRange) -> Form | None:
    media, params = clause
    if media in ("*/*", "application/*"):
        media = JSON_TYPE
    if media not in _ACCEPTED:
        return None
    if params.get("stream", "watch") != "watch":
        return None
    if params.get("sv") or (media == YAML_TYPE and params.get("stream")):
        return None
    if not params.keys() & {"as", "g", "v"}:
        return Form(media)
    transform = params.get("as", "")
    if transform == "Table" and media == protobuf.MEDIA:
        return None
    if transform not in _TRANSFORMS or params.get("g") != "meta.k8s.io":
        return None
    version = params.get("v", "")
    return Form(media, transform, version) if version in ("v1", "v1beta1") else None


def encode(form: Form, body: bytes) -> tuple[bytes, str]:
    """JSON bytes in the negotiated medium, with its content type."""
    if form.media == YAML_TYPE:
        # Here, since it brings a library that few ask for.
        from kubecore.apiserver.handlers import yaml_output

        return yaml_output.dumped(orjson.loads(body)), YAML_TYPE
    if form.media == protobuf.MEDIA:
        return protobuf.encode(body), protobuf.MEDIA
    return body, JSON_TYPE


def error_response(error: errors.StatusError, accept: str) -> Response:
    """The Status, in the form asked for where that is possible, else as JSON. What is asked for of objects (`as=`) does
    not count."""
    if error.plain:
        return Response(error.code, f"{error.plain}\n".encode(), _TEXT, _AS_IT_IS)
    forms = (_form(clause) for clause in media_ranges(accept)) if accept else ()
    form = next((form for form in forms if form is not None and not form.transform), PLAIN)
    body, media = encode(form, error.to_json())
    return Response(error.code, body, media, error.headers)
