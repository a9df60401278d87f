"""What the kernel lets a program do without root, found out by trying."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from kubecore.kubelet.runtime import launching, mounting
from kubecore.kubelet.runtime.processes import above_standard, reap


@dataclass
class Answer:
    """Of a `question` about the kernel, which is asked until it is answered, and then no more."""

    question: Callable[[], bool | None]
    _known: bool | None = None

    def yes(self) -> bool:
        """Not as long as nobody knows."""
        if self._known is None:
            self._known = self.question()
        return bool(self._known)


def can_mount_proc() -> bool | None:
    """For a pid namespace of one's own in a user namespace: refused while parts of our /proc are hidden (in Docker).
    None where it could not be tried, as when there are too many processes or namespaces now."""
    return _can_mount("proc", "/proc")


def can_mount_sysfs() -> bool | None:
    """For a network namespace of one's own in a user namespace: refused while parts of our /sys are hidden; else as
    `can_mount_proc`."""
    return _can_mount("sysfs", "/sys")


def _can_mount(filesystem: str, place: str) -> bool | None:
    null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
    user = launching.Namespaces()
    try:
        wanted = launching.NEW_USER | launching.NEW_MOUNT | launching.NEW_NETWORK
        user = launching.create_namespaces(wanted)
        probe = launching.Launch(
            arguments=("true",),
            environment={},
            directory="/",
            stdio=(null, null, null),
            join=user.to_join(),
            namespaces=launching.NEW_MOUNT | launching.NEW_PID,
            steps=[*mounting.private_steps(), launching.mount(filesystem, place, filesystem=filesystem, flags=flags)],
        )
        process = probe.start()
    except PermissionError:
        return False
    except (OSError, launching.ExecFailure):
        return None
    finally:
        user.close()
        os.close(null)
    return True if reap(process).exit_code == 0 else None
