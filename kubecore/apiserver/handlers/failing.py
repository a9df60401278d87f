"""What a failure says to the client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kubecore import _native
from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.schemas import PatchError, SchemaError
from kubecore.apiserver.handlers.request import warning_headers

_GENERIC = "the server rejected our request due to an error in our request"
_PATCHED = ' "" is invalid: patch: '


def _details(message: str) -> dict[str, object] | None:
    """What goes with the engine's message of a patch that leads to nothing sensible."""
    if message.startswith(_PATCHED):
        return {"causes": [{"reason": "FieldValueInvalid", "message": message[len(_PATCHED) :], "field": "patch"}]}
    return {} if message == _GENERIC else None


def as_status(error: BaseException) -> StatusError | None:
    """What a failure says to the client; None for one that is our own fault."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, _native.NativeStatus):
        return StatusError.from_body(error.code, error.body)
    if isinstance(error, PatchError) and error.reason == "Conflict":
        return errors.apply_conflict(error.message, error.conflicts)
    if isinstance(error, (SchemaError, PatchError)):
        return StatusError(error.code, error.reason, error.message, _details(error.message))
    return None


def released(error: BaseException) -> None:
    """Lets go of what the frames hold that a failure has gone through, bodies of megabytes among them: failures and
    frames hold each other, and the garbage collector seldom comes by."""
    failures: list[BaseException | None] = [error]
    while failures:
        if (one := failures.pop()) is not None and (one.__traceback__ or one.__cause__ or one.__context__):
            failures += (one.__cause__, one.__context__)
            one.__traceback__ = one.__cause__ = one.__context__ = None


def warned(failure: Exception, warnings: Sequence[str]) -> Exception:
    """The failure, to be answered together with what was told of the request before it failed."""
    status = as_status(failure) if warnings else None
    if status is None:
        return failure
    told = set(status.headers)
    status.headers += tuple(header for header in warning_headers(warnings) if header not in told)
    return status


@contextmanager
def telling(warnings: Sequence[str]) -> Iterator[None]:
    """What fails within is answered together with `warnings`, those that come to them meanwhile included."""
    try:
        yield
    except Exception as failure:
        raise warned(failure, warnings) from failure
