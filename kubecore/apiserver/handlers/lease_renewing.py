"""Renewals of leases by components of this process, of which an idle cluster has more than of all else: of each comes
what comes of a PUT of the lease. All that is new of it is a time in the form that it is stored in, so that nothing has
to be judged again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import write_options

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.handlers.request import Request
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

_LEASES = "leases.coordination.k8s.io"


class LeaseRenewing:
    """`head`: such a request, without a lease's name."""

    def __init__(self, writing: Writing, authorizer: Authorizer, served: Served, head: Request) -> None:
        self._writing = writing
        self._authorizer = authorizer
        self._store = served.stored()
        self._is_guarded = bool(self._store.registry.admission.guards(_LEASES))
        self._manager = writing.facts(head, served, write_options("update", head.query))["field_manager"]

    def begin(
        self, user: UserInfo, namespace: str, name: str, version: str, renew_time: str
    ) -> Awaitable[Stored] | None:
        """The write that does it, which may raise StorageError; None where more is to be done, or it is refused."""
        store = self._store
        admission = store.registry.admission
        asked = Attributes("update", "coordination.k8s.io", "v1", "leases", "", namespace, name)
        is_handled = self._is_guarded or admission.handles(_LEASES, "UPDATE", "", user)
        if is_handled or not self._authorizer.allows(user, asked):
            return None
        stored = store.current(namespace, name)
        if stored is None or str(stored.revision) != version:
            return None
        lease: JSON = loads(stored.value)
        if not self._renew(lease, renew_time):
            return None
        body = store.codec.template(store.codec.encode(lease))
        return store.registry.storage.update(store.key(namespace, name), body, expected=stored.revision)

    def _renew(self, lease: JSON, renew_time: str) -> bool:
        """False where that would be no renewal, the lease is to go, or others have a part in it."""
        metadata, spec = lease["metadata"], lease.get("spec") or {}
        if spec.get("renewTime") in (None, renew_time) or metadata.get("deletionTimestamp"):
            return False
        entries: list[JSON] = metadata.get("managedFields") or []
        if len(entries) != 1:
            return False
        entry = entries[0]
        whose = tuple(map(entry.get, ("manager", "operation", "apiVersion", "subresource")))
        if whose != (self._manager, "Update", lease["apiVersion"], None):
            return False
        if "f:renewTime" not in entry["fieldsV1"].get("f:spec", ()):
            return False
        spec["renewTime"], entry["time"] = renew_time, self._writing.now()
        return True
