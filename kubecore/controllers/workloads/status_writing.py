"""Writes a workload's status, as all controllers of sets of pods do it."""

from __future__ import annotations

from collections.abc import Callable

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object

_TRIES = 2


async def write_status(client: Client, resource: str, obj: Object, status_of: Callable[[Object], Object]) -> None:
    """Write what `status_of` makes of the object, unless that is its status already.

    When another write came first it is tried once more on the object as it is now. One that is gone needs no status.
    Raises StatusError.
    """
    current = obj
    for attempt in range(_TRIES):
        status = status_of(current)
        if status == (current.get("status") or {}):
            return
        try:
            await client.put(resource, {**current, "status": status}, subresource="status")
            return
        except StatusError as error:
            if errors.is_not_found(error):
                return
            if not errors.is_conflict(error) or attempt + 1 == _TRIES:
                raise
            current = await client.get(resource, meta.name(obj), meta.namespace(obj))
