"""What root may do in a container, by capability."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kubecore.kubelet import proc_files

# In the kernel's order (man 7 capabilities).
_IN_ORDER = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
_NAMES = _IN_ORDER.split()
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}

_BY_DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID "
    "SYS_CHROOT"
)
DEFAULT = frozenset(_BY_DEFAULT.split())
"""What containers have that ask for nothing, as with containerd."""
ALL = frozenset(_NAMES)


class UnknownCapability(Exception):
    """The text is the capability's name."""


def resulting(add: Iterable[str], drop: Iterable[str]) -> frozenset[str]:
    """The default ones with those added and without those dropped; `ALL` stands for every one, and gives way to what is
    named, as containerd has it. Raises UnknownCapability.
    """
    added, dropped = {_plain(name) for name in add}, {_plain(name) for name in drop}
    base = frozenset[str]() if "ALL" in dropped else ALL if "ALL" in added else DEFAULT
    return (base | (added - {"ALL"})) - dropped


def _plain(name: str) -> str:
    plain = name.upper().removeprefix("CAP_")
    if plain != "ALL" and plain not in _NUMBERS:
        raise UnknownCapability(name)
    return plain


def mask(names: Iterable[str]) -> int:
    """A bit for each."""
    return sum(1 << _NUMBERS[name] for name in set(names))


def has_of_host(name: str, process: Path = Path("/proc/self")) -> bool:
    """Whether it has it towards the host, and not only in a user namespace."""
    users = next(iter(proc_files.lines(process / "uid_map")), "").split()
    if users != ["0", "0", str(2**32 - 1)]:
        return False
    effective = [line for line in proc_files.lines(process / "status") if line.startswith("CapEff:")]
    return bool(effective) and bool(int(effective[0].split()[1], 16) >> _NUMBERS[name] & 1)


def of_this_process(status: Path = Path("/proc/self/status")) -> frozenset[str]:
    """Those that this process could hand on."""
    for line in proc_files.lines(status):
        if line.startswith("CapBnd:"):
            held = int(line.split()[1], 16)
            return frozenset(name for name, number in _NUMBERS.items() if held >> number & 1)
    return frozenset()
