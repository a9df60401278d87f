"""Names, ordinals, pods and status of a StatefulSet: pure functions.

(kubernetes `pkg/controller/statefulset/stateful_set_utils.go`.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import pods
from kubecore.controllers.int_or_percent import scaled
from kubecore.controllers.pod_control import pod_from_template
from kubecore.controllers.workloads.revisions import HASH_LABEL, template_of
from kubecore.controllers.workloads.statefulset_claims import claim_name

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
_POD_NAME = re.compile(r"(.*)-([0-9]+)", re.DOTALL)
_MAX_ORDINAL = 2**31 - 1


# ---------------------------------------------------------------------- ordinals
def parent_and_ordinal(pod: Object) -> tuple[str, int]:
    """What the pod's name says; ("", -1) for a name that no StatefulSet gives."""
    found = _POD_NAME.fullmatch(meta.name(pod))
    if found is None:
        return "", -1
    number = int(found[2])
    return found[1], (number if number <= _MAX_ORDINAL else -1)


def ordinal(pod: Object) -> int:
    return parent_and_ordinal(pod)[1]


def is_member(stateful_set: Object, pod: Object) -> bool:
    return parent_and_ordinal(pod)[0] == meta.name(stateful_set)


def start_ordinal(stateful_set: Object) -> int:
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def replicas(stateful_set: Object) -> int:
    count = stateful_set["spec"].get("replicas")
    return 1 if count is None else int(count)


def is_in_range(stateful_set: Object, pod: Object) -> bool:
    start = start_ordinal(stateful_set)
    return start <= ordinal(pod) < start + replicas(stateful_set)


# ---------------------------------------------------------------------- strategy
def is_parallel(stateful_set: Object) -> bool:
    return bool(stateful_set["spec"].get("podManagementPolicy") == "Parallel")


def is_rolling(stateful_set: Object) -> bool:
    return bool((stateful_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def partition(stateful_set: Object) -> int:
    """How many pods, from the first ordinal on, an update leaves as they are."""
    return int(_rolling(stateful_set).get("partition") or 0)


def max_unavailable(stateful_set: Object) -> int:
    """How many pods may be unavailable during an update: 1 unless said, a share rounded down, at least 1."""
    value = _rolling(stateful_set).get("maxUnavailable")
    return max(1, scaled(1 if value is None else value, replicas(stateful_set), up=False))


def _rolling(stateful_set: Object) -> Object:
    return (stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}


# ---------------------------------------------------------------------- pods
def revision_of(pod: Object) -> str:
    return meta.labels(pod).get(HASH_LABEL, "")


def is_created(pod: Object) -> bool:
    """Whether the API server has it; one that is only planned has no phase."""
    return pods.phase(pod) != ""


def is_running_and_ready(pod: Object) -> bool:
    return pods.phase(pod) == "Running" and pods.is_ready(pod)


def is_available(stateful_set: Object, pod: Object, now: datetime) -> bool:
    return pods.available_in(pod, stateful_set["spec"].get("minReadySeconds") or 0, now) == 0


def is_unavailable(stateful_set: Object, pod: Object, now: datetime) -> bool:
    return meta.is_deleting(pod) or not is_available(stateful_set, pod, now)


def new_pod(stateful_set: Object, current: Object, update: Object, number: int) -> Object:
    """The pod of an ordinal: below the partition from the current revision, else from the one it is updated to."""
    start = start_ordinal(stateful_set)
    if (stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") is not None:
        kept = partition(stateful_set)
    else:
        kept = int((stateful_set.get("status") or {}).get("currentReplicas") or 0) if is_rolling(stateful_set) else 0
    revision = current if number < start + kept else update
    reference = meta.controller_reference(stateful_set, "apps/v1", "StatefulSet")
    pod = pod_from_template(stateful_set, template_of(revision), reference)
    pod["metadata"]["name"] = f"{meta.name(stateful_set)}-{number}"
    identify(stateful_set, pod)
    pod["metadata"]["labels"][HASH_LABEL] = meta.name(revision)
    pod["spec"]["hostname"] = meta.name(pod)
    if stateful_set["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = stateful_set["spec"]["serviceName"]
    attach_claims(stateful_set, pod)
    return pod


def has_identity(stateful_set: Object, pod: Object) -> bool:
    parent, number = parent_and_ordinal(pod)
    name = f"{meta.name(stateful_set)}-{number}"
    return (
        number >= 0
        and parent == meta.name(stateful_set)
        and meta.name(pod) == name
        and meta.labels(pod).get(POD_NAME_LABEL) == name
    )


def identify(stateful_set: Object, pod: Object) -> None:
    """Write into `pod`, by its name's ordinal, the labels that tell pods of the set apart."""
    labels = meta.metadata(pod).setdefault("labels", {})
    labels[POD_NAME_LABEL] = meta.name(pod)
    labels[POD_INDEX_LABEL] = str(ordinal(pod))


def has_claims(stateful_set: Object, pod: Object) -> bool:
    """Whether the pod's volumes are the claims made for its ordinal."""
    volumes = {one["name"]: one.get("persistentVolumeClaim") or {} for one in pod["spec"].get("volumes") or ()}
    return all(
        volumes.get(name, {}).get("claimName") == claim
        for name, claim in _claims_by_volume(stateful_set, ordinal(pod)).items()
    )


def attach_claims(stateful_set: Object, pod: Object) -> None:
    """Put the claims of the pod's ordinal in the place of volumes of their names."""
    claims = _claims_by_volume(stateful_set, ordinal(pod))
    if not claims:
        return
    others = [one for one in pod["spec"].get("volumes") or () if one["name"] not in claims]
    own = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()]
    pod["spec"]["volumes"] = own + others


def _claims_by_volume(stateful_set: Object, number: int) -> dict[str, str]:
    templates = stateful_set["spec"].get("volumeClaimTemplates") or ()
    return {meta.name(one): claim_name(stateful_set, one, number) for one in templates}


# ---------------------------------------------------------------------- status
def status(
    stateful_set: Object,
    found: Iterable[Object],
    *,
    current: str,
    update: str,
    collisions: int,
    leaving: int,
    now: datetime,
) -> dict[str, Any]:
    """The status by the pods there are; `leaving` of the current revision's were deleted since they were looked at."""
    counts = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"), 0)
    for pod in found:
        counts["replicas"] += is_created(pod)
        ready = is_running_and_ready(pod)
        counts["readyReplicas"] += ready
        counts["availableReplicas"] += ready and is_available(stateful_set, pod, now)
        if is_created(pod) and not meta.is_deleting(pod):
            counts["currentReplicas"] += revision_of(pod) == current
            counts["updatedReplicas"] += revision_of(pod) == update
    counts["currentReplicas"] = max(0, counts["currentReplicas"] - leaving)
    wanted = replicas(stateful_set)
    if (
        is_rolling(stateful_set)
        and counts["updatedReplicas"] == counts["readyReplicas"] == counts["replicas"] == wanted
    ):
        counts["currentReplicas"], current = counts["updatedReplicas"], update
    always = ("replicas", "availableReplicas")
    return {
        **{name: count for name, count in counts.items() if count or name in always},
        "observedGeneration": meta.generation(stateful_set),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": collisions,
    }
