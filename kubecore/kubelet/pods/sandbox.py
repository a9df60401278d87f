"""A pod's sandbox over its life: taken over from a former kubelet, made, made anew when it is lost, and removed.

What a runtime is to make follows from the pod's specification (`prepare_sandbox`)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kubecore.api import meta, quantity
from kubecore.background_tasks import done_before, see_out
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.cgroups.interface import CgroupError
from kubecore.kubelet.logs.writing import pod_log_directory
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods import presence as pod_presence
from kubecore.kubelet.pods.adoption import Left, remove_former, sandbox_runs
from kubecore.kubelet.pods.containers import supplemental_groups
from kubecore.kubelet.pods.environment import Surroundings
from kubecore.kubelet.pods.mandatory_access import asks_selinux, selinux_options
from kubecore.kubelet.pods.name_files import (
    LongName,
    hosts_file,
    kernel_hostname,
    resolv_conf,
    service_names,
    write_in_place,
)
from kubecore.kubelet.pods.sysctls import pod_sysctls
from kubecore.kubelet.runtime.interface import TOO_LATE, Runtime, RuntimeFailure, SandboxConfig
from kubecore.kubelet.volumes.images import image_directories
from kubecore.kubelet.volumes.manager import Volume

Object = dict[str, Any]

# Upstream's: twice its `--runtime-request-timeout`.
_LONGEST_SECONDS = 240.0
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PodPlace:
    """Where the pod runs: set once its sandbox is."""

    runtime: Runtime
    sandbox_id: str
    ips: tuple[str, ...]
    """The addresses under which its processes are reached, one of each family: the node's with hostNetwork."""
    volumes: Mapping[str, Volume]
    around: Surroundings

    @property
    def ip(self) -> str:
        """The first of them."""
        return self.ips[0]


class PodSandbox:
    """That of one pod. `wake` is called once images are there that have been waited for."""

    def __init__(self, services: NodeServices, wake: Callable[[], None]) -> None:
        self._services = services
        self._wake = wake
        self.place: PodPlace | None = None
        """None before it is made, and while another one is to be made. Of what has been removed it tells still."""

    async def take_over(self, pod: Object, granted: Object, left: Left) -> None:
        """What a former kubelet has made. `granted`: the pod with the resources that it has."""
        await remove_former(left)
        ips = await pod_presence.tell(pod, left.runtime, left.sandbox, self._services)
        self.place = PodPlace(left.runtime, left.sandbox.id, ips, {}, self._surroundings(pod, ips))
        with suppress(RuntimeFailure):
            make_cgroup(granted, self._services)
            tell_lack(granted, left.runtime, self._services)

    async def drop_lost(self, pod: Object) -> None:
        """One that has ended without our doing. Raises RuntimeFailure."""
        if self.place is None or sandbox_runs(self.place.runtime, self.place.sandbox_id):
            return
        message = "Pod sandbox changed, it will be killed and re-created."
        self._services.recorder.event(pod, "Normal", "SandboxChanged", message)
        await self.remove()
        self.place = None

    async def ensure(self, pod: Object, granted: Object, volumes: Mapping[str, Volume]) -> PodPlace:
        """Make it, or bring up to date what is seen in it. Raises RuntimeFailure, StatusError and StillPulling."""
        services, old = self._services, self.place
        if old is None:
            runtime, handler = await services.runtime_for(pod)
            config = await prepare_sandbox(granted, services, handler, self._wake)
            try:
                async with services.clock.timeout(_LONGEST_SECONDS):
                    sandbox = await runtime.run_pod_sandbox(config)
            except TimeoutError as error:
                raise RuntimeFailure("FailedCreatePodSandBox", TOO_LATE) from error
            tell_lack(granted, runtime, services)
            for note in sandbox.notes:
                services.recorder.event(pod, "Warning", "HostRuntimeLimited", note)
            ips = await pod_presence.tell(pod, runtime, sandbox, services)
            self.place = PodPlace(runtime, sandbox.id, ips, volumes, self._surroundings(pod, ips))
        elif old.volumes != volumes or old.around.services != self._services_of(pod):
            self.place = replace(old, volumes=volumes, around=self._surroundings(pod, old.ips))
        else:
            return old
        return self.place

    async def in_time(self, ensuring: Coroutine[Any, Any, PodPlace], leaving: asyncio.Event) -> PodPlace | None:
        """What comes of it. None once the pod is to end, when what is being made is waited for only a moment: then
        there is nothing of it, or it is the pod's and ends with it. Raises what it raises."""
        making = asyncio.create_task(ensuring)
        try:
            if not await done_before(making, leaving):
                with suppress(TimeoutError):
                    async with self._services.clock.timeout(_PATIENCE_SECONDS):
                        await asyncio.wait((making,))
            return making.result() if making.done() else None
        finally:
            await see_out(making)

    async def stop(self) -> None:
        """Raises RuntimeFailure."""
        if self.place is not None:
            self._services.host_ports.stop(self.place.sandbox_id)
            await self.place.runtime.stop_pod_sandbox(self.place.sandbox_id)

    async def remove(self) -> None:
        """Raises RuntimeFailure."""
        if (place := self.place) is None:
            return
        self._services.host_ports.stop(place.sandbox_id)
        if self._services.namespaces is not None:  # first of all: another pod may have the addresses next
            self._services.namespaces.remove(place.ips)
        await place.runtime.remove_pod_sandbox(place.sandbox_id)

    def _surroundings(self, pod: Object, ips: tuple[str, ...]) -> Surroundings:
        return Surroundings(self._services.facts, ips, self._services.objects.get, self._services_of(pod))

    def _services_of(self, pod: Object) -> tuple[Object, ...]:
        namespaces = (meta.namespace(pod), "default")
        return tuple(one for one in self._services.services() if meta.namespace(one) in namespaces)


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
        asks_selinux=asks_selinux(pod),
        memory_directories=services.volumes.memory_directories(pod, _node_memory(services)),
        image_directories=shown,
        cgroup=make_cgroup(pod, services),
        limits=limits.of_pod(pod),
        handler=handler,
        own_users=spec.get("hostUsers") is False,
        privileged=any(map(_is_privileged, [*(spec.get("initContainers") or []), *spec["containers"]])),
        log_directory=pod_log_directory(services.root, meta.namespace(pod), meta.name(pod), uid),
    )


def _node_memory(services: NodeServices) -> int:
    """What there is for pods, in bytes."""
    return quantity.nano(services.facts.allocatable["memory"]) // 10**9


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
    return path


def tell_lack(pod: Object, runtime: Runtime, services: NodeServices) -> None:
    """How its limits are enforced, where that is not as it should be."""
    if lack := services.cgroups.lack(pod, watched=runtime.watches_memory):
        services.recorder.event(pod, *lack)


def refresh_hosts(pod: Object, ips: tuple[str, ...], services: NodeServices) -> None:
    """Bring its /etc/hosts up to date."""
    naming = services.naming
    named: dict[str, list[str]] = {}
    policy = pod["spec"].get("dnsPolicy", "ClusterFirst")
    if not naming.servers and policy.startswith("ClusterFirst"):
        named = service_names(meta.namespace(pod), services.services(), services.slices(), naming.domain)
    write_in_place(services.pod_directory(meta.uid(pod)) / "etc-hosts", hosts_file(pod, ips, naming, named))
