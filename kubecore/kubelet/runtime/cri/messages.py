"""What kubecore's kubelet asks for, in the words of the Container Runtime Interface, and what it is told in ours.

Nothing is asked or changed here. What a later kubelet must know and no runtime tells is kept in annotations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from kubecore.kubelet.cgroups.interface import CPU_PERIOD_MICROSECONDS, Limits
from kubecore.kubelet.pods.mandatory_access import SELinuxOptions
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    Identity,
    ProcessUser,
    Propagation,
    SandboxConfig,
)

NODE_LABEL = "kubecore.dev/node"
_SANDBOX, _CONTAINER = "kubecore.dev/sandbox", "kubecore.dev/container"
# In Kubernetes' words, for `crictl` and whatever else looks at a runtime.
_NAME, _NAMESPACE, _UID, _CONTAINER_NAME = (
    f"io.kubernetes.{word}" for word in ("pod.name", "pod.namespace", "pod.uid", "container.name")
)
_PROPAGATIONS: Mapping[Propagation, str] = {
    "None": "PROPAGATION_PRIVATE",
    "HostToContainer": "PROPAGATION_HOST_TO_CONTAINER",
    "Bidirectional": "PROPAGATION_BIDIRECTIONAL",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Told:
    """Of a container, in an annotation: what its runtime does not tell."""

    attempt: int
    tty: bool
    stdin: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of a sandbox: whether it has a network of its own, where its containers' groups are made (of the kernel's control
    groups, "" for where the runtime likes), and the mark of the node it is on."""

    own_network: bool
    cgroup_parent: str
    mark: str


class Messages:
    """`api`: the package's module. `quotas`: whether the kernel can limit the use of CPUs."""

    def __init__(self, api: Any, *, quotas: bool = True) -> None:
        self._api = api
        self.quotas = quotas

    # ---- sandboxes

    def sandbox(self, config: SandboxConfig, around: Surroundings) -> Any:
        api = self._api
        labels = {_NAME: config.name, _NAMESPACE: config.namespace, _UID: config.uid, NODE_LABEL: around.mark}
        return api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(
                name=config.name, uid=config.uid, namespace=config.namespace, attempt=config.attempt
            ),
            # The host's own where its network is shared, since they are one namespace to a runtime.
            hostname=config.hostname if around.own_network else "",
            log_directory=str(config.log_directory.absolute()) if config.log_directory else "",
            dns_config=_dns(api, config.resolv_conf),
            labels=labels,
            annotations={_SANDBOX: msgspec.json.encode(config, enc_hook=str).decode()},
            linux=api.LinuxPodSandboxConfig(
                cgroup_parent=around.cgroup_parent,
                sysctls={name.replace("/", "."): value for name, value in config.sysctls},
                security_context=api.LinuxSandboxSecurityContext(
                    namespace_options=self._namespaces(config, around.own_network),
                    supplemental_groups=config.supplemental_groups,
                    privileged=config.privileged,
                    seccomp=self._profile("runtime-default"),
                    selinux_options=self._selinux(config.selinux),
                ),
            ),
        )

    def _namespaces(self, config: SandboxConfig, own_network: bool, target: str = "") -> Any:
        api = self._api
        processes = api.NODE if config.host_pid else api.POD if config.share_processes else api.CONTAINER
        return api.NamespaceOption(
            network=api.POD if own_network else api.NODE,
            pid=api.TARGET if target else processes,
            ipc=api.NODE if config.host_ipc else api.POD,
            target_id=target,
        )

    def _profile(self, profile: str) -> Any:
        kinds = self._api.SecurityProfile.ProfileType
        if profile.startswith("localhost/"):
            path = profile.removeprefix("localhost/")
            return self._api.SecurityProfile(profile_type=kinds.Localhost, localhost_ref=path)
        kind = kinds.RuntimeDefault if profile == "runtime-default" else kinds.Unconfined
        return self._api.SecurityProfile(profile_type=kind)

    # ---- containers

    def container(
        self,
        config: ContainerConfig,
        sandbox: SandboxConfig,
        around: Surroundings,
        *,
        mounts: Sequence[tuple[Path, str, bool, Propagation]],
        log_path: str,
        attempt: int,
    ) -> Any:
        """`mounts`: source, target, whether it is read-only, and its propagation. `log_path`: below the sandbox's log
        directory. `attempt`: one that the runtime has not got of this name."""
        api = self._api
        told = Told(config.attempt, config.tty, config.stdin)
        return api.ContainerConfig(
            metadata=api.ContainerMetadata(name=config.name, attempt=attempt),
            image=api.ImageSpec(image=config.image),
            command=config.argv,
            args=config.arguments,
            working_dir=config.working_directory,
            envs=[api.KeyValue(key=name, value=value) for name, value in config.environment],
            mounts=[
                api.Mount(
                    host_path=str(source),
                    container_path=target,
                    readonly=read_only,
                    propagation=api.MountPropagation.Value(_PROPAGATIONS[propagation]),
                )
                for source, target, read_only, propagation in mounts
            ],
            labels={
                _NAME: sandbox.name,
                _NAMESPACE: sandbox.namespace,
                _UID: sandbox.uid,
                _CONTAINER_NAME: config.name,
                NODE_LABEL: around.mark,
            },
            annotations={_CONTAINER: msgspec.json.encode(told).decode()},
            log_path=log_path,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
            tty=config.tty,
            linux=api.LinuxContainerConfig(
                resources=self.resources(config.limits, oom_score_adj=config.oom_score_adj),
                security_context=self._security(config, self._namespaces(sandbox, around.own_network, config.target)),
            ),
        )

    def _security(self, config: ContainerConfig, namespaces: Any) -> Any:
        api = self._api
        # Those that are to be had are named one by one, so that no default of a runtime's adds to them.
        named = [] if config.capabilities is None else sorted(one.removeprefix("CAP_") for one in config.capabilities)
        capabilities = api.Capability(add_capabilities=named, drop_capabilities=["ALL"])
        if config.capabilities is None:
            capabilities = api.Capability(add_capabilities=["ALL"])
        return api.LinuxContainerSecurityContext(
            capabilities=capabilities,
            privileged=config.privileged,
            namespace_options=namespaces,
            readonly_rootfs=config.read_only_root,
            no_new_privs=config.no_new_privileges,
            supplemental_groups=config.identity.supplemental_groups,
            supplemental_groups_policy=api.SupplementalGroupsPolicy.Value(
                "Strict" if config.identity.no_other_groups else "Merge"
            ),
            seccomp=self._profile(config.seccomp),
            selinux_options=self._selinux(config.selinux),
            **self._app_armor(config.app_armor),
            **self._identity(config.identity),
        )

    def _app_armor(self, profile: str) -> dict[str, Any]:
        """Older runtimes know the text alone."""
        if not profile:
            return {}
        return {"apparmor": self._profile(profile), "apparmor_profile": profile.replace("runtime-", "runtime/")}

    def _selinux(self, options: SELinuxOptions | None) -> Any:
        return None if options is None else self._api.SELinuxOption(**options._asdict())

    def _identity(self, identity: Identity) -> dict[str, Any]:
        found = {"run_as_user": identity.user, "run_as_group": identity.group}
        return {name: self._api.Int64Value(value=value) for name, value in found.items() if value is not None}

    def resources(self, limits: Limits, *, oom_score_adj: int = 0) -> Any:
        quota = limits.cpu_quota or 0
        return self._api.LinuxContainerResources(
            cpu_period=CPU_PERIOD_MICROSECONDS if self.quotas else 0,
            cpu_quota=quota if self.quotas else 0,
            cpu_shares=limits.cpu_shares or 0,
            memory_limit_in_bytes=limits.memory or 0,
            oom_score_adj=oom_score_adj,
        )


