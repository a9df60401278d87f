"""Which volumes a pod's claims would get on a node, and whether a binding that was asked for has come about.

(kubernetes `pkg/scheduler/framework/plugins/volumebinding/binder.go`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubecore.api import meta, quantity
from kubecore.api import persistent_volumes as volumes
from kubecore.api.node_selection import matches_topology
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.scheduler.framework import PluginError

NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
NO_SPACE = "node(s) did not have enough free storage"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


class BindingFailed(PluginError):
    """A volume will not be bound as it was decided: the pod must be scheduled anew."""


@dataclass(slots=True)
class Unbound:
    """A claim that waits for its consumer, its class, and the free volumes that might do."""

    claim: Object
    storage_class: Object
    candidates: Sequence[Object]
    capacities: Sequence[Object] | None = None
    """What the class's driver says that it has room for, where it says so."""


@dataclass(slots=True)
class Choice:
    """For one node: volumes for claims, and claims whose volumes are to be provisioned there."""

    matched: list[tuple[Object, Object]] = field(default_factory=list)
    """(volume, claim) each."""
    provisioned: list[Object] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.matched or self.provisioned)


def choose(unbound: Iterable[Unbound], node: Object) -> Choice | str:
    """Why not, when the node cannot serve one of the claims. Small claims choose first, and leave what is large."""
    choice = Choice()
    taken: set[str] = set()
    for one in sorted(unbound, key=lambda one: volumes.requested(one.claim)):
        selected = meta.annotations(one.claim).get(volumes.SELECTED_NODE)
        if selected is not None and selected != meta.name(node):
            return BIND_CONFLICT
        found = None
        if selected is None:
            found = volumes.find_matching(one.claim, one.candidates, node=node, excluded=taken, delayed=True)
        if found is not None:
            taken.add(meta.name(found))
            choice.matched.append((found, one.claim))
        elif not _can_provision(one.storage_class, node):
            return BIND_CONFLICT
        elif not _has_room(one, node):
            return NO_SPACE
        else:
            choice.provisioned.append(one.claim)
    return choice


def _can_provision(storage_class: Object, node: Object) -> bool:
    provisioner = storage_class.get("provisioner") or volumes.NO_PROVISIONER
    topologies = storage_class.get("allowedTopologies")
    return provisioner != volumes.NO_PROVISIONER and matches_topology(topologies, meta.labels(node))


def _has_room(one: Unbound, node: Object) -> bool:
    """Room counts by volume: whether several fit together the driver alone knows."""
    wanted = volumes.requested(one.claim)
    if one.capacities is None or not wanted:
        return True
    return any(limit_of(room) >= wanted and _is_accessible(room, node) for room in one.capacities)


def _is_accessible(room: Object, node: Object) -> bool:
    topology = room.get("nodeTopology")
    return topology is not None and Selector.from_label_selector(topology).matches(meta.labels(node))


def limit_of(room: Object) -> int:
    """The largest volume that a CSIStorageCapacity has room for, in billionths of a byte; -1 for none."""
    limit = room.get("maximumVolumeSize") or room.get("capacity")
    return -1 if limit is None else quantity.nano(limit)


def check_matched(volume: Object | None, claim: Object | None, written: Object, node: Object) -> bool:
    """Whether the claim got the volume; False: not yet. `written` is the volume as it was reserved for the claim."""
    if volume is None or claim is None:
        missing = "pv" if volume is None else "pvc"
        raise BindingFailed(f"failed to check binding: could not find the {missing} any more")
    if _version(volume) < _version(written):
        return False
    _check_reachable(volume, node)
    if not (volume["spec"].get("claimRef") or {}).get("uid"):
        raise BindingFailed(f'ClaimRef got reset for pv "{meta.name(volume)}"')
    return volumes.is_fully_bound(claim)


def check_provisioned(claim: Object | None, volume: Object | None, written: Object, node: Object) -> bool:
    """Whether the claim has a volume; False: not yet. `written` is the claim as its node was selected."""
    if claim is None:
        raise BindingFailed(f'failed to check provisioning pvc: could not find pvc "{meta.key(written)}"')
    if _version(claim) < _version(written):
        return False
    if meta.annotations(claim).get(volumes.SELECTED_NODE) != meta.name(node):
        # a provisioner that cannot make a volume there takes the annotation away
        raise BindingFailed(f'provisioning failed for PVC "{meta.name(claim)}"')
    if claim["spec"].get("volumeName"):
        if volume is None:
            return False
        _check_reachable(volume, node)
    return volumes.is_fully_bound(claim)


def _check_reachable(volume: Object, node: Object) -> None:
    if not volumes.reachable(volume, node):
        name = meta.name(volume)
        raise BindingFailed(f'pv "{name}" node affinity doesn\'t match node "{meta.name(node)}": no matching terms')


def _version(obj: Object) -> int:
    return int(meta.resource_version(obj) or 0)
