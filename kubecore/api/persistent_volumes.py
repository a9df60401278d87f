"""Persistent volumes and their claims: which volume suits a claim, and how one is bound to the other.

Shared by the volume binder and the scheduler (k8s.io/component-helpers `storage/volume`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from kubecore.api import meta, quantity
from kubecore.api.node_selection import matches_term
from kubecore.api.selectors import Selector

Object = dict[str, Any]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
"""On a volume or a claim: its pointer to the other was set by a controller, not by its user."""
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""On a claim: where the scheduler wants a volume to be provisioned."""
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
PODS_BY_CLAIM = "claims of pods"
EXTERNAL_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"

_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


# --- Classes


def class_of(obj: Mapping[str, Any]) -> str:
    """The storage class of a volume or a claim, "" for none; an old annotation goes before the field."""
    beta = meta.annotations(obj).get(_BETA_CLASS)
    return beta if beta is not None else (obj.get("spec") or {}).get("storageClassName") or ""


def names_class(claim: Mapping[str, Any]) -> bool:
    """Whether the claim says which class it wants, be it none at all."""
    return _BETA_CLASS in meta.annotations(claim) or claim["spec"].get("storageClassName") is not None


def is_default(storage_class: Mapping[str, Any]) -> bool:
    return any(meta.annotations(storage_class).get(one) == "true" for one in _DEFAULT_CLASS)


def default_class(classes: Iterable[Object]) -> Object | None:
    """The class of claims that name none: the newest of those marked, by name among equals."""
    marked = sorted((one for one in classes if is_default(one)), key=meta.name)
    return max(marked, key=lambda one: one["metadata"].get("creationTimestamp") or "", default=None)


def waits_for_consumer(storage_class: Mapping[str, Any] | None) -> bool:
    """Whether claims of the class are bound only once a pod that uses them is scheduled."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


# --- Pods


def claims_of_pod(pod: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The name of each claim of the pod, and whether it is one of an ephemeral volume."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            yield source["claimName"], False
        elif volume.get("ephemeral"):
            yield ephemeral_claim(pod, volume), True


def has_claims(pod: Mapping[str, Any]) -> bool:
    """Most pods have none, and many ask."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim") or volume.get("ephemeral"):
            return True
    return False


def ephemeral_claim(pod: Mapping[str, Any], volume: Mapping[str, Any]) -> str:
    """The name of the claim that is made for an ephemeral volume of the pod."""
    return f"{meta.name(pod)}-{volume['name']}"


def claim_keys_of_pod(pod: Mapping[str, Any]) -> list[str]:
    """`namespace/name` of each claim of the pod; the function of index PODS_BY_CLAIM."""
    if not has_claims(pod):
        return []
    return [f"{meta.namespace(pod)}/{name}" for name, _ in claims_of_pod(pod)]


def is_terminated(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


# --- Sizes, modes, nodes


def storage(amounts: Mapping[str, Any] | None) -> int:
    """The entry `storage` of a resource list, in billionths of a byte; 0 without one."""
    amount = (amounts or {}).get("storage")
    return quantity.nano(amount) if amount is not None else 0


def requested(claim: Mapping[str, Any]) -> int:
    return storage((claim["spec"].get("resources") or {}).get("requests"))


def modes_differ(claim: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
    """Whether one is a file system and the other a block device."""
    wanted, has = (one["spec"].get("volumeMode") or "Filesystem" for one in (claim, volume))
    return bool(wanted != has)


def allows_access(claim: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def reachable(volume: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether the volume's node affinity allows the node."""
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
    labels = meta.labels(node)
    return not required or any(matches_term(term, name=meta.name(node), labels=labels) for term in required)


# --- Binding


def is_bound_to(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """Whether the volume is reserved for the claim: by name, and by uid where it says one."""
    reference = volume["spec"].get("claimRef")
    if not reference or (reference.get("namespace"), reference.get("name")) != (
        meta.namespace(claim),
        meta.name(claim),
    ):
        return False
    return not reference.get("uid") or reference["uid"] == meta.uid(claim)


def is_fully_bound(claim: Mapping[str, Any]) -> bool:
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in meta.annotations(claim)


def bound_to_claim(volume: Object, claim: Object) -> Object | None:
    """A copy of the volume that points to the claim; None when it does so already."""
    reference = volume["spec"].get("claimRef") or {}
    whole = ("name", "namespace", "uid")
    points = all(reference.get(key) == claim["metadata"].get(key) for key in whole)
    marks = not is_bound_to(volume, claim) and BOUND_BY_CONTROLLER not in meta.annotations(volume)
    if points and not marks:
        return None
    copy: Object = meta.deepcopy(volume)
    if not points:
        copy["spec"]["claimRef"] = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            **{key: claim["metadata"][key] for key in ("namespace", "name", "uid", "resourceVersion")},
        }
    if marks:
        annotate(copy, {BOUND_BY_CONTROLLER: "yes"})
    return copy


def annotate(obj: Object, annotations: Mapping[str, str]) -> None:
    obj["metadata"]["annotations"] = {**meta.annotations(obj), **annotations}


def mismatch(volume: Object, claim: Object) -> str:
    """Why a volume that a claim asks for by name does not suit it; empty when it does."""
    if meta.is_deleting(volume):
        return f'the volume is marked for deletion "{meta.name(volume)}"'
    if storage(volume["spec"].get("capacity")) < requested(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes_class(volume) != _attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if modes_differ(claim, volume):
        return "incompatible volumeMode"
    return "" if allows_access(claim, volume) else "incompatible accessMode"


def find_matching(
    claim: Object,
    volumes: Iterable[Object],
    *,
    node: Object | None = None,
    excluded: Collection[str] = (),
    delayed: bool = False,
) -> Object | None:
    """The volume that is reserved for the claim, else the smallest that suits it.

    The scheduler names the `node` that must reach it, and volumes that are taken already (`excluded`). The binder
    leaves claims that wait for a consumer to it (`delayed`): of their volumes it sees only those reserved.
    """
    best: tuple[int, Object] | None = None
    label_selector = claim["spec"].get("selector")
    selector = Selector.everything() if label_selector is None else Selector.from_label_selector(label_selector)
    for volume in volumes:
        if meta.name(volume) in excluded or not _may_hold(volume, claim):
            continue
        near = node is None or reachable(volume, node)
        if is_bound_to(volume, claim):
            return volume if near else None
        size = storage(volume["spec"].get("capacity"))
        if (
            near
            and not (node is None and delayed)
            and (volume.get("status") or {}).get("phase") == "Available"
            and selector.matches(meta.labels(volume))
            and class_of(volume) == class_of(claim)
            and (node is None or allows_access(claim, volume))
            and (best is None or size < best[0])
        ):
            best = (size, volume)
    return best[1] if best else None


def _may_hold(volume: Object, claim: Object) -> bool:
    """What also holds for a volume that is reserved for the claim."""
    return (
        (not volume["spec"].get("claimRef") or is_bound_to(volume, claim))
        and storage(volume["spec"].get("capacity")) >= requested(claim)
        and not modes_differ(claim, volume)
        and _attributes_class(volume) == _attributes_class(claim)
        and not meta.is_deleting(volume)
    )


def _attributes_class(obj: Object) -> str:
    return obj["spec"].get("volumeAttributesClassName") or ""
