"""Hears from the kernel's log that the machine as a whole had no memory left, and whom the kernel killed for that.

After upstream `pkg/kubelet/oom/oom_watcher_linux.go` and cAdvisor's `utils/oomparser`. A container that has had more
than it may is its pod's business, and is told of there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_RECORD_BYTES = 8192
_DEVICE = os.makedev(1, 11)
_BEGINS = re.compile(r"invoked oom-killer:")
# Of a limit of a control group, which the machine as a whole has none of.
_OF_A_GROUP = re.compile(r"oom-kill:constraint=.*,oom_memcg=(?P<limited>[^,]*),task_memcg=")
_ENDS = re.compile(r"Killed process (?P<pid>\d+) \((?P<name>.+)\)")


class Reports:
    """What the kernel says of it, line by line. `tell(message)` hears of each that is the machine's."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._reporting = False
        self._of_a_group = False

    def line(self, text: str) -> None:
        if _BEGINS.search(text):
            self._reporting, self._of_a_group = True, False
        elif self._reporting and (found := _OF_A_GROUP.search(text)):
            self._of_a_group = found["limited"] not in ("", "/")
        elif self._reporting and (found := _ENDS.search(text)):
            self._reporting = False
            if not self._of_a_group:
                self._tell(f"System OOM encountered, victim process: {found['name']}, pid: {found['pid']}")


async def watch(tell: Callable[[str], None], path: Path = Path("/dev/kmsg")) -> None:
    """Until cancelled. Of what is said from now on; of nothing where the log is not ours to read, or is none (in a
    container something else may be in its place)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        log.info("the kernel's log is not read: %s", error)
        return
    found = os.fstat(descriptor)
    if not (stat.S_ISFIFO(found.st_mode) or (stat.S_ISCHR(found.st_mode) and found.st_rdev == _DEVICE)):
        os.close(descriptor)
        log.info("the kernel's log is not read: %s is something else", path)
        return
    reports = Reports(tell)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    again: asyncio.Handle | None = None

    def read() -> None:
        nonlocal again
        try:
            while record := os.read(descriptor, _RECORD_BYTES):
                # `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`, and lines of values that begin with a space
                _, _, text = record.decode(errors="replace").partition(";")
                reports.line(text.partition("\n")[0])
            over.set()
        except BlockingIOError:
            return
        except BrokenPipeError:  # others have written more than there is room for, and the rest comes with the next one
            again = loop.call_soon(read)
        except OSError as error:
            log.info("the kernel's log is not read any more: %s", error)
            over.set()

    try:
        with suppress(OSError):  # what is no device has no end to begin at
            os.lseek(descriptor, 0, os.SEEK_END)
        loop.add_reader(descriptor, read)
        await over.wait()
    finally:
        if again is not None:
            again.cancel()
        loop.remove_reader(descriptor)
        os.close(descriptor)
