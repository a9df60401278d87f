"""What is wrong with the outline of a JSONPath, in the words of k8s.io/client-go `util/jsonpath/parser.go`."""

from __future__ import annotations

import re

# What stands beside each other in a path, and what is said where one of them begins and does not end.
_PARTS = (
    (re.compile(r"\[\?\(.*?\)\]", re.DOTALL), "[?(", "unterminated filter"),
    (re.compile(r"\[[^\]\n]*\]"), "[", "unterminated array"),
    (re.compile(r"""'(?:\\'|[^'\n])*'|"(?:\\"|[^"\n])*\""""), ("'", '"'), "unterminated quoted string"),
)
# A field behind its dot, a number or a word, and what is passed over.
_PLAIN = re.compile(r"\.(?:\\.|[^\s.,\[\]$@{}])*|[+-]?[\d.]+|\w[^\s.,\[\]$@{}]*|[ @$]")


def fault(path: str) -> str | None:
    """None for what may be a path; the values of indices and filters are not looked at."""
    at = 0
    while at < len(path):
        for pattern, opening, unended in _PARTS:
            if path.startswith(opening, at):
                found = pattern.match(path, at)
                if found is None:
                    return unended
                break
        else:
            found = _PLAIN.match(path, at)
        if found is None:
            if path[at] in "\r\n":
                return "unclosed action"
            return f"unrecognized character in action: U+{ord(path[at]):04X} '{path[at]}'"
        at = found.end()
    return None
