"""The checks that level restricted adds to those of baseline, or has instead of them.

After upstream k8s.io/pod-security-admission `policy/check_*.go`.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.admission.pod_security import baseline
from kubecore.apiserver.admission.pod_security.findings import (
    Check,
    Finding,
    containers,
    context,
    for_windows,
    in_user_namespace,
    listed,
    named,
    setters,
)

JSON = dict[str, Any]


def unless_windows(check: Check) -> Check:
    """From 1.25 on: a pod that says it is for Windows cannot set such fields at all."""
    return lambda metadata, spec: None if for_windows(spec) else check(metadata, spec)


def unless_in_user_namespace(check: Check) -> Check:
    """From 1.35 on: who is root there is not root on the host (KEP-127)."""
    return lambda metadata, spec: None if in_user_namespace(spec) else check(metadata, spec)


def privilege_escalation(metadata: JSON, spec: JSON) -> Finding | None:
    bad = [one["name"] for one in containers(spec) if context(one).get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    told = f"{named('container', bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", told)


def capabilities(metadata: JSON, spec: JSON) -> Finding | None:
    keeping: list[str] = []
    adding: list[str] = []
    added: set[str] = set()
    for one in containers(spec):
        given = context(one).get("capabilities") or {}
        if "ALL" not in (given.get("drop") or ()):
            keeping.append(one["name"])
        if beyond := {name for name in given.get("add") or () if name != "NET_BIND_SERVICE"}:
            adding.append(one["name"])
            added |= beyond
    told = []
    if keeping:
        told.append(f'{named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        names = listed(sorted(added))
        told.append(f"{named('container', adding)} must not include {names} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(told)) if told else None


_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
# Those that have a name in messages.
_OTHER_VOLUMES = (
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
)


def volumes(metadata: JSON, spec: JSON) -> Finding | None:
    bad, kinds = [], set()
    for one in spec.get("volumes") or ():
        given = {field for field, value in one.items() if value is not None}
        if not given & _VOLUMES:
            bad.append(one["name"])
            kinds.add(next((kind for kind in _OTHER_VOLUMES if kind in given), "unknown"))
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    told = f"{named('volume', bad)} {uses} {named('restricted volume type', sorted(kinds))}"
    return Finding("restricted volume types", told)


def run_as_non_root(metadata: JSON, spec: JSON) -> Finding | None:
    who = setters(spec, lambda given: given.get("runAsNonRoot") is False)
    if who:
        told = f"{' and '.join(who)} must not set securityContext.runAsNonRoot=false"
        return Finding("runAsNonRoot != true", told)
    if context(spec).get("runAsNonRoot"):
        return None
    silent = [one["name"] for one in containers(spec) if context(one).get("runAsNonRoot") is None]
    if not silent:
        return None
    told = f"pod or {named('container', silent)} must set securityContext.runAsNonRoot=true"
    return Finding("runAsNonRoot != true", told)


def run_as_user(metadata: JSON, spec: JSON) -> Finding | None:
    who = setters(spec, lambda given: given.get("runAsUser") == 0)
    return Finding("runAsUser=0", f"{' and '.join(who)} must not set runAsUser=0") if who else None


def seccomp_profile(metadata: JSON, spec: JSON) -> Finding | None:
    """As baseline has it, and somebody must say something."""
    if (found := baseline.seccomp_profile(metadata, spec)) is not None:
        return found
    if context(spec).get("seccompProfile") is not None:
        return None
    silent = [one["name"] for one in containers(spec) if context(one).get("seccompProfile") is None]
    if not silent:
        return None
    told = f'pod or {named("container", silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or '
    return Finding("seccompProfile", f'{told}"Localhost"')
