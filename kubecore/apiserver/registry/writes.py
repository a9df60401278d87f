"""What the generic store is asked to do, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.apiserver.storage.interface import StorageClosed, StorageError

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import Strategy
    from kubecore.apiserver.storage.interface import Stored, Template

JSON = dict[str, Any]


class Change(NamedTuple):
    """How an update makes the new object: `make(old, stored)` returns a fresh dict. `conditional` says the client
    named the revision it started from, so losing a race is its business (409). Objects are made `without_owners` where
    what a client says of managedFields does not count: then neither `old` nor what is made of it has them. Admission
    sees the `whole` of what is made, and not only what a write through a subresource changes."""

    make: Callable[[JSON, Stored], JSON]
    creates: Callable[[], JSON] | None = None
    without_owners: bool = False
    whole: bool = False


class Intent(NamedTuple):
    """What an update makes of an object, before webhooks see it; `conditional` as in `Change`, `rules` what may change.

    `version` is the resourceVersion it names."""

    obj: JSON
    old: JSON
    conditional: bool
    version: str
    rules: Strategy
    managed: bytes | None


class Written(NamedTuple):
    """A write's outcome: stored bytes, and whether the object is new or gone now."""

    body: bytes
    created: bool = False
    deleted: bool = False


class Conversion(Protocol):
    """Between the version a store speaks and the one its objects are stored in (custom resources)."""

    changes_fields: bool
    """Whether a field may be elsewhere in the other version, or have another value."""

    async def read(self, stored: Stored) -> Stored:
        """What is stored, in the store's version. Raises StatusError when it cannot be converted."""

    async def read_all(self, items: list[bytes]) -> list[bytes]:
        """Many objects at once."""

    async def template(self, body: bytes) -> Template:
        """An object of the store's version, ready to be stored."""


def storage_status(error: StorageError) -> StatusError:
    """The one translation of what storage says into what a client hears."""
    if isinstance(error, StorageClosed):
        return errors.service_unavailable("the server is shutting down")
    return errors.internal_error(error)
