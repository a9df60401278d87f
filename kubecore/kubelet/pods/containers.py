"""Turns a container of a pod's specification into what a runtime needs to make it."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.api.quoting import quoted
from kubecore.clock import Clock
from kubecore.images.store import Image
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.pods import mandatory_access
from kubecore.kubelet.pods.environment import ConfigError, Surroundings, container_environment, expand_all
from kubecore.kubelet.pods.expansion import expand, references
from kubecore.kubelet.pods.qos import oom_score_adj
from kubecore.kubelet.runtime import capabilities
from kubecore.kubelet.runtime.interface import ContainerConfig, Identity, Mount
from kubecore.kubelet.volumes.manager import Volume, check_relative, check_sub_path
from kubecore.kubelet.volumes.sources import VolumeError
from kubecore.own_threads import on_own_thread

log = logging.getLogger(__name__)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerPlace:
    """Where an attempt's files are. `termination_log` exists."""

    log_path: Path
    termination_log: Path
    attempt: int
    seccomp_profiles: Path
    """Where the node keeps its own."""
    seccomp_default: bool = False
    """Who asks for no profile has the runtime's."""
    killed_together: bool = True
    """All its processes are, where one is to be for want of memory."""


def container_config(
    pod: Object,
    container: Object,
    around: Surroundings,
    volumes: Mapping[str, Volume],
    place: ContainerPlace,
    *,
    extra_environment: Mapping[str, str],
    memory_capacity: int,
    root_by_default: bool,
    image: Image | None = None,
) -> ContainerConfig:
    """`image`: what it is made from, where the runtime needs one. Raises ConfigError for what can only be put right by
    changing objects."""
    environment = {**extra_environment, **container_environment(pod, container, around, volumes)}
    context = container.get("securityContext") or {}
    mounts = [_mount(declared, volumes, environment) for declared in container.get("volumeMounts") or []]
    mounts.append(Mount(place.termination_log, termination_path(container)))
    return ContainerConfig(
        name=container["name"],
        attempt=place.attempt,
        image=image.id if image is not None else container.get("image", ""),
        argv=tuple(expand_all(container.get("command") or [], environment)),
        arguments=tuple(expand_all(container.get("args") or [], environment)),
        environment=tuple(environment.items()),
        log_path=place.log_path,
        working_directory=container.get("workingDir", ""),
        mounts=tuple(mounts),
        identity=_identity(pod, container, root_by_default=root_by_default, image=image),
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        privileged=bool(context.get("privileged")),
        capabilities=_capabilities(context),
        seccomp=_seccomp(pod, context, place),
        app_armor=mandatory_access.app_armor_profile(pod, container),
        selinux=mandatory_access.selinux_options(pod, container),
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        oom_score_adj=oom_score_adj(pod, container, memory_capacity),
        limits=replace(limits.of_container(container, pod["spec"]), together=place.killed_together),
    )


def termination_path(container: Object) -> str:
    return container.get("terminationMessagePath") or "/dev/termination-log"


def _mount(declared: Object, volumes: Mapping[str, Volume], environment: Mapping[str, str]) -> Mount:
    volume = volumes.get(declared["name"])
    if volume is None:
        raise ConfigError(f'volume "{declared["name"]}" is not mounted')
    relative = declared.get("subPath") or _expanded(declared.get("subPathExpr") or "", environment)
    if relative:
        try:
            check_relative(relative)
        except VolumeError as error:
            raise ConfigError(str(error)) from error
        relative = posixpath.normpath(relative)
    read_only = bool(declared.get("readOnly")) or volume.read_only
    return Mount(
        volume.path,
        declared["mountPath"],
        read_only,
        sub_path="" if relative == "." else relative,
        read_only_below=read_only and declared.get("recursiveReadOnly") in ("Enabled", "IfPossible"),
        in_memory=volume.in_memory,
        propagation=declared.get("mountPropagation") or "None",
    )


