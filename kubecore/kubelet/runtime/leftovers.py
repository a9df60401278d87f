"""Processes that a container leaves behind where no pid namespace ends them with it: those of a pod with hostPID, and
all where the kernel gives us no namespaces.

They are known by an environment variable, which children inherit, and by the container's session. Out of reach is only
what has left the session and dropped its environment, too.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet import proc_files

VARIABLE = "KUBECORE_CONTAINER"
_MOST_LOOKS, _WAIT_MILLISECONDS = 8, 50
_PROC = Path("/proc")


def node_mark(root: Path, node: str) -> str:
    """What all marks of a node's containers begin with: the same for every run of the node."""
    return hashlib.sha256(f"{root} {node}".encode()).hexdigest()[:12]


def container_mark(node: str, container_id: str) -> str:
    """The value of VARIABLE."""
    return f"{node}-{container_id[:16]}"


def end_of_node(node: str) -> int:
    """Kill what containers of a former run of this node left. Returns how many processes that were."""
    wanted = f"\0{VARIABLE}={node}-".encode()
    return _end_all(lambda process: wanted in environment(process))


def end_of_container(mark: str, session: int) -> int:
    """Kill what is left of a container. `session` is the pid of its first process, which must not be reaped yet."""
    wanted = f"\0{VARIABLE}={mark}\0".encode()
    return _end_all(lambda process: _session(process) == session or wanted in environment(process))


def _end_all(belongs: Callable[[Path], bool]) -> int:
    """Kill until none is left, for what is born meanwhile escapes a single look."""
    killed = 0
    for _ in range(_MOST_LOOKS):
        found = list(_living(belongs))
        if not found:
            break
        killed += len(found)
        for descriptor in found:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in found:
            _wait(descriptor)
            os.close(descriptor)
    return killed


def _living(belongs: Callable[[Path], bool]) -> Iterator[int]:
    """Descriptors of the processes that belong and have not ended."""
    for entry in os.scandir(_PROC):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        process = _PROC / entry.name
        if not belongs(process) or _state(process) in "ZX":
            continue
        with suppress(OSError):
            descriptor = os.pidfd_open(int(entry.name))
            # The number may have come to stand for another process in between.
            if belongs(process):
                yield descriptor
            else:
                os.close(descriptor)


def _wait(descriptor: int) -> None:
    """For the end of a killed process: a matter of microseconds, unless the kernel has it wait for a disk."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(_WAIT_MILLISECONDS)


def environment(process: Path) -> bytes:
    """Each variable between zero bytes; nothing of a process that is gone or not ours to look into."""
    with suppress(OSError):
        return b"\0" + proc_files.content(f"{process}/environ")
    return b""


def _stat(process: Path) -> list[str]:
    """State, parent, group, session and so on; nothing of a process that is gone."""
    with suppress(OSError):
        return proc_files.stat_fields(process)
    return []


def _session(process: Path) -> int:
    fields = _stat(process)
    return int(fields[3]) if fields else -1


def _state(process: Path) -> str:
    fields = _stat(process)
    return fields[0] if fields else "X"
