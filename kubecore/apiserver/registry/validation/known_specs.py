"""Pod specs that were found right: the pods of one template have the same spec, and are many."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Any

import orjson

JSON = dict[str, Any]

_REMEMBERED = 2048
# What the ServiceAccount admission plugin calls the volume of the pod's token: of each pod otherwise.
_TOKEN_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")


def likeness(spec: JSON, pod: JSON | None) -> bytes | None:
    """What decides whether the spec is right, the same for all pods of a template; None where more than the spec does:
    annotations of the pod (its metadata is `pod`, None in a template), or its name, of which claims are named."""
    if pod is not None and pod.get("annotations"):
        return None
    name = ""
    for volume in spec.get("volumes") or ():
        if "ephemeral" in volume:
            return None
        if not name and _TOKEN_VOLUME.fullmatch(volume.get("name") or ""):
            name = volume["name"]
    text = orjson.dumps(spec)
    # NUL is nowhere in JSON, so that only such a name is taken for it.
    text = text.replace(name.encode(), b"\0") if name else text
    # Specs may be large, and as many as are remembered are kept for good.
    return (b"template" if pod is None else b"pod") + hashlib.sha256(text).digest()


class KnownSpecs:
    """The newest of them, by their likeness."""

    def __init__(self) -> None:
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, key: bytes | None) -> bool:
        return key in self._right

    def add(self, key: bytes | None) -> None:
        if key is not None:
            self._right[key] = None
            if len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)
