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
        """Renew it, or make it; `node` becomes its owner. StatusError and OSError: the next try begins afresh."""
        known, self._lease = self._lease, None
        if known is None:
            try:
                known = await self._client.get(_LEASES, self._name, LEASE_NAMESPACE)
            except StatusError as error:
                if error.code != 404:
                    raise
        if known is None:
            self._lease = await self._client.create(_LEASES, self._new(node))
        else:
            renewed = {**known, "spec": {**known.get("spec", {}), **self._spec()}}
            self._lease = await self._client.update(_LEASES, renewed)

    def _new(self, node: Object) -> Object:
        metadata: Object = {"name": self._name, "namespace": LEASE_NAMESPACE}
        if uid := meta.uid(node):
            metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": uid}]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self._spec(),
        }

    def _spec(self) -> Object:
        return {
            "holderIdentity": self._name,
            "leaseDurationSeconds": self.seconds,
            "renewTime": meta.format_micro_time(self._clock.now()),
        }
