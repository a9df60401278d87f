"""Writes EndpointSlices and remembers what was written until the cache shows it.

Planning upon a cache that lacks our own last writes would make slices twice. (kubernetes
`staging/src/k8s.io/endpointslice/util/endpointslice_tracker.go`.)
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.clock import Clock
from kubecore.controllers.base import RetryLater
from kubecore.controllers.services.measures import SliceMeasures

SLICES = "endpointslices.discovery.k8s.io"
# How long to wait for the cache to show our own write before believing it all the same.
_CONFIRM_SECONDS = 60.0


class Unconfirmed(RetryLater):
    """The cache lacks what was written."""


class SliceWrites:
    """By the key of the Service whose slices they are."""

    def __init__(self, client: Client, clock: Clock, measures: SliceMeasures) -> None:
        self._measures = measures
        self._client = client
        self._clock = clock
        # service key -> slice name -> resourceVersion we wrote (0: deleted), and when
        self._unconfirmed: dict[str, tuple[float, dict[str, int]]] = {}

    def confirm(self, key: str, existing: Iterable[Object]) -> None:
        """Raises Unconfirmed while `existing` lacks what was written."""
        since, written = self._unconfirmed.get(key, (0.0, {}))
        seen = {meta.name(one): int(meta.resource_version(one)) for one in existing}
        stale = any(seen.get(name, -1) < version if version else name in seen for name, version in written.items())
        if stale and self._clock.monotonic() - since < _CONFIRM_SECONDS:
            raise Unconfirmed(f"the cache lacks what was written for {key}")
        self._unconfirmed.pop(key, None)

    def forget(self, key: str) -> None:
        self._unconfirmed.pop(key, None)

    def gone(self, key: str, name: str) -> None:
        """A slice was deleted, by whomever."""
        written = self._unconfirmed.get(key)
        if written is not None:
            written[1].pop(name, None)

    async def write(
        self, key: str, *, create: Iterable[Object], update: Iterable[Object], delete: Iterable[Object]
    ) -> None:
        """Whole objects, in this order. Raises StatusError; what was written by then is remembered."""
        written: dict[str, int] = {}
        try:
            for one in create:
                made = await self._client.create(SLICES, _said(one))
                self._measures.changed("create")
                written[meta.name(made)] = int(meta.resource_version(made))
            for one in update:
                made = await self._client.update(SLICES, _said(one))
                self._measures.changed("update")
                written[meta.name(made)] = int(meta.resource_version(made))
            for one in delete:
                await self._delete(one)
                self._measures.changed("delete")
                written[meta.name(one)] = 0
        finally:
            if written:
                self._unconfirmed[key] = (self._clock.monotonic(), written)

    async def _delete(self, one: Object) -> None:
        try:
            await self._client.delete(SLICES, meta.name(one), meta.namespace(one), uid=meta.uid(one))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise


def _said(one: Object) -> Object:
    """Lists that are empty are null, which nobody owns, as what comes in protobuf has them."""
    return {**one, "endpoints": one.get("endpoints") or None, "ports": one.get("ports") or None}
