"""Simple JSON paths of definitions, like `.spec.replicas`: no indices, no filters."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def steps(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def find(obj: JSON, path: str) -> Any:
    """The value at the path; None where any step is missing or leads through something that is no object."""
    found: Any = obj
    for step in steps(path):
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found


def put(obj: JSON, path: str, value: Any) -> None:
    """Sets the value at the path, making what leads there. Raises ValueError where no object can be on the way."""
    *way, last = steps(path)
    place = obj
    for step in way:
        below = place.setdefault(step, {})
        if not isinstance(below, dict):
            raise ValueError(f"{path} leads through {step}, which is no object")
        place = below
    place[last] = value
