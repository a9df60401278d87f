"""What of an object decides who owns what of it once it is new: its members, and not what they say."""

from __future__ import annotations

from typing import Any

Outline = tuple[object, ...]


def outline(obj: dict[str, Any]) -> Outline | None:
    """The members of an object and of what is in it. Objects of one kind with the same outline get the same
    managedFields from the same manager. None where there is a list: its elements may be owned by what they say."""
    found: list[object] = []
    for name, value in obj.items():
        kind = type(value)
        if kind is str or kind is int or kind is bool:
            found.append(name)
        elif kind is dict:
            inner = outline(value)
            if inner is None:
                return None
            found.append((name, inner))
        elif value is None:
            found.append((name, None))
        else:
            return None
    return tuple(found)
