"""The seccomp profile `RuntimeDefault`: system calls that a container has no use for are refused with EPERM.

What is refused is what Docker's and containerd's default profiles leave out, given back by the same capabilities; calls
that the kernel is to learn yet are not. (docs.docker.com/engine/security/seccomp, "Significant syscalls blocked".)
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import orjson

from kubecore import _native

Object = dict[str, Any]

EPERM, ENOSYS = 1, 38
NEW_NAMESPACES = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
REFUSED_FAMILIES = (40, 38)
"""Of sockets: AF_VSOCK, AF_ALG."""

# By the capability that gives them back; "" for none.
_REFUSED: Mapping[str, str] = {
    "": (
        "add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl lookup_dcookie "
        "move_pages nfsservctl request_key swapoff swapon userfaultfd"
    ),
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": (
        "fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root quotactl "
        "quotactl_fd setdomainname sethostname setns umount2 unshare"
    ),
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp process_vm_readv process_vm_writev",
    "SYS_TIME": "clock_adjtime clock_settime settimeofday",
    "SYS_TTY_CONFIG": "vhangup",
}
_REFUSED_ON_X86: Mapping[str, str] = {
    "": "_sysctl create_module get_kernel_syms query_module sysfs uselib ustat",
    "SYS_RAWIO": "ioperm iopl",
}


def refused(capabilities: Collection[str], machine: str = "") -> list[str]:
    """Names of calls that are refused whatever their arguments, to a container with these capabilities."""
    tables = [_REFUSED]
    if (machine or platform.machine()) == "x86_64":
        tables.append(_REFUSED_ON_X86)
    return sorted(
        name
        for table in tables
        for capability, names in table.items()
        if capability not in capabilities
        for name in names.split()
    )


@cache
def runtime_default(capabilities: frozenset[str]) -> tuple[_native.SyscallFilter, ...]:
    """To be set all, for a container with these capabilities."""
    rules: list[Object] = [{"syscall": name} for name in refused(capabilities)]
    rules += [{"syscall": "socket", "args": [argument(0, "eq", family)]} for family in REFUSED_FAMILIES]
    rules.append({"syscall": "personality", "args": [argument(0, "ne", known) for known in PERSONALITIES]})
    filters = []
    if "SYS_ADMIN" not in capabilities:
        rules += [{"syscall": "clone", "args": [argument(0, {"masked_eq": flag}, flag)]} for flag in NEW_NAMESPACES]
        # Its flags are out of a filter's sight; the C library takes clone(2) then.
        filters.append(_filter([{"syscall": "clone3"}], ENOSYS))
    filters.append(_filter(rules, EPERM))
    return tuple(filters)


def argument(index: int, operator: str | Object, value: int, kind: str = "dword") -> Object:
    """A condition of seccompiler's JSON on one argument of a call."""
    return {"index": index, "type": kind, "op": operator, "val": value}


def compiled(otherwise: str | Object, matched: str | Object, rules: list[Object]) -> _native.SyscallFilter:
    """What happens to calls that no rule is for, and to the others. Raises ValueError."""
    profile = {"main": {"mismatch_action": otherwise, "match_action": matched, "filter": rules}}
    return _native.SyscallFilter(orjson.dumps(profile))


def _filter(rules: list[Object], errno: int) -> _native.SyscallFilter:
    return compiled("allow", {"errno": errno}, rules)
