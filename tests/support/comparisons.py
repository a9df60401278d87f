"""How much work something is, told by how often it compares texts: a clock would tell how busy the machine is."""

from __future__ import annotations

from typing import ClassVar


class Text(str):
    """A text of a class of its own, which counts in `compared` how often one of it is held against anything."""

    __slots__ = ()
    compared: ClassVar[int]

    def __eq__(self, other: object) -> bool:
        type(self).compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def counting() -> type[Text]:
    """A class that has counted nothing yet."""

    class Counted(Text):
        compared = 0

    return Counted
