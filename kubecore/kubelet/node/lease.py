"""The Lease by which a node shows that it is alive (upstream `component-helpers/apimachinery/lease`)."""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.clock import Clock

Object = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
_LEASES = "leases.coordination.k8s.io"


class NodeLease:
    """One node's. `seconds`: how long after its next renewal the node may be taken for dead."""

    def __init__(self, client: Client, clock: Clock, node_name: str, *, seconds: int = LEASE_SECONDS) -> None:
        self.seconds = seconds
        self._client = client
        self._clock = clock
        self._name = node_name
        self._lease: Object | None = None

    async def renew(self, node: Object) -> None:
        """Renew it, or make it; `node` becomes its owner, whatever node of the name was before. While there is none
        ({}), no lease is made. StatusError and OSError: the next try begins afresh."""
        known, self._lease = self._lease, None
        if known is None:
            try:
                known = await self._client.get(_LEASES, self._name, LEASE_NAMESPACE)
            except StatusError as error:
                if error.code != 404:
                    raise
        if known is not None:
            self._lease = await self._renewed(known, node)
        elif meta.uid(node):  # one without an owner would stay when the node goes
            self._lease = await self._client.create(_LEASES, self._new(node))

    async def _renewed(self, known: Object, node: Object) -> Object:
        metadata, before, spec = known["metadata"], known.get("spec") or {}, self._spec()
        is_owner = _is_owner(node, metadata)
        if is_owner and {**before, "renewTime": spec["renewTime"]} == {**before, **spec}:
            return await self._client.renew_lease(known, spec["renewTime"])
        if not is_owner:
            metadata = {**metadata, "ownerReferences": self._owners(node, metadata)}
        return await self._client.update(_LEASES, {**known, "metadata": metadata, "spec": {**before, **spec}})

    def _new(self, node: Object) -> Object:
        metadata: Object = {"name": self._name, "namespace": LEASE_NAMESPACE}
        metadata["ownerReferences"] = self._owners(node, metadata)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self._spec(),
        }

    def _owners(self, node: Object, metadata: Object) -> list[Object]:
        """Without a node of the name that is no more: the lease would be taken for garbage."""
        held = metadata.get("ownerReferences") or []
        others = [one for one in held if (one.get("kind"), one.get("name")) != ("Node", self._name)]
        return [*others, {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": meta.uid(node)}]

    def _spec(self) -> Object:
        return {
            "holderIdentity": self._name,
            "leaseDurationSeconds": self.seconds,
            "renewTime": meta.format_micro_time(self._clock.now()),
        }


def _is_owner(node: Object, metadata: Object) -> bool:
    """Or is not there, so that it can be none."""
    uid = meta.uid(node)
    return not uid or any(one.get("uid") == uid for one in metadata.get("ownerReferences") or [])
