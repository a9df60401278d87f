"""The volume claims of a StatefulSet's pods and who owns them: pure functions.

(kubernetes `pkg/controller/statefulset/stateful_set_utils.go`; the retention policy is KEP-1847.)

| whenScaled | whenDeleted | owner of a claim |
|---|---|---|
| Retain | Retain | nobody |
| Retain | Delete | the set |
| Delete | Retain | the pod, once its ordinal is out of range |
| Delete | Delete | the set, and instead the pod once its ordinal is out of range |
"""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object

Reference = Object
_SET = ("apps/v1", "StatefulSet")
_POD = ("v1", "Pod")


def claim_name(stateful_set: Object, template: Object, ordinal: int) -> str:
    return f"{meta.name(template)}-{meta.name(stateful_set)}-{ordinal}"


def claims(stateful_set: Object, ordinal: int) -> list[Object]:
    """The claims for the pod of an ordinal, as they are to be created."""
    found = []
    chosen = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
        claim = meta.deepcopy(template)
        claim.pop("status", None)
        claim["metadata"]["name"] = claim_name(stateful_set, template, ordinal)
        claim["metadata"]["namespace"] = meta.namespace(stateful_set)
        claim["metadata"]["labels"] = {**meta.labels(template), **chosen}
        found.append(claim)
    return found


def deletes(stateful_set: Object, moment: str) -> bool:
    """Whether claims go with it; `moment` is whenScaled or whenDeleted."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get(moment) == "Delete")


def is_stale(claim: Object, pod: Object) -> bool:
    """Whether the claim belongs to an earlier pod of the name, and will go with it."""
    return _names_another(claim, pod, _POD)


def has_conflicting_controller(stateful_set: Object, pod: Object, claim: Object) -> bool:
    """Whether somebody else, or a namesake of another uid, controls a claim that the policy would have deleted."""
    if not deletes(stateful_set, "whenScaled") and not deletes(stateful_set, "whenDeleted"):
        return False
    for reference in meta.owner_references(claim):
        for owner, kind in ((stateful_set, _SET), (pod, _POD)):
            if _refers(reference, owner, kind):
                if reference["uid"] != meta.uid(owner):
                    return True
                break
        else:
            if reference.get("controller"):
                return True
    return False


def owners_fit(stateful_set: Object, pod: Object, claim: Object, *, in_range: bool) -> bool:
    """Whether the claim's owners are as the policy says. What another generation of owners left is not touched."""
    if _names_another(claim, stateful_set, _SET) or _names_another(claim, pod, _POD):
        return True
    by_set, by_pod = _is_owned(claim, stateful_set), _is_owned(claim, pod)
    if has_conflicting_controller(stateful_set, pod, claim):
        return not by_set and not by_pod
    ours = (meta.uid(stateful_set), meta.uid(pod))
    if any(one["uid"] in ours and not one.get("controller") for one in meta.owner_references(claim)):
        return False
    return (by_set, by_pod) == _wanted(stateful_set, in_range=in_range)


def with_owners(stateful_set: Object, pod: Object, claim: Object, *, in_range: bool) -> Object:
    """A copy of the claim with the owners that the policy says, none of them where another controller has it."""
    copy: Object = meta.deepcopy(claim)
    references = [
        one
        for one in meta.owner_references(claim)
        if not _refers(one, stateful_set, _SET) and not _refers(one, pod, _POD)
    ]
    if not has_conflicting_controller(stateful_set, pod, claim):
        by_set, by_pod = _wanted(stateful_set, in_range=in_range)
        if by_set:
            references.append(meta.controller_reference(stateful_set, *_SET))
        if by_pod:
            references.append(meta.controller_reference(pod, *_POD))
    copy["metadata"]["ownerReferences"] = references
    return copy


def _wanted(stateful_set: Object, *, in_range: bool) -> tuple[bool, bool]:
    """Whether the set, and whether the pod, is to own a claim."""
    by_pod = deletes(stateful_set, "whenScaled") and not in_range
    return deletes(stateful_set, "whenDeleted") and not by_pod, by_pod


def _refers(reference: Reference, owner: Object, kind: tuple[str, str]) -> bool:
    """To an object of the owner's kind and name, whatever its uid."""
    return (reference["apiVersion"], reference["kind"], reference["name"]) == (*kind, meta.name(owner))


def _names_another(claim: Object, owner: Object, kind: tuple[str, str]) -> bool:
    for reference in meta.owner_references(claim):
        if _refers(reference, owner, kind):
            return bool(reference["uid"] != meta.uid(owner))
    return False


def _is_owned(claim: Object, owner: Object) -> bool:
    return any(one["uid"] == meta.uid(owner) for one in meta.owner_references(claim))
