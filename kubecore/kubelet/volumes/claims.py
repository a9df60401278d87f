"""Which persistent volume a pod's claim stands for.

(kubernetes `pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubecore.api import meta
from kubecore.api.persistent_volumes import ephemeral_claim
from kubecore.kubelet.pods.environment import Lookup

Object = dict[str, Any]

CLAIMED = ("persistentVolumeClaim", "ephemeral")
_PROTECTION = "kubernetes.io/pvc-protection"


class ClaimError(Exception):
    """A claim does not lead to a volume (yet); the text follows `failed to process volumes=[NAME]: `."""


@dataclass(frozen=True, slots=True)
class ClaimedVolume:
    volume: Object
    read_only: bool

    @property
    def kind(self) -> str:
        """The name of its source in the volume's spec: hostPath, local, nfs and so on."""
        others = set(self.volume["spec"]) - _NO_SOURCES
        return min(others, default="")

    @property
    def source(self) -> Object:
        found: Object = self.volume["spec"].get(self.kind) or {}
        return found


_NO_SOURCES = {
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
}


def claim_name(pod: Object, declared: Object) -> str:
    """The claim that a volume of the pod is of, "" for other volumes."""
    if declared.get("persistentVolumeClaim"):
        return str(declared["persistentVolumeClaim"]["claimName"])
    return ephemeral_claim(pod, declared) if declared.get("ephemeral") else ""


def claimed_volume(pod: Object, declared: Object, lookup: Lookup) -> ClaimedVolume:
    """Raises ClaimError."""
    namespace, name = meta.namespace(pod), claim_name(pod, declared)
    prefix = f"error processing PVC {namespace}/{name}"
    claim = lookup("persistentvolumeclaims", namespace, name)
    if reason := _claim_problem(claim, name):
        raise ClaimError(f"{prefix}: {reason}")
    assert claim is not None
    if declared.get("ephemeral") and not any(one["uid"] == meta.uid(pod) for one in meta.owner_references(claim)):
        key = f"{namespace}/{name}"
        raise ClaimError(f"PVC {key} was not created for pod {meta.key(pod)} (pod is not owner)")
    volume = lookup("persistentvolumes", "", claim["spec"]["volumeName"])
    if reason := _volume_problem(volume, claim):
        raise ClaimError(f"{prefix}: {reason}")
    assert volume is not None
    mode = volume["spec"].get("volumeMode") or "Filesystem"
    if mode != "Filesystem":
        told = f"volume {declared['name']} has volumeMode {mode}"
        mounted = any(
            mount["name"] == declared["name"]
            for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"])
            for mount in container.get("volumeMounts") or ()
        )
        raise ClaimError(f"{told}, {'but is specified in volumeMounts' if mounted else 'which no runtime here has'}")
    source = declared.get("persistentVolumeClaim") or {}
    return ClaimedVolume(volume, bool(source.get("readOnly")))


def _claim_problem(claim: Object | None, name: str) -> str:
    if claim is None:
        return f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
    if meta.is_deleting(claim) and _PROTECTION not in meta.finalizers(claim):
        return "PVC is being deleted"
    if (claim.get("status") or {}).get("phase") != "Bound":
        return "PVC is not bound"
    return "" if claim["spec"].get("volumeName") else "PVC has empty pvc.Spec.VolumeName"


def _volume_problem(volume: Object | None, claim: Object) -> str:
    name = claim["spec"]["volumeName"]
    if volume is None:
        return f'failed to fetch PV {name} from API server: persistentvolumes "{name}" not found'
    reference = volume["spec"].get("claimRef")
    if not reference:
        return f"found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
    if reference.get("uid") != meta.uid(claim):
        return (
            f"found PV object {name} but its pv.Spec.ClaimRef.UID {reference.get('uid', '')} does not point to "
            f"claim.UID {meta.uid(claim)}"
        )
    return ""
