"""Which checks a level has as of a version, and what they say of a pod.

After upstream k8s.io/pod-security-admission `policy/registry.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from kubecore.apiserver.admission.pod_security import baseline, restricted
from kubecore.apiserver.admission.pod_security.findings import Check, Finding
from kubecore.apiserver.admission.pod_security.policy import BASELINE, PRIVILEGED, Standard
from kubecore.apiserver.admission.pod_security.restricted import unless_in_user_namespace, unless_windows

JSON = dict[str, Any]

# By name, in whose order they are told; each with the versions from which on it is what it is, ascending.
_BASELINE: dict[str, tuple[tuple[int, Check], ...]] = {
    "appArmorProfile": ((0, baseline.apparmor_profile),),
    "capabilities_baseline": ((0, baseline.capabilities),),
    "hostNamespaces": ((0, baseline.host_namespaces),),
    "hostPathVolumes": ((0, baseline.host_path_volumes),),
    "hostPorts": ((0, baseline.host_ports),),
    "hostProbesAndHostLifecycle": ((34, baseline.probes_of_other_hosts),),
    "privileged": ((0, baseline.privileged),),
    "procMount": ((0, baseline.proc_mount_1_0), (35, baseline.proc_mount_1_35)),
    "seLinuxOptions": ((0, baseline.selinux_options_1_0), (31, baseline.selinux_options_1_31)),
    "seccompProfile_baseline": ((0, baseline.seccomp_annotations), (19, baseline.seccomp_profile)),
    "sysctls": (
        (0, baseline.sysctls_1_0),
        (27, baseline.sysctls_1_27),
        (29, baseline.sysctls_1_29),
        (32, baseline.sysctls_1_32),
    ),
    "windowsHostProcess": ((0, baseline.windows_host_process),),
}
_RESTRICTED: dict[str, tuple[tuple[int, Check], ...]] = {
    "allowPrivilegeEscalation": (
        (8, restricted.privilege_escalation),
        (25, unless_windows(restricted.privilege_escalation)),
    ),
    "capabilities_restricted": ((22, restricted.capabilities), (25, unless_windows(restricted.capabilities))),
    "procMount_restricted": ((35, baseline.proc_mount_1_0),),
    "restrictedVolumes": ((0, restricted.volumes),),
    "runAsNonRoot": ((0, restricted.run_as_non_root), (35, unless_in_user_namespace(restricted.run_as_non_root))),
    "runAsUser": ((23, restricted.run_as_user), (35, unless_in_user_namespace(restricted.run_as_user))),
    "seccompProfile_restricted": ((19, restricted.seccomp_profile), (25, unless_windows(restricted.seccomp_profile))),
}
# Which check of baseline one of restricted is there instead of.
_INSTEAD_OF = {
    "capabilities_restricted": "capabilities_baseline",
    "procMount_restricted": "procMount",
    "restrictedVolumes": "hostPathVolumes",
    "seccompProfile_restricted": "seccompProfile_baseline",
}
_NEWEST = max(since for checks in (*_BASELINE.values(), *_RESTRICTED.values()) for since, _ in checks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all checks together say of a pod."""

    findings: tuple[Finding, ...] = ()

    @property
    def allowed(self) -> bool:
        return not self.findings

    @property
    def reason(self) -> str:
        return ", ".join(finding.reason for finding in self.findings)

    @property
    def detail(self) -> str:
        return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in self.findings)


_NOTHING = Verdict()


def judge(standard: Standard, metadata: JSON, spec: JSON) -> Verdict:
    """Of a pod, or of a template's pod."""
    if standard.level == PRIVILEGED:
        return _NOTHING
    checks = _checks(standard.level, min(standard.version, _NEWEST))
    return Verdict(tuple(found for check in checks if (found := check(metadata, spec)) is not None))


@cache
def _checks(level: str, version: int) -> tuple[Check, ...]:
    base = _as_of(_BASELINE, version)
    if level == BASELINE:
        return tuple(base.values())
    more = _as_of(_RESTRICTED, version)
    for name in more:
        base.pop(_INSTEAD_OF.get(name, ""), None)
    return (*base.values(), *more.values())


def _as_of(table: dict[str, tuple[tuple[int, Check], ...]], version: int) -> dict[str, Check]:
    found = {}
    for name, checks in table.items():
        for since, check in checks:
            if since <= version:
                found[name] = check
    return found
