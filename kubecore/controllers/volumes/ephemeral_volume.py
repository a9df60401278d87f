"""Makes a claim for each ephemeral volume of a pod; it goes with the pod, whose own it is.

(kubernetes `pkg/controller/volume/ephemeral`.)
"""

from __future__ import annotations

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.volumes.writes import CLAIMS
from kubecore.metrics import Counter, Named

_OF_CLAIM = "ephemeral-claims"
_TOLD = "[ALPHA] Number of PersistentVolumeClaim creation requests"


class ForeignClaim(Exception):
    """A claim of the name is there, and is not the pod's."""


class EphemeralVolumeController(Controller):
    """Keys are pods."""

    name = "ephemeral-volume-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._pods = self.informer("pods")
        self._claims = self.informer(CLAIMS)
        self._made = Counter(Named("ephemeral_volume_controller_create_total", _TOLD))
        self._failed = Counter(Named("ephemeral_volume_controller_create_failures_total", _TOLD))
        self.metrics = (self._made, self._failed)
        self._recorder = context.recorder("ephemeral_volume")
        self._pods.add_index(_OF_CLAIM, _ephemeral_claims, of=Of.SPEC)
        self._pods.add_handler(self._pod_seen)
        self._claims.add_handler(on_delete=self._claim_gone)

    def _pod_seen(self, pod: Object) -> None:
        if not meta.is_deleting(pod) and _ephemeral_claims(pod):
            self.enqueue(pod)

    def _claim_gone(self, claim: Object) -> None:
        for pod in self._pods.by_index(_OF_CLAIM, meta.key(claim)):
            self._pod_seen(pod)

    async def sync(self, key: str) -> float | None:
        pod = self._pods.get(key)
        if pod is None or meta.is_deleting(pod):
            return None
        for volume in pod["spec"].get("volumes") or ():
            if volume.get("ephemeral"):
                try:
                    await self._make(pod, volume)
                except (StatusError, ForeignClaim) as error:
                    told = f"ephemeral volume {volume['name']}: {error}"
                    self._recorder.event(pod, "Warning", "FailedBinding", told)
                    raise
        return None

    async def _make(self, pod: Object, volume: Object) -> None:
        name = volumes.ephemeral_claim(pod, volume)
        claim = self._claims.get(meta.make_key(meta.namespace(pod), name))
        if claim is not None:
            if not any(one["uid"] == meta.uid(pod) for one in meta.owner_references(claim)):
                raise ForeignClaim(f"PVC {meta.key(claim)} was not created for pod {meta.key(pod)} (pod is not owner)")
            return
        template = volume["ephemeral"]["volumeClaimTemplate"]
        metadata = {
            "name": name,
            "namespace": meta.namespace(pod),
            "ownerReferences": [meta.controller_reference(pod, "v1", "Pod")],
            "annotations": meta.annotations(template),
            "labels": meta.labels(template),
        }
        self._made.add()
        try:
            await self.client.create(CLAIMS, {"metadata": metadata, "spec": template["spec"]})
        except StatusError:
            self._failed.add()
            raise


def _ephemeral_claims(pod: Object) -> list[str]:
    if not volumes.has_claims(pod):
        return []
    return [f"{meta.namespace(pod)}/{name}" for name, ephemeral in volumes.claims_of_pod(pod) if ephemeral]
