"""Security contexts of pods and containers."""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MAX_ID = 2**31 - 1
_SYSCTL_SEGMENT = r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_PATTERN = rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}"
_SYSCTL = re.compile(_SYSCTL_PATTERN)
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")


def validate_ids(problems: Problems, context: JSON, path: str, fields: tuple[str, ...]) -> None:
    for field in fields:
        problems.between(f"{path}.{field}", context.get(field), 0, _MAX_ID)


def _profile(problems: Problems, profile: JSON | None, path: str) -> None:
    """A seccomp or AppArmor profile."""
    if profile is None:
        return
    kind, localhost = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        problems.required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        problems.unsupported(f"{path}.type", kind, _PROFILES)
    if kind == "Localhost":
        if not localhost:
            detail = "must be set when seccomp type is Localhost"
            problems.required(f"{path}.localhostProfile", detail)
    elif localhost is not None:
        problems.invalid(f"{path}.localhostProfile", profile, "can only be set when type is Localhost")


def validate_container_security(problems: Problems, context: JSON | None, path: str, *, host_users: object) -> None:
    if not context:
        return
    validate_ids(problems, context, path, ("runAsUser", "runAsGroup"))
    proc_mount = context.get("procMount")
    if proc_mount is not None:
        problems.one_of(f"{path}.procMount", proc_mount, ("Default", "Unmasked"))
        if proc_mount == "Unmasked" and host_users is not False:
            detail = "`hostUsers` must be false to use `Unmasked`"
            problems.invalid(f"{path}.procMount", proc_mount, detail)
    _profile(problems, context.get("seccompProfile"), f"{path}.seccompProfile")
    _profile(problems, context.get("appArmorProfile"), f"{path}.appArmorProfile")
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            problems.invalid(path, context, detail)
        added = (context.get("capabilities") or {}).get("add") or []
        if "CAP_SYS_ADMIN" in added:
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            problems.invalid(path, context, detail)


def validate_pod_security(problems: Problems, spec: JSON, path: str) -> None:
    context = spec.get("securityContext") or {}
    validate_ids(problems, context, path, ("fsGroup", "runAsUser", "runAsGroup"))
    for index, group in enumerate(context.get("supplementalGroups") or []):
        problems.between(f"{path}.supplementalGroups[{index}]", group, 0, _MAX_ID)
    problems.one_of(f"{path}.fsGroupChangePolicy", context.get("fsGroupChangePolicy"), ("Always", "OnRootMismatch"))
    problems.one_of(f"{path}.supplementalGroupsPolicy", context.get("supplementalGroupsPolicy"), ("Merge", "Strict"))
    _profile(problems, context.get("seccompProfile"), f"{path}.seccompProfile")
    _profile(problems, context.get("appArmorProfile"), f"{path}.appArmorProfile")
    _sysctls(problems, context.get("sysctls") or [], f"{path}.sysctls")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        problems.invalid(f"{path}.shareProcessNamespace", True, detail)


def _sysctls(problems: Problems, sysctls: list[JSON], path: str) -> None:
    seen = set()
    for index, sysctl in enumerate(sysctls):
        name, where = sysctl.get("name", ""), f"{path}[{index}].name"
        if not name:
            problems.required(where)
        elif len(name) > 253 or _SYSCTL.fullmatch(name) is None:
            problems.invalid(where, name, f"must have at most 253 characters and match regex {_SYSCTL_PATTERN}")
        elif name in seen:
            problems.duplicate(where, name)
        seen.add(name)
