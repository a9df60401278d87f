"""How many replicas each ReplicaSet of a Deployment should have, which of them is new, which revision: pure functions.

(kubernetes `pkg/controller/deployment/util/deployment_util.go`; "new" is the ReplicaSet of the present template.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.int_or_percent import scaled

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    ROLLBACK_TO,
}
_HISTORY_LENGTH = 2000
_LONGEST_NAME = 253


def replicas(obj: Object) -> int:
    """spec.replicas of a Deployment or ReplicaSet."""
    count = obj["spec"].get("replicas")
    return 1 if count is None else int(count)


def status_count(obj: Object, name: str) -> int:
    return int((obj.get("status") or {}).get(name) or 0)


def total(sets: Iterable[Object]) -> int:
    return sum(replicas(one) for one in sets)


def total_of(sets: Iterable[Object], name: str) -> int:
    return sum(status_count(one, name) for one in sets)


def active(sets: Iterable[Object]) -> list[Object]:
    return [one for one in sets if replicas(one) > 0]


def created(obj: Object) -> tuple[str, str]:
    return (obj["metadata"].get("creationTimestamp") or "", meta.name(obj))


# ---------------------------------------------------------------------- templates and revisions
def comparable_template(template: Object) -> Object:
    """The template without the label that tells ReplicaSets apart."""
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def find_new(deployment: Object, sets: Iterable[Object]) -> Object | None:
    """The oldest ReplicaSet made from the deployment's present template."""
    wanted = comparable_template(deployment["spec"]["template"])
    for one in sorted(sets, key=created):
        if comparable_template(one["spec"]["template"]) == wanted:
            return one
    return None


def set_name(deployment: Object, suffix: str) -> str:
    """Of a ReplicaSet: a deployment's name may be as long as any, so that it is cut for the suffix."""
    return f"{meta.name(deployment)[: _LONGEST_NAME - len(suffix) - 1]}-{suffix}"


def revision(obj: Object) -> int:
    text = meta.annotations(obj).get(REVISION) or "0"
    return int(text) if text.isdigit() else 0


def new_set_annotations(deployment: Object, replica_set: Object, new_revision: int, *, exists: bool) -> bool:
    """Bring the annotations of the new ReplicaSet (changed in place) up to date; whether there was anything to do."""
    annotations = replica_set["metadata"].setdefault("annotations", {})
    before = dict(annotations)
    annotations.update({k: v for k, v in meta.annotations(deployment).items() if k not in NOT_COPIED})
    old = annotations.get(REVISION)
    if revision(replica_set) < new_revision:
        annotations[REVISION] = str(new_revision)
        if old is not None:
            annotations[REVISION_HISTORY] = _history(annotations.get(REVISION_HISTORY), old)
    if not exists:
        annotations.update(replica_annotations(deployment))
    return bool(annotations != before)


def _history(history: str | None, old: str) -> str:
    """Revisions this ReplicaSet had before a roll-back made it the newest again, cut at its old end."""
    entries = [*(history.split(",") if history else ()), old]
    while len(entries) > 1 and len(",".join(entries)) > _HISTORY_LENGTH:
        del entries[0]
    return ",".join(entries)


def replica_annotations(deployment: Object) -> dict[str, str]:
    """What a later scaling needs to know: how many replicas there were and could have been."""
    count = replicas(deployment)
    return {DESIRED: str(count), MAXIMUM: str(count + limits(deployment).surge)}


def _annotated(replica_set: Object, name: str) -> int | None:
    text = meta.annotations(replica_set).get(name)
    return int(text) if text is not None and text.isdigit() else None


def is_scaling(deployment: Object, sets: Iterable[Object]) -> bool:
    """Whether the deployment was scaled since its active ReplicaSets were last sized."""
    return any(_annotated(one, DESIRED) not in (None, replicas(deployment)) for one in active(sets))


# ---------------------------------------------------------------------- limits of a rolling update
@dataclass(frozen=True, slots=True)
class Limits:
    surge: int
    unavailable: int


