"""Reviews as the API in memory answers them: who has which token, and who may do what to which part of a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass
class Rights:
    tokens: dict[str, str] = field(default_factory=dict)
    """User names."""
    nodes: set[tuple[str, str, str]] = field(default_factory=set)
    """User name, verb, subresource of every node."""

    def answer(self, plural: str, review: Object) -> Object | None:
        """None for what is no review."""
        spec = review.get("spec") or {}
        if plural == "tokenreviews":
            name = self.tokens.get(spec["token"])
            status: Object = {"authenticated": True, "user": {"username": name}} if name else {}
        elif plural == "subjectaccessreviews":
            asked = spec["resourceAttributes"]
            status = {"allowed": (spec["user"], asked["verb"], asked["subresource"]) in self.nodes}
        else:
            return None
        return {**review, "status": status}
