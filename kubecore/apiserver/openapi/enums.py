"""Fields of built-in kinds that take one of a few values, which the baked definitions do not tell: `enums.json`, read
from upstream by tests/support/enum_facts.py, whose test holds it true.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JSON = dict[str, Any]

_FACTS = Path(__file__).with_name("enums.json")


def add_to(definitions: dict[str, JSON]) -> None:
    """Puts the values into the definitions of built-in kinds, in place."""
    known = {_short(name): one for name, one in definitions.items() if ".api." in name or ".apis." in name}
    for entry in json.loads(_FACTS.read_bytes()):
        for place in entry["fields"]:
            kind, _, field = place.rpartition(".")
            if kind in known:
                _add(known[kind], field, entry["values"], "\n".join(entry["told"]))


def _short(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` → `core.v1.Pod`"""
    return ".".join(name.rsplit(".", 3)[-3:])


def _add(definition: JSON, field: str, values: list[str], told: str) -> None:
    """A field's name ends with [] or {} where the elements of a list or the values of a map are meant."""
    name = field.rstrip("[]{}")
    schema = (definition.get("properties") or {}).get(name)
    if schema is None:
        return
    inner = {"[": "items", "{": "additionalProperties"}.get(field[len(name) :][:1])
    (schema[inner] if inner else schema)["enum"] = values
    if told:
        schema["description"] = f"{schema.get('description', '')}\n\nPossible enum values:\n{told}".lstrip()
