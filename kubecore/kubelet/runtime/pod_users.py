"""User namespaces of pods with `hostUsers: false`: user 0 in there is a user of the host that has nothing else.

A pod has 65,536 ids, which begin at a multiple of that, as upstream's kubelet gives them out. What it has of a volume
is seen through a mount that maps them back (man 2 mount_setattr), so that files are whose they are for any other pod.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubecore.kubelet.runtime import launching
from kubecore.kubelet.runtime.processes import above_standard, reap

IDS = 65536
_END = 1 << 31


@dataclass
class PodUsers:
    """`first`: the host's id of its user 0 and group 0. `namespace`: a descriptor."""

    first: int
    namespace: int
    _claim: socket.socket

    @classmethod
    def make(cls) -> PodUsers:
        """Of ids that no other pod of this machine has. Raises OSError, ExecFailure."""
        first, claim = _claim_ids()
        try:
            return cls(first, _make_namespace(first), claim)
        except BaseException:
            claim.close()
            raise

    @property
    def path(self) -> str:
        """By which the namespace can be opened."""
        return f"/proc/{os.getpid()}/fd/{self.namespace}"

    def release(self) -> None:
        """Others may have the ids."""
        os.close(self.namespace)
        self._claim.close()


def _claim_ids() -> tuple[int, socket.socket]:
    """The first of them; they are held by a socket's name, so that they are free when the process ends, however that
    ends. Raises OSError."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    for first in range(IDS, _END, IDS):
        try:
            claim.bind(f"\0kubecore/users/{first}".encode())
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            claim.close()
            raise
        return first, claim
    claim.close()
    raise OSError(0, "no user ids are left for one more pod with a user namespace of its own")


def _make_namespace(first: int) -> int:
    """A map of many ids is for somebody outside to write, while a process is in there. Raises OSError, ExecFailure."""
    null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    try:
        process = launching.Launch(
            arguments=("sleep", "60"),
            environment={},
            directory="/",
            stdio=(null, null, null),
            namespaces=launching.NEW_USER,
            capabilities=0,
            no_new_privileges=True,
        ).start()
    finally:
        os.close(null)
    try:
        about = Path(f"/proc/{process.pid}")
        for name in ("uid_map", "gid_map"):
            (about / name).write_text(f"0 {first} {IDS}")
        return above_standard(os.open(about / "ns/user", os.O_RDONLY | os.O_CLOEXEC))
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        reap(process)
