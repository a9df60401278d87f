"""What the kernel lets a program do without root, found out by trying."""

from __future__ import annotations

import os

from kubecore.kubelet.runtime import launching, mounting
from kubecore.kubelet.runtime.processes import above_standard, reap


def can_mount_proc() -> bool:
    """For a pid namespace of one's own in a user namespace: refused while parts of our /proc are hidden (in Docker)."""
    null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
    user = launching.Namespaces()
    try:
        user = launching.create_namespaces(launching.NEW_USER | launching.NEW_MOUNT)
        probe = launching.Launch(
            arguments=("true",),
            environment={},
            directory="/",
            stdio=(null, null, null),
            join=user.to_join(),
            namespaces=launching.NEW_MOUNT | launching.NEW_PID,
            steps=[*mounting.private_steps(), launching.mount("proc", "/proc", filesystem="proc", flags=flags)],
        )
        process = probe.start()
    except (OSError, launching.ExecFailure):
        return False
    finally:
        user.close()
        os.close(null)
    return reap(process).exit_code == 0
