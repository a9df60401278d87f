"""DeleteOptions in the body of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from kubecore.api.schemas import media_type
from kubecore.apiserver.handlers.failing import as_status
from kubecore.apiserver.handlers.request import JSON_TYPE
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.api.schemas import Schemas
    from kubecore.apiserver.handlers.request import Request

_OF_OBJECT = re.compile(
    r"the object provided is unrecognized \(must be of type DeleteOptions\): (.*) \(.*\)$", re.DOTALL
)


def sent_options(schemas: Schemas, request: Request) -> bytes:
    """As JSON, in whichever form they came; nothing where there are none. Raises 400, 415."""
    body = request.body
    if not body:
        return body
    media = media_type(request.content_type) if request.content_type else JSON_TYPE
    if media == JSON_TYPE and body.lstrip()[:1] == b"{" and _is_json(body):
        return body
    try:
        return schemas.decode("v1/DeleteOptions", body, request.content_type, "Ignore").body
    except Exception as failure:
        refused = as_status(failure)
        if refused is None:
            raise
        # Upstream says what is wrong with options as their decoder does, and not as with objects.
        refused.message = _OF_OBJECT.sub(r"\1", refused.message)
        raise refused from failure


def _is_json(body: bytes) -> bool:
    try:
        loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
