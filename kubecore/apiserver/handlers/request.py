"""A request as the handlers see it, whichever way it came in, and what they answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubecore._native import UserInfo

if TYPE_CHECKING:
    from kubecore.apiserver.audit.recording import Record

JSON_TYPE = "application/json"

Headers = Sequence[tuple[str, str]]


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Headers = ()


class Stream(Protocol):
    """A body written piece by piece (`_native.ResponseStream`, or the in-process transport's)."""

    def write(self, data: bytes) -> bool: ...
    @property
    def writable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def on_writable(self, callback: Callable[[], None]) -> None: ...
    def on_closed(self, callback: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


class Request(Protocol):
    """What handlers use of a request; `_native.Request` and `local.LocalRequest` comply.

    Resource requests carry Kubernetes' request info (verb, group, resource, ...); others only method and path.
    """

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def verb(self) -> str: ...
    @property
    def is_resource(self) -> bool: ...
    @property
    def api_group(self) -> str: ...
    @property
    def api_version(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def subresource(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def accept(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def user(self) -> UserInfo | None: ...
    @property
    def authenticated(self) -> bool | None: ...
    @property
    def authorized(self) -> bool | None: ...
    @property
    def resumed(self) -> bool: ...
    @property
    def audit(self) -> Record | None: ...
    def header(self, name: str) -> str | None: ...
    def headers(self) -> list[tuple[str, str]]: ...
    def respond(self, status: int, body: bytes, content_type: str = JSON_TYPE, headers: Headers = ()) -> None: ...
    def respond_stream(self, status: int, content_type: str, headers: Headers = ()) -> Stream: ...
    def identified(self, user: UserInfo) -> None:
        """Who asks is known, and, called again, as whom he goes on."""

    def waited(self, seconds: float) -> None:
        """So long others were waited for, which is not the server's own time."""

    def resume(self, user: UserInfo, *, authorized: bool = False) -> None: ...


# Characters of warnings of one answer, and of one warning where these do not do.
_WARNED_IN_ALL, _WARNED_EACH = 4096, 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def warning_headers(warnings: Sequence[str]) -> list[tuple[str, str]]:
    """Warning headers (RFC 7234 code 299), each text once.

    As in upstream's WithWarningRecorder: where they are much together each one is cut, and what is too much after that
    is left out, as is one with control characters."""
    if not warnings:
        return []
    made: list[tuple[str, str]] = []
    texts = [text for text in dict.fromkeys(warnings) if text and not _CONTROL.search(text)]
    cut = sum(map(len, texts)) > _WARNED_IN_ALL
    told = 0
    for text in texts:
        if cut and told >= _WARNED_IN_ALL:
            break
        text = text[:_WARNED_EACH] if cut else text
        told += len(text)
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        made.append(("Warning", f'299 - "{quoted}"'))
    return made