def _dns(api: Any, resolv_conf: Path | None) -> Any:
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    if resolv_conf is not None and resolv_conf.is_file():
        for line in resolv_conf.read_text().splitlines():
            word, *rest = line.split()
            if word in found:
                found[word] += rest
    return api.DNSConfig(servers=found["nameserver"], searches=found["search"], options=found["options"])


# ---------------------------------------------------------------------- what is told


def sandbox_config(annotations: Mapping[str, str]) -> SandboxConfig | None:
    """None where it is none of ours."""
    try:
        return msgspec.json.decode(
            annotations.get(_SANDBOX, ""), type=SandboxConfig, dec_hook=lambda _, text: Path(text)
        )
    except msgspec.DecodeError:
        return None


def told(annotations: Mapping[str, str]) -> Told:
    return msgspec.json.decode(annotations[_CONTAINER], type=Told)


def pid_of(answer: Any) -> int:
    """Of the first process, as runtimes tell it to whoever asks for more (containerd, CRI-O); 0 where they do not."""
    try:
        found = json.loads(answer.info["info"]).get("pid", 0)
    except (KeyError, ValueError):
        return 0
    return found if isinstance(found, int) else 0


def container_status(status: Any, sandbox_id: str, pid: int) -> ContainerStatus:
    """`status`: a ContainerStatus of the interface."""
    state = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.EXITED)[min(status.state, 2)]
    code = status.exit_code if state is ContainerState.EXITED else 0
    return ContainerStatus(
        id=status.id,
        sandbox_id=sandbox_id,
        name=status.metadata.name,
        attempt=told(status.annotations).attempt,
        state=state,
        created_at=_time(status.created_at),
        started_at=_time(status.started_at) if status.started_at else None,
        finished_at=_time(status.finished_at) if status.finished_at else None,
        exit_code=code,
        # The interface does not tell signals; by the rule for exit codes it can only have been this one.
        signal=code - 128 if 128 < code <= 128 + 64 else 0,
        pid=pid if state is ContainerState.RUNNING else 0,
        reason=status.reason if status.reason not in ("Completed", "Error") else "",
        log_path=Path(status.log_path) if status.log_path else None,
        user=_user(status),
    )


def _user(status: Any) -> ProcessUser | None:
    if not status.user.HasField("linux"):
        return None
    told = status.user.linux
    return ProcessUser(told.uid, told.gid, tuple(told.supplemental_groups))


def _time(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
