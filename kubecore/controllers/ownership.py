"""Which objects belong to a controller: adopts orphans its selector chooses, lets go of those it no longer does.

(kubernetes `pkg/controller/controller_ref_manager.go`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.selectors import Selector
from kubecore.client.client import Client, Object
from kubecore.controllers.base import RetryLater


class Ownership:
    """Claims children of one kind for one controller object, during one sync.

    Those that `accepts` refuses count as not chosen by the selector; `finalizer` is put on what is adopted and taken
    off what is let go.
    """

    def __init__(
        self,
        client: Client,
        resource: str,
        child_resource: str,
        owner: Object,
        selector: Selector,
        *,
        accepts: Callable[[Object], bool] = lambda child: True,
        finalizer: str = "",
    ) -> None:
        known = client.resource(resource)
        self._client = client
        self._resource = resource
        self._child_resource = child_resource
        self._owner = owner
        self._selector = selector
        self._accepts = accepts
        self._finalizer = finalizer
        self._reference = meta.controller_reference(owner, known.api_version, known.kind)
        self._may_adopt: bool | None = None

    async def claim(self, children: Iterable[Object]) -> list[Object]:
        """Those of `children` that are the owner's now; others' children are left alone."""
        claimed = []
        owner_uid, chooses, accepts = meta.uid(self._owner), self._selector.matches, self._accepts
        seen: dict[str, str] | None = None
        chosen = False
        for child in children:
            controller = meta.controller_of(child)
            if controller is not None and controller["uid"] != owner_uid:
                continue
            labels = meta.labels(child)
            if labels != seen:
                # most children are made from one template
                seen, chosen = labels, chooses(labels)
            matches = chosen and accepts(child)
            if controller is not None:
                if matches:
                    claimed.append(child)
                elif not meta.is_deleting(self._owner):
                    await self._release(child)
            elif matches and not meta.is_deleting(self._owner) and not meta.is_deleting(child):
                adopted = await self._adopt(child)
                if adopted is not None:
                    claimed.append(adopted)
        return claimed

    async def _adopt(self, child: Object) -> Object | None:
        await self._check_adoption()
        patch: Object = {"metadata": {"ownerReferences": [self._reference], "uid": meta.uid(child)}}
        if self._finalizer:
            patch["metadata"]["finalizers"] = [self._finalizer]
        try:
            return await self._patch(child, patch)
        except StatusError as error:
            if errors.is_not_found(error):
                return None
            raise

    async def _release(self, child: Object) -> None:
        gone = {"$patch": "delete", "uid": meta.uid(self._owner)}
        patch: Object = {"metadata": {"ownerReferences": [gone], "uid": meta.uid(child)}}
        if self._finalizer:
            patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = [self._finalizer]
        try:
            await self._patch(child, patch)
        except StatusError as error:
            # gone meanwhile, or made anew, or no longer ours: all as wished
            if error.code not in (404, 422):
                raise

    async def _patch(self, child: Object, patch: Object) -> Object:
        return await self._client.patch(self._child_resource, meta.name(child), patch, meta.namespace(child))

    async def _check_adoption(self) -> None:
        """The cache may not know yet that the owner is being deleted, or is another one: ask before adopting."""
        if self._may_adopt is None:
            fresh = await self._client.get(self._resource, meta.name(self._owner), meta.namespace(self._owner))
            self._may_adopt = meta.uid(fresh) == meta.uid(self._owner) and not meta.is_deleting(fresh)
        if not self._may_adopt:
            raise RetryLater(f"{meta.key(self._owner)} is being deleted or was made anew")
