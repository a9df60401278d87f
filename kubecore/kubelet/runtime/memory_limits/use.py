"""What memory processes have, from /proc: what a control group of theirs would be charged for and could not give back,
which is anonymous memory, in swap or not, and shared memory with files in memory (tmpfs). Pages of files on disks do
not count, since the kernel drops those first, nor does what the kernel itself keeps for processes.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from kubecore.kubelet import proc_files
from kubecore.kubelet.runtime.memory_limits.owners import Owners, Process, told_of
from kubecore.kubelet.runtime.system_calls import IN_ROOT, NO_MAGIC_LINKS, libc, open_within

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
# proc(5), flags of a process: PF_FORKNOEXEC.
_NO_PROGRAM_YET = 0x40
_BORROWS_SECONDS = 2
# kcmp(2), by architecture, and its KCMP_VM.
_KCMP = {"x86_64": 312, "aarch64": 272}
_MEMORY = 1
_TAKEN = re.compile(rb"^(AnonPages|Shmem|SwapTotal|SwapFree): *(\d+) kB", re.MULTILINE)
_GONE = (errno.ENOENT, errno.ESRCH)


class Glance(NamedTuple):
    """Bytes, cheap to have: what several processes share counts as often. `shared`: pages of files with those of shared
    memory."""

    anonymous: int = 0
    shared: int = 0


class Measure(NamedTuple):
    """Bytes, each page once. `shared`: of shared memory, with mapped files of a tmpfs. `heaviest`: whom the kernel
    would end first."""

    anonymous: int = 0
    shared: int = 0
    heaviest: Process | None = None


class Machine(NamedTuple):
    """Bytes that all processes have together: by how much this grows, no container can have grown by more. `swapped`:
    what of it is in swap."""

    taken: int
    swapped: int


class Folder(NamedTuple):
    """A file system in memory. `descriptor` keeps it where it can be asked, whatever its container does."""

    device: int
    descriptor: int


class MemoryUse:
    """Of this machine; `watch.Reader`. Not for the event loop, but for `machine`."""

    def __init__(self) -> None:
        self._owners = Owners()
        self._meminfo = -1
        self.total = os.sysconf("SC_PHYS_PAGES") * _PAGE

    def processes(self, roots: Mapping[Process, str], marks: Mapping[str, str]) -> Mapping[str, Collection[Process]]:
        return self._owners.look(roots, marks)

    def machine(self) -> Machine | None:
        """None where the kernel does not tell."""
        try:
            if self._meminfo < 0:
                self._meminfo = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
            told = {name: int(value) << 10 for name, value in _TAKEN.findall(os.pread(self._meminfo, 1 << 14, 0))}
            if not told[b"AnonPages"]:  # there is no such machine
                return None
            swapped = told[b"SwapTotal"] - told[b"SwapFree"]
            return Machine(told[b"AnonPages"] + told[b"Shmem"] + swapped, swapped)
        except (OSError, KeyError, ValueError):
            return None

    def glance(self, processes: Iterable[Process]) -> Glance:
        anonymous = together = 0
        for one in processes:
            try:
                _, resident, shared, _ = proc_files.content(f"/proc/{one.pid}/statm").split(None, 3)
            except (OSError, ValueError):  # it has ended
                continue
            anonymous += int(resident) - int(shared)
            together += int(shared)
        return Glance(anonymous * _PAGE, together * _PAGE)

    def measure(self, processes: Iterable[Process], enough: int) -> Measure:
        """Dear where there is much. `enough`: what is not above that, or not even if what several share is counted as
        often, need not be known any better."""
        living = _with_memory_of_their_own(processes)
        found = {one: _by_status(one.pid) for one in living}
        heaviest = max(living, key=lambda one: self._weight(one, found[one]), default=None)
        if sum(one.anonymous + one.shared for one in found.values()) > enough:
            found = {one: _by_mappings(one.pid) or found[one] for one in living}
        anonymous = sum(one.anonymous for one in found.values())
        return Measure(anonymous, sum(one.shared for one in found.values()), heaviest)

    def _weight(self, process: Process, has: Measure) -> int:
        """As the kernel's (`oom_badness`), but for what it keeps for a process itself."""
        adjusted = 0
        with suppress(OSError, ValueError):
            adjusted = int(proc_files.content(f"/proc/{process.pid}/oom_score_adj"))
        return has.anonymous + has.shared + adjusted * (self.total // 1000)

    def in_folder(self, folder: Folder) -> int:
        with suppress(OSError):
            disk = os.fstatvfs(folder.descriptor)
            return (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        return 0


def folders_of(pid: int, paths: Iterable[str]) -> tuple[Folder, ...]:
    """Of file systems in memory that a process sees at these paths; without what cannot be had."""
    found: dict[int, Folder] = {}
    with suppress(OSError):
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in paths:
                with suppress(OSError):
                    descriptor = open_within(root, path, os.O_PATH, limits=IN_ROOT | NO_MAGIC_LINKS)
                    folder = Folder(os.fstat(descriptor).st_dev, descriptor)
                    if found.setdefault(folder.device, folder) is not folder:
                        os.close(descriptor)
        finally:
            os.close(root)
    return tuple(found.values())


def process_of(pid: int) -> Process | None:
    """None of one that is gone."""
    told = told_of(pid)
    return Process(pid, told.began) if told is not None else None


def kill(process: Process) -> bool:
    """And never another one that has its number. False if it had ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        told = told_of(process.pid)  # which is of whom the descriptor is, if that lives on
        if told is None or told.began != process.began or told.state in "ZX":
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _with_memory_of_their_own(processes: Iterable[Process]) -> Sequence[Process]:
    """Those that live still, without who was born to run a program and borrows its parent's memory until then
    (vfork(2))."""
    told = {one: found for one in processes if (found := told_of(one.pid)) is not None and found.began == one.began}
    there = {one.pid for one in told}
    return [
        one
        for one, found in told.items()
        if found.state not in "ZX"
        and not (found.flags & _NO_PROGRAM_YET and found.parent in there and _borrows(one, found.parent))
    ]


def _borrows(process: Process, parent: int) -> bool:
    """Its parent's memory. Where the kernel does not tell, whoever is young enough is believed to."""
    if (number := _KCMP.get(platform.machine())) is not None:
        differs = libc.syscall(number, process.pid, parent, _MEMORY, 0, 0)
        if differs >= 0:
            return bool(differs == 0)
    # Rounded: 71460.51 s times 100 is less than 7146051, before who began just now.
    ticks = round(float(proc_files.content("/proc/uptime").split()[0]) * _TICKS)
    return ticks - process.began < _BORROWS_SECONDS * _TICKS


def _by_status(pid: int) -> Measure:
    """With all that it shares."""
    with suppress(OSError):
        told = _numbers(proc_files.content(f"/proc/{pid}/status"))
        return Measure(told.get(b"RssAnon", 0) + told.get(b"VmSwap", 0), told.get(b"RssShmem", 0))
    return Measure()


def _by_mappings(pid: int) -> Measure | None:
    """Of what it shares the share, and without what it has given up, which the kernel takes when it needs some
    (madvise(2), MADV_FREE). None where that is not told."""
    try:
        told = _numbers(proc_files.content(f"/proc/{pid}/smaps_rollup"))
        anonymous = told[b"Pss_Anon"] + told.get(b"SwapPss", 0) - told.get(b"LazyFree", 0)
        return Measure(max(0, anonymous), told[b"Pss_Shmem"])
    except KeyError:
        return None
    except OSError as error:
        return Measure() if error.errno in _GONE else None


def _numbers(text: bytes) -> dict[bytes, int]:
    """Of lines that tell kilobytes, in bytes."""
    found = {}
    for line in text.split(b"\n"):
        name, _, rest = line.partition(b":")
        if rest.endswith(b" kB"):
            found[name] = int(rest[:-3]) * 1024
    return found
