"""The checks of level baseline, each as of the versions of Kubernetes in which it changed.

After upstream k8s.io/pod-security-admission `policy/check_*.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubecore.api import meta
from kubecore.api.quoting import quoted
from kubecore.apiserver.admission.pod_security.findings import (
    Check,
    Finding,
    containers,
    context,
    in_user_namespace,
    listed,
    named,
    plural,
    setters,
)

JSON = dict[str, Any]

# --- privileges


def privileged(metadata: JSON, spec: JSON) -> Finding | None:
    bad = [one["name"] for one in containers(spec) if context(one).get("privileged")]
    if not bad:
        return None
    return Finding("privileged", f"{named('container', bad)} must not set securityContext.privileged=true")


_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)


def capabilities(metadata: JSON, spec: JSON) -> Finding | None:
    bad, found = [], set()
    for one in containers(spec):
        added = (context(one).get("capabilities") or {}).get("add") or ()
        if beyond := {name for name in added if name not in _CAPABILITIES}:
            bad.append(one["name"])
            found |= beyond
    if not bad:
        return None
    told = f"{named('container', bad)} must not include {listed(sorted(found))} in securityContext.capabilities.add"
    return Finding("non-default capabilities", told)


def windows_host_process(metadata: JSON, spec: JSON) -> Finding | None:
    who = setters(spec, lambda given: bool((given.get("windowsOptions") or {}).get("hostProcess")))
    if not who:
        return None
    told = f"{' and '.join(who)} must not set securityContext.windowsOptions.hostProcess=true"
    return Finding("hostProcess", told)


# --- the host


def host_namespaces(metadata: JSON, spec: JSON) -> Finding | None:
    shared = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Finding("host namespaces", ", ".join(shared)) if shared else None


def host_path_volumes(metadata: JSON, spec: JSON) -> Finding | None:
    bad = [one["name"] for one in spec.get("volumes") or () if one.get("hostPath") is not None]
    return Finding("hostPath volumes", named("volume", bad)) if bad else None


def host_ports(metadata: JSON, spec: JSON) -> Finding | None:
    bad, ports = [], set()
    for one in containers(spec):
        if found := {str(port["hostPort"]) for port in one.get("ports") or () if port.get("hostPort")}:
            bad.append(one["name"])
            ports |= found
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    told = f"{named('container', bad)} {uses} {plural('hostPort', len(ports))} {', '.join(sorted(ports))}"
    return Finding("hostPort", told)


def probes_of_other_hosts(metadata: JSON, spec: JSON) -> Finding | None:
    bad, hosts = set(), set()
    for one in containers(spec):
        if found := set(_asked_hosts(one)):
            bad.add(one["name"])
            hosts |= found
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    told = f"{named('container', sorted(bad))} {uses} {named('probe or lifecycle host', sorted(hosts))}"
    return Finding("probe or lifecycle host", told)


def _asked_hosts(container: JSON) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    probes = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
    for handler in (*probes, lifecycle.get("postStart"), lifecycle.get("preStop")):
        for way in ("httpGet", "tcpSocket"):
            if host := ((handler or {}).get(way) or {}).get("host"):
                yield host


_SYSCTLS_1_0 = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
    )
)
_SYSCTLS_1_27 = _SYSCTLS_1_0 | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_1_29 = _SYSCTLS_1_27 | {
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
_SYSCTLS_1_32 = _SYSCTLS_1_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def _sysctls(allowed: frozenset[str]) -> Check:
    def check(metadata: JSON, spec: JSON) -> Finding | None:
        given = [one.get("name") or "" for one in context(spec).get("sysctls") or ()]
        bad = [name for name in given if name not in allowed]
        return Finding("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


sysctls_1_0, sysctls_1_27 = _sysctls(_SYSCTLS_1_0), _sysctls(_SYSCTLS_1_27)
sysctls_1_29, sysctls_1_32 = _sysctls(_SYSCTLS_1_29), _sysctls(_SYSCTLS_1_32)

# --- what confines a container

_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def apparmor_profile(metadata: JSON, spec: JSON) -> Finding | None:
    types: set[str] = set()

    def wrong(given: JSON) -> bool:
        profile = given.get("appArmorProfile")
        kind = "" if profile is None else profile.get("type") or ""
        if profile is None or kind in ("RuntimeDefault", "Localhost"):
            return False
        types.add(kind)
        return True

    who = setters(spec, wrong)
    annotations = sorted(
        f"{key}={quoted(value)}"
        for key, value in meta.annotations({"metadata": metadata}).items()
        if key.startswith(_APPARMOR_ANNOTATION) and value not in ("", "runtime/default")
        if not value.startswith("localhost/")
    )
    if annotations:
        who.append(plural("annotation", len(annotations)))
    if not who:
        return None
    values = [*sorted(types), *annotations]
    told = f"{' and '.join(who)} must not set AppArmor profile type to {listed(values)}"
    return Finding(plural("forbidden AppArmor profile", len(values)), told)


_SELINUX_TYPES_1_0 = frozenset(("", "container_t", "container_init_t", "container_kvm_t"))
_SELINUX_TYPES_1_31 = _SELINUX_TYPES_1_0 | {"container_engine_t"}


def _selinux_options(allowed: frozenset[str]) -> Check:
    def check(metadata: JSON, spec: JSON) -> Finding | None:
        types: set[str] = set()
        told: set[str] = set()

        def wrong(given: JSON) -> bool:
            options = given.get("seLinuxOptions") or {}
            kind = options.get("type") or ""
            if kind not in allowed:
                types.add(kind)
            own = {field for field in ("user", "role") if options.get(field)}
            told.update(own)
            return bool(own) or kind not in allowed

        who = setters(spec, wrong)
        if not who:
            return None
        data = [named("type", sorted(types))] if types else []
        data += [f"{field} may not be set" for field in ("user", "role") if field in told]
        return Finding(
            "seLinuxOptions", f"{' and '.join(who)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
        )

    return check


selinux_options_1_0, selinux_options_1_31 = _selinux_options(_SELINUX_TYPES_1_0), _selinux_options(_SELINUX_TYPES_1_31)


def proc_mount_1_0(metadata: JSON, spec: JSON) -> Finding | None:
    given = {one["name"]: context(one).get("procMount") for one in containers(spec)}
    bad = {name: kind for name, kind in given.items() if kind is not None and kind != "Default"}
    if not bad:
        return None
    kinds = listed(sorted(set(bad.values())))
    return Finding("procMount", f"{named('container', list(bad))} must not set securityContext.procMount to {kinds}")


def proc_mount_1_35(metadata: JSON, spec: JSON) -> Finding | None:
    return None if in_user_namespace(spec) else proc_mount_1_0(metadata, spec)


_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
SECCOMP_TYPES = ("RuntimeDefault", "Localhost")


def seccomp_annotations(metadata: JSON, spec: JSON) -> Finding | None:
    """What there was before fields said it (1.19)."""
    annotations = meta.annotations({"metadata": metadata})
    keys = {_SECCOMP_POD, *(f"{_SECCOMP_CONTAINER}{one['name']}" for one in containers(spec))}
    bad = sorted(
        f"{key}={quoted(value)}"
        for key in keys
        if (value := annotations.get(key)) is not None
        if value not in ("runtime/default", "docker/default") and not value.startswith("localhost/")
    )
    if not bad:
        return None
    return Finding("seccompProfile", f"forbidden {plural('annotation', len(bad))} {', '.join(bad)}")


def seccomp_profile(metadata: JSON, spec: JSON) -> Finding | None:
    types: set[str] = set()

    def wrong(given: JSON) -> bool:
        profile = given.get("seccompProfile")
        kind = "" if profile is None else profile.get("type") or ""
        if profile is None or kind in SECCOMP_TYPES:
            return False
        types.add(kind)
        return True

    who = setters(spec, wrong)
    if not who:
        return None
    told = f"{' and '.join(who)} must not set securityContext.seccompProfile.type to {listed(sorted(types))}"
    return Finding("seccompProfile", told)
