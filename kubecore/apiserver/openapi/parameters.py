"""What OpenAPI says of parameters. Of those in the query: what upstream's types of options say of their fields
(`parameters.json`, printed by the program in tests/e2e/protobuf, whose test holds it true)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

_FACTS = Path(__file__).with_name("parameters.json")

# No field of any options: the handlers of every verb know it.
_PRETTY = (
    "string",
    "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or "
    "command-line HTTP tool (curl and wget).",
)


def query_parameter(name: str, options: Sequence[str]) -> tuple[str, str]:
    """The type and the description of a parameter that the first of these kinds of options has that knows it."""
    if name == "pretty":
        return _PRETTY
    known = next(one for one in map(_facts().__getitem__, options) if name in one)
    type_name, description = known[name]
    return type_name, description


def path_parameter(name: str, kind: str) -> dict[str, object]:
    """A part of the path, as both versions of OpenAPI have it."""
    told = {
        "name": f"name of the {kind}",
        "namespace": "object name and auth scope, such as for teams and projects",
        "path": "path to the resource",
    }
    return {"name": name, "in": "path", "description": told[name], "required": True}


@functools.cache
def _facts() -> Mapping[str, Mapping[str, Sequence[str]]]:
    loaded: dict[str, dict[str, list[str]]] = json.loads(_FACTS.read_bytes())
    return loaded
