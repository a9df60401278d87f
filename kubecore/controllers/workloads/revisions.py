"""ControllerRevisions: the templates a DaemonSet or StatefulSet has had, which `kubectl rollout` reads.

(kubernetes `pkg/controller/history`.) Their data is a strategic merge patch that brings the template back.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.selectors import Selector
from kubecore.client.client import Client, Object
from kubecore.client.informer import Of, SharedInformer
from kubecore.controllers.ownership import Ownership
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, controller_uid

REVISIONS = "controllerrevisions.apps"
HASH_LABEL = "controller-revision-hash"
# The suffix has at most 10 characters, and a name 253; upstream keeps this much of the owner's.
_MAX_PREFIX = 223


def template_data(owner: Object) -> Object:
    """The patch that makes the owner's present template anew; keys in the order in which Go writes them."""
    template = {**owner["spec"]["template"], "$patch": "replace"}
    data: Object = orjson.loads(orjson.dumps({"spec": {"template": template}}, option=orjson.OPT_SORT_KEYS))
    return data


def template_of(revision: Object) -> Object:
    """The template a revision keeps."""
    kept: Object = revision["data"]["spec"]["template"]
    return {name: value for name, value in kept.items() if name != "$patch"}


def make(owner: Object, reference: Object, *, hash_label: str, number: int, suffix: str) -> Object:
    """The revision of the owner's present template, labelled as its pods are and with its hash, the `suffix`."""
    labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta.name(owner)[:_MAX_PREFIX]}-{suffix}",
            "namespace": meta.namespace(owner),
            "labels": {**labels, hash_label: suffix},
            "ownerReferences": [reference],
        },
        "data": template_data(owner),
        "revision": number,
    }
    if meta.annotations(owner):
        made["metadata"]["annotations"] = dict(meta.annotations(owner))
    return made


def number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def in_order(revisions: list[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(revisions, key=lambda one: (number(one), one["metadata"]["creationTimestamp"], meta.name(one)))


def next_number(revisions: list[Object]) -> int:
    return max((number(one) for one in revisions), default=0) + 1


class History:
    """Reads and writes the revisions of one kind of owner."""

    def __init__(self, client: Client, informer: SharedInformer, owner_resource: str) -> None:
        self._client = client
        self._informer = informer
        self._owner_resource = owner_resource
        informer.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)

    async def claim(self, owner: Object, selector: Selector) -> list[Object]:
        """The owner's revisions, with orphans that its selector chooses adopted, oldest first."""
        found = [
            *self._informer.by_index(OWNER_INDEX, meta.uid(owner)),
            *self._informer.by_index(OWNER_INDEX, f"orphan/{meta.namespace(owner)}"),
        ]
        return in_order(await Ownership(self._client, self._owner_resource, REVISIONS, owner, selector).claim(found))

    async def create(self, revision: Object) -> Object | None:
        """The revision as it is stored; None when another one with other data has its name."""
        try:
            return await self._client.create(REVISIONS, revision)
        except StatusError as error:
            if not errors.is_already_exists(error):
                raise
        found = await self._client.get(REVISIONS, meta.name(revision), meta.namespace(revision))
        return found if found.get("data") == revision["data"] else None

    async def renumber(self, revision: Object, new: int) -> Object:
        if number(revision) == new:
            return revision
        return await self.update({**revision, "revision": new})

    async def update(self, revision: Object) -> Object:
        return await self._client.update(REVISIONS, revision)

    async def delete(self, revision: Object) -> None:
        try:
            await self._client.delete(REVISIONS, meta.name(revision), meta.namespace(revision), uid=meta.uid(revision))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def trim(self, old: list[Object], limit: Any, live: set[str], *, live_count: bool) -> None:
        """Delete the oldest of `old` (oldest first) beyond `limit`, but none that `live` names.

        Those in use count towards the limit only with `live_count`. Names are the values of HASH_LABEL on pods: the
        revision's own label of that name, or its name.
        """
        dead = [one for one in old if not {meta.name(one), meta.labels(one).get(HASH_LABEL, "")} & live]
        surplus = len(old if live_count else dead) - (10 if limit is None else int(limit))
        for one in dead[: max(0, surplus)]:
            await self.delete(one)
