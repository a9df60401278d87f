"""The graph of owners and dependents, kept from metadata alone, without I/O.

(kubernetes `pkg/controller/garbagecollector/graph_builder.go`.) A node is an object some watch has shown, or a virtual
one: an owner that a dependent names and no watch has shown (yet). Every change answers with the keys to look at.

Invariants: for each node and each of its owner references there is a node of that uid, whose `dependents` holds the
node; a virtual node has dependents, else it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from kubecore.client.client import Object

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class OwnerReference(msgspec.Struct, frozen=True, omit_defaults=True):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class Metadata(msgspec.Struct):
    """What garbage collection needs of an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    ownerReferences: list[OwnerReference] | None = None
    finalizers: list[str] | None = None
    deletionTimestamp: str | None = None


class _Item(msgspec.Struct):
    metadata: Metadata


_DECODER = msgspec.json.Decoder(_Item)


def decode_metadata(data: bytes) -> Metadata:
    return _DECODER.decode(data).metadata


def metadata_of(obj: Object) -> Metadata:
    """Likewise, of an object that is decoded."""
    return msgspec.convert(obj["metadata"], Metadata)


def same_ties(before: Object, now: Object) -> bool:
    """Whether two versions of an object's metadata are the same to garbage collection."""
    return (
        before.get("ownerReferences") == now.get("ownerReferences")
        and before.get("finalizers") == now.get("finalizers")
        and before.get("deletionTimestamp") == now.get("deletionTimestamp")
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an object is. `resource` is its key ("pods"); a virtual node's is "" until its kind is looked up."""

    resource: str
    namespace: str
    name: str
    uid: str


Names = Callable[[OwnerReference, Identity], bool]


def named(reference: OwnerReference, owner: Identity) -> bool:
    return reference.name == owner.name


@dataclass(eq=False, slots=True)
class Node:
    identity: Identity
    owners: tuple[OwnerReference, ...] = ()
    dependents: set[Node] = field(default_factory=set)
    virtual: bool = False
    being_deleted: bool = False
    deleting_dependents: bool = False
    waits: bool = False
    """Its foreground finalizer was there when it was last seen: it may come a second time."""

    def blocks(self, owner_uid: str) -> bool:
        """Whether this dependent holds up its owner's foreground deletion."""
        return any(ref.uid == owner_uid and ref.blockOwnerDeletion for ref in self.owners)


@dataclass(slots=True)
class Work:
    """Uids of nodes to try to delete, and of nodes whose dependents are to be let go."""

    delete: list[str] = field(default_factory=list)
    orphan: list[str] = field(default_factory=list)


class Graph:
    def __init__(self, names: Names = named) -> None:
        """`names` says whether a reference's kind and name are those of the object that has its uid."""
        self.nodes: dict[str, Node] = {}
        self._names = names

    def __len__(self) -> int:
        return len(self.nodes)

    # ------------------------------------------------------------------ what watches show
    def observe(self, resource: str, seen: Metadata) -> Work:
        """An object was added or changed."""
        work = Work()
        identity = Identity(resource, seen.namespace, seen.name, seen.uid)
        node = self.nodes.get(seen.uid)
        if node is None:
            node = self.nodes[seen.uid] = Node(identity)
        elif node.virtual:
            # the owner exists after all; dependents that look for it elsewhere or by another name look again
            node.virtual = False
            node.identity = identity
            work.delete += [one.identity.uid for one in node.dependents if not self._owns(node, one)]
        self._set_owners(node, tuple(seen.ownerReferences or ()), work)
        self._note_deletion(node, seen, work)
        return work

    def forget(self, uid: str) -> Work:
        """An object is gone, or a virtual one does not exist."""
        work = Work()
        node = self.nodes.get(uid)
        if node is None:
            return work
        for owner in self._unlink(node, node.owners):
            if owner.deleting_dependents:
                work.delete.append(owner.identity.uid)
        del self.nodes[uid]
        if node.dependents:
            # dependents still name it: what takes its place is virtual, and they are looked at
            kept = self.nodes[uid] = Node(node.identity, dependents=node.dependents, virtual=True)
            work.delete += [dependent.identity.uid for dependent in kept.dependents]
        return work

    # ------------------------------------------------------------------ inside
    def _set_owners(self, node: Node, owners: tuple[OwnerReference, ...], work: Work) -> None:
        if owners == node.owners:
            return
        old = {ref.uid: ref for ref in node.owners}
        new = {ref.uid: ref for ref in owners}
        for uid, ref in old.items():
            # an owner in foreground deletion may be waiting for just this
            unblocked = ref.blockOwnerDeletion and not (uid in new and new[uid].blockOwnerDeletion)
            if unblocked and uid in self.nodes and self.nodes[uid].deleting_dependents:
                work.delete.append(uid)
        node.owners = owners
        left = [ref for uid, ref in old.items() if uid not in new]
        self._unlink(node, left)
        if left and new:
            # it may have been the only one that lives, or the only one that could not be judged
            work.delete.append(node.identity.uid)
        for uid, ref in new.items():
            if uid in old:
                continue
            owner = self.nodes.get(uid)
            if owner is None:
                identity = Identity("", node.identity.namespace, ref.name, uid)
                owner = self.nodes[uid] = Node(identity, virtual=True)
                # whether it exists has to be asked
                work.delete.append(node.identity.uid)
            elif owner.virtual or owner.being_deleted or not self._may_own(owner, node, ref):
                work.delete.append(node.identity.uid)
            owner.dependents.add(node)

    def _owns(self, owner: Node, dependent: Node) -> bool:
        return all(self._may_own(owner, dependent, ref) for ref in dependent.owners if ref.uid == owner.identity.uid)

    def _may_own(self, owner: Node, dependent: Node, ref: OwnerReference) -> bool:
        """What has a namespace can only own what is in the same one, and by its right name only."""
        here = owner.identity.namespace in ("", dependent.identity.namespace)
        return here and self._names(ref, owner.identity)

    def _unlink(self, node: Node, owners: Iterable[OwnerReference]) -> list[Node]:
        found = []
        for ref in owners:
            owner = self.nodes.get(ref.uid)
            if owner is None:
                continue
            owner.dependents.discard(node)
            if owner.virtual and not owner.dependents:
                del self.nodes[ref.uid]
            else:
                found.append(owner)
        return found

    def _note_deletion(self, node: Node, seen: Metadata, work: Work) -> None:
        deleting = bool(seen.deletionTimestamp)
        finalizers = seen.finalizers or ()
        if deleting and not node.being_deleted:
            node.being_deleted = True
        if deleting and ORPHAN in finalizers:
            work.orphan.append(seen.uid)
        waits = deleting and FOREGROUND in finalizers
        asked_anew, node.waits = waits and not node.waits, waits
        if asked_anew:
            node.deleting_dependents = True
            work.delete += [dependent.identity.uid for dependent in node.dependents]
            work.delete.append(seen.uid)
