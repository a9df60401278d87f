"""Security contexts of pods and containers.

After kubernetes `pkg/apis/core/validation/validation.go`, validatePodSpecSecurityContext and ValidateSecurityContext.
"""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.validation.paths import validate_relative_path
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.windows import validate_windows_options

JSON = dict[str, Any]

_MAX_ID = 2**31 - 1
_SYSCTL_SEGMENT = r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_PATTERN = rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}"
_SYSCTL = re.compile(_SYSCTL_PATTERN)
_SYSCTL_RULE = f"must have at most 253 characters and match regex ^{_SYSCTL_PATTERN}$"
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_LONGEST_PROFILE = 4095
_OF_IPC = frozenset(
    [
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.msg",
    ]
)


def validate_ids(problems: Problems, context: JSON, path: str, fields: tuple[str, ...]) -> None:
    for field in fields:
        number = context.get(field)
        if number is not None and not 0 <= number <= _MAX_ID:
            problems.between(f"{path}.{field}", number, 0, _MAX_ID)


def _seccomp(problems: Problems, profile: JSON | None, path: str) -> None:
    if profile is None:
        return
    kind, localhost = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        problems.required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        problems.unsupported(f"{path}.type", kind, _PROFILES)
    if kind == "Localhost":
        if localhost is None:
            problems.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            validate_relative_path(problems, localhost, f"{path}.localhostProfile")
    elif localhost is not None:
        problems.invalid(f"{path}.localhostProfile", profile, "can only be set when seccomp type is Localhost")


def validate_app_armor(problems: Problems, profile: JSON | None, path: str) -> None:
    if profile is None:
        return
    kind, localhost = profile.get("type"), profile.get("localhostProfile")
    where = f"{path}.localhostProfile"
    if not kind:
        problems.required(f"{path}.type", "type is required when appArmorProfile is set")
    elif kind not in _PROFILES:
        problems.unsupported(f"{path}.type", kind, _PROFILES)
    elif kind == "Localhost":
        if localhost is None or localhost == "":
            problems.required(where, "must be set when AppArmor type is Localhost")
        elif localhost != localhost.strip():
            problems.invalid(where, localhost, "must not be padded with whitespace")
        if len(localhost or "") > _LONGEST_PROFILE:
            problems.too_long(where, _LONGEST_PROFILE)
    elif localhost is not None:
        problems.invalid(where, localhost, "can only be set when AppArmor type is Localhost")


def validate_container_security(problems: Problems, context: JSON | None, path: str, *, host_users: bool) -> None:
    """`host_users`: the pod has no user namespace of its own."""
    if not context:
        return
    validate_ids(problems, context, path, ("runAsUser", "runAsGroup"))
    proc_mount = context.get("procMount")
    if proc_mount is not None:
        if proc_mount not in ("Default", "Unmasked"):
            problems.unsupported(f"{path}.procMount", proc_mount, ("Default", "Unmasked"))
        elif proc_mount == "Unmasked" and host_users:
            detail = "`hostUsers` must be false to use `Unmasked`"
            problems.invalid(f"{path}.procMount", proc_mount, detail)
    _seccomp(problems, context.get("seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            problems.invalid(path, context, detail)
        added = (context.get("capabilities") or {}).get("add") or []
        if "CAP_SYS_ADMIN" in added:
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            problems.invalid(path, context, detail)
    validate_windows_options(problems, context.get("windowsOptions"), f"{path}.windowsOptions")
    validate_app_armor(problems, context.get("appArmorProfile"), f"{path}.appArmorProfile")


_POLICIES = {
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    # Without the gate SELinuxMount.
    "seLinuxChangePolicy": ("Recursive",),
}


def validate_pod_security(problems: Problems, spec: JSON, path: str) -> None:
    context = spec.get("securityContext") or {}
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        problems.invalid(f"{path}.shareProcessNamespace", True, detail)
    if not context:
        return
    validate_ids(problems, context, path, ("fsGroup", "runAsUser", "runAsGroup"))
    for index, group in enumerate(context.get("supplementalGroups") or []):
        problems.between(f"{path}.supplementalGroups[{index}]", group, 0, _MAX_ID)
    if context.get("sysctls"):
        _sysctls(problems, context["sysctls"], spec, f"{path}.sysctls")
    for field, allowed in _POLICIES.items():
        policy = context.get(field)
        if policy is not None and policy not in allowed:
            problems.unsupported(f"{path}.{field}", policy, allowed)
    _seccomp(problems, context.get("seccompProfile"), f"{path}.seccompProfile")
    validate_windows_options(problems, context.get("windowsOptions"), f"{path}.windowsOptions")
    validate_app_armor(problems, context.get("appArmorProfile"), f"{path}.appArmorProfile")


def _sysctls(problems: Problems, sysctls: list[JSON], spec: JSON, path: str) -> None:
    seen = set()
    for index, sysctl in enumerate(sysctls):
        name, where = sysctl.get("name") or "", f"{path}[{index}].name"
        if not name:
            problems.required(where)
        elif len(name) > 253 or _SYSCTL.fullmatch(name) is None:
            problems.invalid(where, name, _SYSCTL_RULE)
        elif name in seen:
            problems.duplicate(where, name)
        dotted = _with_dots(name)
        if spec.get("hostNetwork") and dotted.startswith("net."):
            problems.invalid(where, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and (dotted in _OF_IPC or dotted.startswith("fs.mqueue.")):
            problems.invalid(where, name, "may not be specified when 'hostIPC' is true")
        seen.add(name)


def _with_dots(name: str) -> str:
    """Names with slashes first (net/ipv4/conf/eth0.1) are read as sysctl(8) does."""
    first = next((char for char in name if char in "./"), ".")
    return name.translate({46: "/", 47: "."}) if first == "/" else name
