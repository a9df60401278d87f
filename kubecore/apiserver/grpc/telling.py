"""What REST's answers have headers for is metadata of a call's answer: `audit-id`, and a `warning` for each Warning."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kubecore.apiserver.grpc.front_transport import Metadata

AUDIT_ID = "audit-id"
WARNING = "warning"
# Many clients take 8 KiB of metadata at a time, and fail a call that has more. An entry counts as HTTP/2 has it.
_MOST_BYTES = 7168
_OF_AN_ENTRY = 32
# Of a client's own id: one that is longer it need not be told.
_LONGEST_ID = 256
# As upstream cuts warnings where they are much.
_CUT_CHARACTERS = 256


class Context(Protocol):
    """What is needed of grpc.aio.ServicerContext."""

    def invocation_metadata(self) -> Metadata | None: ...
    async def send_initial_metadata(self, initial_metadata: tuple[tuple[str, str], ...]) -> None: ...


class Telling:
    """Of one call. All its requests are told to the audit by one id, as all that a client of REST names alike are."""

    def __init__(self, context: Context) -> None:
        self._context = context
        given = [value for name, value in context.invocation_metadata() or () if name == AUDIT_ID and value]
        self.audit_id = str(given[0]) if given else str(uuid.uuid4())
        self._warnings: dict[str, None] = {}
        self._has_begun = False

    def warn(self, warnings: Iterable[str]) -> None:
        """Of an answer's Warning headers; what several answers of a call warn of is told once."""
        self._warnings.update(dict.fromkeys(warnings))

    async def begin(self) -> None:
        """A stream's answer begins: its client is not to wait for the end. Idempotent."""
        if not self._has_begun:
            self._has_begun = True
            await self._context.send_initial_metadata(self.entries())

    def entries(self, *, beside: int = 0) -> tuple[tuple[str, str], ...]:
        """As many as there is room for `beside` so many bytes; a warning that is too long for it is cut."""
        left = _MOST_BYTES - beside
        told = [(AUDIT_ID, self.audit_id)] if len(self.audit_id) <= _LONGEST_ID else []
        left -= sum(_bytes(entry) for entry in told)
        for warning in self._warnings:
            whole, cut = (WARNING, encoded(warning)), (WARNING, encoded(_cut(warning)))
            entry = whole if _bytes(whole) <= left else cut
            if _bytes(entry) <= left:
                told.append(entry)
                left -= _bytes(entry)
        return tuple(told)


def encoded(text: str) -> str:
    """Text as metadata can have it: what is not printable ASCII, and %, in percent-encoding, as gRPC itself has its
    status messages."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return "".join(chr(one) if 0x20 <= one <= 0x7E and one != 0x25 else f"%{one:02X}" for one in text.encode())


def _cut(warning: str) -> str:
    """A quoted text stays one."""
    return warning if len(warning) <= _CUT_CHARACTERS else warning[:_CUT_CHARACTERS].rstrip("\\") + '"'


def _bytes(entry: tuple[str, str]) -> int:
    return len(entry[0]) + len(entry[1]) + _OF_AN_ENTRY
