"""Variables that a container has from a file of a volume, which an init container, say, has written (KEP-3721).

The file is in a subset of the shell's syntax: NAME='value', the value in single quotes as it stands, over several lines
if need be, empty lines and comments between (upstream `pkg/util/env`, ParseEnv).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kubecore.kubelet.runtime.system_calls import IN_ROOT, NO_MAGIC_LINKS, open_within

_MOST_BYTES = 1 << 20


class BadFile(Exception):
    """The text says what is wrong with it."""


def value_in_file(volume: Path, path: str, key: str) -> str:
    """ "" where there is none. Links in the volume lead to nothing outside of it. Raises BadFile, OSError."""
    folder = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = open_within(folder, path, os.O_RDONLY | os.O_NONBLOCK, limits=IN_ROOT | NO_MAGIC_LINKS)
    finally:
        os.close(folder)
    return value_of(_content(descriptor).decode("utf-8", "surrogateescape"), key)


def _content(descriptor: int) -> bytes:
    """The descriptor is closed. Raises BadFile, OSError."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadFile("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MOST_BYTES:
        raise BadFile(f"it is larger than {_MOST_BYTES} bytes")
    return content


def value_of(text: str, key: str) -> str:
    """Of the first variable of that name, "" where there is none. Raises BadFile."""
    lines = iter(enumerate(text.split("\n"), 1))
    for number, whole in lines:
        line = whole.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, given, rest = line.partition("=")
        _check_name(name, given, number)
        if rest.startswith((" ", "\t")):  # to a shell it is empty
            value = ""
        elif rest.startswith("'"):
            value = _quoted_value(rest[1:], number, lines)
        else:
            raise BadFile(f"{_at(number)}: value must be enclosed in single quotes")
        if name == key:
            return value
    return ""


def _quoted_value(rest: str, number: int, lines: Iterator[tuple[int, str]]) -> str:
    """What stands before the closing quote; `rest`: of the line with the opening one."""
    value, closed, after = rest.partition("'")
    end = number
    while not closed:
        end, following = next(lines, (0, ""))
        if not end:
            raise BadFile(f"{_at(number, 'starting at')}: unclosed single quote")
        more, closed, after = following.partition("'")
        value = f"{value}\n{more}"
    if (after := after.lstrip(" \t")) and not after.startswith("#"):
        raise BadFile(f"{_at(end)}: unexpected content after closing quote")
    return value


def _check_name(name: str, given: str, number: int) -> None:
    if not given:
        raise BadFile(f"{_at(number)}: missing '='")
    if not name.rstrip(" \t"):
        raise BadFile(f"{_at(number)}: empty variable name")
    if name != name.rstrip(" \t"):
        raise BadFile(f"{_at(number)}: whitespace before '=' is not allowed")


def _at(number: int, where: str = "at") -> str:
    return f"invalid environment variable format {where} line {number}"
