"""The namespaces of a sandbox, as its configuration and the kernel have them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kubecore.kubelet.runtime import launching, mounting, sandbox_notes
from kubecore.kubelet.runtime.interface import MemoryDirectory, SandboxConfig
from kubecore.kubelet.runtime.isolation import Isolation
from kubecore.kubelet.runtime.launching import Namespaces, Step
from kubecore.kubelet.runtime.pod_users import PodUsers

_SHARED_MEMORY_BYTES = 64 * 1024 * 1024


def make_namespaces(
    config: SandboxConfig,
    isolation: Isolation,
    *,
    join: Sequence[tuple[int, int]],
    own_network: bool,
    shared_memory: Path | None,
    users: PodUsers | None,
) -> Namespaces:
    """`join`: within which others, of the node. Raises OSError, ExecFailure."""
    if not isolation.namespaces:
        return Namespaces()
    wanted = launching.NEW_UTS
    if isolation.user_namespace:
        wanted |= launching.NEW_USER
    if own_network:
        wanted |= launching.NEW_NETWORK
    directories = list(config.memory_directories)
    if shared_memory is not None:
        wanted |= launching.NEW_IPC
        shared_memory.mkdir(mode=0o1777, exist_ok=True)
        directories.append(MemoryDirectory(shared_memory, _SHARED_MEMORY_BYTES, 0o1777))
    sysctls = [one for one in config.sysctls if sandbox_notes.is_own(one[0], isolation, config, own_network)]
    mounts = mounting.sandbox_steps(
        directories,
        config.image_directories,
        in_user_namespace=isolation.user_namespace,
        users=users.path if users is not None else "",
    )
    settings = mounting.sysctl_steps(sysctls)
    if users is not None:
        return _for_users(users, wanted, config.hostname, mounts, settings)
    made = launching.create_namespaces(
        wanted | launching.NEW_MOUNT, hostname=config.hostname, steps=[*mounts, *settings], join=join
    )
    return made if own_network else replace(made, outer=tuple(join))


def _for_users(
    users: PodUsers, wanted: int, hostname: str, mounts: Sequence[Step], settings: Sequence[Step]
) -> Namespaces:
    """What is the pod's own belongs to its user namespace. What is mounted does not: there nobody may mount it."""
    mounted = launching.create_namespaces(launching.NEW_MOUNT, steps=mounts)
    try:
        join = [(users.namespace, launching.NEW_USER)]
        made = launching.create_namespaces(wanted, hostname=hostname, steps=settings, join=join)
    except BaseException:
        mounted.close()
        raise
    return replace(made, user=os.dup(users.namespace), mount=mounted.mount, mount_is_of_host=True)
