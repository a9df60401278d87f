"""What separates containers of the `host` runtime from the host: what the kernel allows, found out by trying."""

from __future__ import annotations

import logging
import os
import platform
import re
from dataclasses import dataclass

from kubecore.kubelet.runtime import launching, mounting

log = logging.getLogger(__name__)

_RECURSIVE_READ_ONLY = (5, 12)
"""The kernel that first has mount_setattr, by which all that is mounted below a volume becomes read-only with it."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What the kernel lets us give a pod. `reason`: one line for the user."""

    namespaces: bool
    user_namespace: bool
    reason: str
    cgroup_namespace: bool = False
    """A container's own group can be the root of those that it hears of."""

    @property
    def root_by_default(self) -> bool:
        """Whoever we are, a user namespace makes us root to those in it."""
        return self.user_namespace or os.geteuid() == 0


def describe(isolation: Isolation) -> None:
    """In the log."""
    level = logging.INFO if isolation.namespaces else logging.WARNING
    log.log(level, "host runtime: %s", isolation.reason)


def probe_isolation() -> Isolation:
    """Try the real thing, from best to least."""
    wanted = launching.NEW_MOUNT | launching.NEW_IPC | launching.NEW_UTS | launching.NEW_PID
    steps = mounting.private_steps()
    try:
        launching.create_namespaces(wanted, steps=steps).close()
        reason = "containers have mount, pid, ipc and uts namespaces"
        return Isolation(True, False, reason, cgroup_namespace=_can_have(launching.NEW_CGROUP))
    except OSError:
        pass
    try:
        launching.create_namespaces(wanted | launching.NEW_USER, steps=steps).close()
        reason = "containers have user, mount, pid, ipc and uts namespaces"
        return Isolation(True, True, reason, cgroup_namespace=_can_have(launching.NEW_CGROUP | launching.NEW_USER))
    except OSError as error:
        return Isolation(False, False, f"containers are plain processes: no namespaces ({error.strerror})")


def _can_have(namespaces: int) -> bool:
    try:
        launching.create_namespaces(namespaces).close()
    except OSError:
        return False
    return True


def has_recursive_read_only(release: str = "") -> bool:
    """Of this kernel, or of the one with that release."""
    found = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return found is not None and (int(found[1]), int(found[2])) >= _RECURSIVE_READ_ONLY
