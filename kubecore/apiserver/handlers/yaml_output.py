"""Objects as YAML, as sigs.k8s.io/yaml writes them: long lines are folded, lines of a text stay lines, and a text that
would be read back as something else is in double quotes."""

from __future__ import annotations

import re
from typing import Any

import yaml

try:
    # Go's emitter is libyaml's; PyYAML's own, for who has built it without, folds texts in double quotes elsewhere.
    from yaml import CSafeDumper as _Emitter
except ImportError:
    from yaml import SafeDumper as _Emitter  # type: ignore[assignment]

_TEXT = "tag:yaml.org,2002:str"
# Of a text that begins as a reference does: the emitter sees to that.
_REFERENCE = "tag:yaml.org,2002:yaml"
# Read as something else by Go's resolver and not by ours.
_AMBIGUOUS = re.compile(r"[yYnN]|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class _Dumper(_Emitter):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, data: str) -> yaml.ScalarNode:
    style = None
    if "\n" in data:
        style = "|"
    elif _AMBIGUOUS.fullmatch(data) or _resolved(dumper, data) not in (_TEXT, _REFERENCE):
        style = '"'
    return dumper.represent_scalar(_TEXT, data, style)


def _resolved(dumper: Any, data: str) -> str:
    """The tag of what a plain scalar would be read as."""
    tag: str = dumper.resolve(yaml.ScalarNode, data, (True, False))
    return tag


_Dumper.add_representer(str, _text)


def dumped(value: Any) -> bytes:
    """What JSON has said, in YAML; members in the order of their names."""
    text: str = yaml.dump(value, Dumper=_Dumper, width=80, allow_unicode=True)
    return text.encode()