def is_rolling(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def limits(deployment: Object) -> Limits:
    """maxSurge rounded up and maxUnavailable rounded down, as pods; never both 0, or nothing could move."""
    if not is_rolling(deployment):
        return Limits(0, 0)
    count = replicas(deployment)
    given = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = scaled(given.get("maxSurge", "25%"), count, up=True)
    unavailable = scaled(given.get("maxUnavailable", "25%"), count, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(surge, min(unavailable, count))


# ---------------------------------------------------------------------- sizes
def new_set_size(deployment: Object, sets: Iterable[Object], new: Object) -> int:
    """How far the new ReplicaSet may grow now."""
    wanted = replicas(deployment)
    if not is_rolling(deployment):
        return wanted
    room = wanted + limits(deployment).surge - total(sets)
    if room <= 0:
        return replicas(new)
    return replicas(new) + min(room, wanted - replicas(new))


def sole_active(new: Object | None, old: list[Object]) -> Object | None:
    """The ReplicaSet that alone carries the deployment, which simple scaling may act on; None during a roll-out."""
    sets = [*old, *([new] if new is not None else [])]
    if not sets:
        return None
    carrying = active(sets)
    if not carrying:
        return new if new is not None else max(old, key=created)
    return carrying[0] if len(carrying) == 1 else None


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """Whether the new ReplicaSet has all the replicas, and they are available."""
    if new is None:
        return False
    wanted = replicas(deployment)
    sized = _annotated(new, DESIRED) == wanted
    return sized and replicas(new) == wanted and status_count(new, "availableReplicas") == wanted


def proportional_sizes(deployment: Object, sets: list[Object]) -> dict[str, int]:
    """Sizes by name after a deployment was scaled during a roll-out: each active ReplicaSet gets its share.

    What rounding leaves over goes to the largest; on the way up newer ones go first, on the way down older ones.
    """
    wanted = replicas(deployment)
    allowed = wanted + limits(deployment).surge if wanted > 0 else 0
    to_add = allowed - total(sets)
    ordered = sorted(sets, key=created, reverse=to_add > 0)
    ordered.sort(key=replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for one in ordered:
        share = _share(deployment, one, to_add, added)
        sizes[meta.name(one)] = replicas(one) + share
        added += share
    if ordered and to_add:
        first = meta.name(ordered[0])
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(deployment: Object, replica_set: Object, to_add: int, added: int) -> int:
    if to_add in (0, added) or replicas(replica_set) == 0:
        return 0
    fraction = _fraction(deployment, replica_set)
    return min(fraction, to_add - added) if to_add > 0 else max(fraction, to_add - added)


def _fraction(deployment: Object, replica_set: Object) -> int:
    """By how much the ReplicaSet changes if it keeps its share of the deployment's maximum."""
    size = replicas(replica_set)
    if replicas(deployment) == 0:
        return -size
    before = _annotated(replica_set, MAXIMUM) or status_count(deployment, "replicas")
    if before == 0:
        return 0
    scaled = size * (replicas(deployment) + limits(deployment).surge) / before
    return int(scaled + 0.5) - size


def old_set_sizes(deployment: Object, old: list[Object], new: Object) -> list[tuple[str, int]]:
    """By name, which sizes old ReplicaSets may get now, one after the other: unhealthy replicas go first, as a step of
    their own, oldest sets first."""
    sets = [*old, new]
    minimum = replicas(deployment) - limits(deployment).unavailable
    new_unavailable = replicas(new) - status_count(new, "availableReplicas")
    budget = total(sets) - minimum - new_unavailable
    sizes: dict[str, int] = {meta.name(one): replicas(one) for one in old}
    if budget <= 0:
        return []
    steps: list[tuple[str, int]] = []
    for one in sorted(old, key=created):
        name = meta.name(one)
        drop = min(budget, sizes[name] - _available(one))
        if drop > 0:
            sizes[name] -= drop
            budget -= drop
            steps.append((name, sizes[name]))
    spare = sum(map(_available, sets)) - minimum
    for one in sorted(old, key=created):
        name = meta.name(one)
        drop = min(max(spare, 0), sizes[name])
        if drop > 0:
            sizes[name] -= drop
            spare -= drop
            steps.append((name, sizes[name]))
    return steps


def _available(replica_set: Object) -> int:
    """Pods that are there to stay: one that was made smaller just now has told of more than it keeps."""
    return min(status_count(replica_set, "availableReplicas"), replicas(replica_set))


def expendable(deployment: Object, old: list[Object]) -> list[Object]:
    """Old ReplicaSets beyond revisionHistoryLimit that are empty, the oldest revisions first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None:
        limit = 10
    alive = sorted((one for one in old if not meta.is_deleting(one)), key=lambda one: (revision(one), created(one)))
    surplus = alive[: max(0, len(alive) - limit)]
    return [
        one
        for one in surplus
        if replicas(one) == 0
        and status_count(one, "replicas") == 0
        and status_count(one, "observedGeneration") >= meta.generation(one)
    ]