async def check_sub_paths(container: Object, mounts: Sequence[Mount], clock: Clock) -> None:
    """`mounts` of the container's configuration. On a thread of its own: a volume's server may not answer. Raises
    ConfigError."""
    asked = list(zip(container.get("volumeMounts") or [], mounts, strict=False))
    asked = [(declared, one) for declared, one in asked if one.sub_path and not one.in_memory]

    def look() -> None:
        for declared, one in asked:
            try:
                check_sub_path(one.source, one.sub_path)
            except (VolumeError, OSError) as error:
                named = f'"{declared["name"]}" of container "{container["name"]}"'
                told = f"failed to prepare subPath for volumeMount {named}"
                log.warning("%s: %s", told, error)  # who made the pod is told nothing of the host's files
                raise ConfigError(told) from error

    if asked:
        async with clock.outside(float("inf")):
            await on_own_thread(look, "kubelet looking at volumes")


def _expanded(expression: str, environment: Mapping[str, str]) -> str:
    if missing := sorted({name for name in references(expression) if not environment.get(name)}):
        raise ConfigError(f"missing value for {', '.join(missing)}")
    return expand(expression, environment)


def _capabilities(context: Object) -> frozenset[str] | None:
    if context.get("privileged"):
        return None
    asked = context.get("capabilities") or {}
    try:
        return capabilities.resulting(asked.get("add") or [], asked.get("drop") or [])
    except capabilities.UnknownCapability as error:
        raise ConfigError(f"unknown capability {str(error)!r}") from error


def _seccomp(pod: Object, context: Object, place: ContainerPlace) -> str:
    """The container's profile, or the pod's, as the runtime takes it. None is `Unconfined`, unless the node has it
    otherwise."""
    whole = pod["spec"].get("securityContext") or {}
    profile = context.get("seccompProfile") or whole.get("seccompProfile") or {}
    kind = profile.get("type", "RuntimeDefault" if place.seccomp_default else "Unconfined")
    if context.get("privileged") or kind == "Unconfined":
        return "unconfined"
    if kind == "RuntimeDefault":
        return "runtime-default"
    # The API lets no path lead out of the folder.
    return f"localhost/{place.seccomp_profiles / profile['localhostProfile']}"


def _identity(pod: Object, container: Object, *, root_by_default: bool, image: Image | None) -> Identity:
    whole, context = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}

    def pick(field: str) -> Any:
        return context[field] if context.get(field) is not None else whole.get(field)

    user, group = pick("runAsUser"), pick("runAsGroup")
    if pick("runAsNonRoot") and (trouble := _root(user, root_by_default=root_by_default, image=image)):
        named = quoted(f"{meta.name(pod)}_{meta.namespace(pod)}({meta.uid(pod)})")
        raise ConfigError(f"{trouble} (pod: {named}, container: {container['name']})")
    # A user without a group of its own gets root's, as runc does without an image that says otherwise.
    own_group = group is not None or user is None or image is not None
    strict = whole.get("supplementalGroupsPolicy") == "Strict"
    return Identity(user, group if own_group else 0, supplemental_groups(pod), no_other_groups=strict)


def supplemental_groups(pod: Object) -> tuple[int, ...]:
    """Of all its containers' processes."""
    whole = pod["spec"].get("securityContext") or {}
    groups = list(whole.get("supplementalGroups") or [])
    if whole.get("fsGroup") is not None:
        groups.append(whole["fsGroup"])
    return tuple(groups)


def _root(user: int | None, *, root_by_default: bool, image: Image | None) -> str:
    """In what the container would be root, or might be; "" if it is not. (Upstream `verifyRunAsNonRoot` in
    `pkg/kubelet/kuberuntime/security_context.go`.)"""
    if user is not None:
        return "container's runAsUser breaks non-root policy" if user == 0 else ""
    told = "0" if root_by_default else ""
    if image is not None:
        told = (image.run.get("User") or "0").partition(":")[0]
    if told and not told.isdigit():  # a name could be anybody's
        return f"container has runAsNonRoot and image has non-numeric user ({told}), cannot verify user is non-root"
    return "container has runAsNonRoot and image will run as root" if told and int(told) == 0 else ""


def named_ports(container: Object) -> dict[str, int]:
    ports = container.get("ports") or []
    return {port["name"]: port["containerPort"] for port in ports if port.get("name")}
