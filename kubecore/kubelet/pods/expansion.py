"""$(NAME) references in commands, arguments and values (k8s.io/kubernetes `third_party/forked/golang/expansion`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def references(text: str) -> list[str]:
    """Names that are referred to."""
    return [match[1] for match in _REFERENCE.finditer(text) if match[1] is not None]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value, `$$` one dollar; a reference to an unknown name stays as it is."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        return variables.get(name, match[0])

    return _REFERENCE.sub(replace, text)
