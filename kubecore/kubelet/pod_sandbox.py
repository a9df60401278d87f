"""Turns a pod's specification into the surroundings that a runtime is to make for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.cgroups.interface import CgroupError
from kubecore.kubelet.containers import supplemental_groups
from kubecore.kubelet.logs import pod_log_directory
from kubecore.kubelet.mandatory_access import selinux_options
from kubecore.kubelet.name_files import (
    LongName,
    hosts_file,
    kernel_hostname,
    resolv_conf,
    service_names,
    write_in_place,
)
from kubecore.kubelet.node_services import NodeServices
from kubecore.kubelet.runtime.interface import RuntimeFailure, SandboxConfig
from kubecore.kubelet.sysctls import pod_sysctls
from kubecore.kubelet.volumes.images import image_directories

Object = dict[str, Any]


async def prepare_sandbox(pod: Object, services: NodeServices, handler: str, wake: Callable[[], None]) -> SandboxConfig:
    """Makes what a runtime needs for it: files, the pod's cgroup, images of volumes. `handler`: by which the pod asked
    for its runtime. Raises RuntimeFailure, and StillPulling, after which `wake` is called."""
    spec, uid = pod["spec"], meta.uid(pod)
    tell = partial(services.recorder.event, pod)
    shown = await image_directories(pod, services.volumes.folder(uid), services.puller, tell, wake)
    directory = services.pod_directory(uid)
    hosts, resolver, named = (directory / file for file in ("etc-hosts", "resolv.conf", "hostname"))
    resolving = resolv_conf(pod, services.naming)
    for omission in resolving.left_out:
        services.recorder.event(pod, "Warning", "DNSConfigForming", omission)
    write_in_place(resolver, resolving.text)
    write_in_place(hosts, "127.0.0.1\tlocalhost\n")
    hostname = _hostname(pod, services.naming.domain)
    write_in_place(named, f"{hostname}\n")
    return SandboxConfig(
        uid=uid,
        name=meta.name(pod),
        namespace=meta.namespace(pod),
        attempt=0,
        hostname=hostname,
        directory=directory,
        hosts=hosts,
        resolv_conf=resolver,
        hostname_file=named,
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_processes=bool(spec.get("shareProcessNamespace")),
        sysctls=pod_sysctls(pod),
        supplemental_groups=supplemental_groups(pod),
        selinux=selinux_options(pod),
        memory_directories=services.volumes.memory_directories(pod),
        image_directories=shown,
        cgroup=make_cgroup(pod, services),
        handler=handler,
        privileged=any(map(_is_privileged, [*(spec.get("initContainers") or []), *spec["containers"]])),
        log_directory=pod_log_directory(services.root, meta.namespace(pod), meta.name(pod), uid),
    )


def _hostname(pod: Object, cluster_domain: str) -> str:
    """The host's for a pod on its network. Raises RuntimeFailure."""
    if pod["spec"].get("hostNetwork"):
        return socket.gethostname()
    try:
        return kernel_hostname(pod, cluster_domain)
    except LongName as error:
        raise RuntimeFailure("FailedCreatePodSandBox", str(error)) from error


def _is_privileged(container: Object) -> bool:
    return bool((container.get("securityContext") or {}).get("privileged"))


def make_cgroup(pod: Object, services: NodeServices) -> str:
    """The pod's, if there are any; one that is there already is as good. Raises RuntimeFailure."""
    try:
        path = services.cgroups.make(pod)
    except CgroupError as error:
        message = f"failed to ensure that the pod {meta.uid(pod)} cgroups exist and are correctly applied: {error}"
        raise RuntimeFailure("FailedCreatePodSandBox", message) from error
    if lack := services.cgroups.lack(pod):
        services.recorder.event(pod, "Warning", "LimitsNotEnforced", lack)
    return path


def refresh_hosts(pod: Object, ips: tuple[str, ...], services: NodeServices) -> None:
    """Bring its /etc/hosts up to date."""
    naming = services.naming
    named: dict[str, list[str]] = {}
    policy = pod["spec"].get("dnsPolicy", "ClusterFirst")
    if not naming.servers and policy.startswith("ClusterFirst"):
        named = service_names(meta.namespace(pod), services.services(), services.slices(), naming.domain)
    write_in_place(services.pod_directory(meta.uid(pod)) / "etc-hosts", hosts_file(pod, ips, naming, named))
