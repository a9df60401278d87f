"""Filters of system calls as the OCI runtime specification has them (`config-linux.md`, "Seccomp").

Where it names one argument several times, runc takes the conditions for alternatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from kubecore.kubelet.runtime import seccomp
from kubecore.kubelet.runtime.interface import ContainerConfig

Object = dict[str, Any]

_ALL_BITS = range(32)


def section(config: ContainerConfig, capabilities: frozenset[str]) -> Object | None:
    """None for no filter. A profile of the node has been read before and found right. Raises OSError."""
    kind, _, path = config.seccomp.partition("/")
    if kind == "localhost":
        profile: Object = orjson.loads(Path(path).read_bytes())
        return profile
    return runtime_default(capabilities) if kind == "runtime-default" else None


def runtime_default(capabilities: frozenset[str]) -> Object:
    """The same as `seccomp.runtime_default`."""
    rules = [_rule(seccomp.refused(capabilities))]
    rules += [_rule(["socket"], _argument(0, "EQ", family)) for family in seccomp.REFUSED_FAMILIES]
    rules += [_rule(["personality"], one) for one in _unknown_personalities()]
    if "SYS_ADMIN" not in capabilities:
        rules += [_rule(["clone"], _argument(0, "MASKED_EQ", flag, flag)) for flag in seccomp.NEW_NAMESPACES]
        rules.append({**_rule(["clone3"]), "errnoRet": seccomp.ENOSYS})
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def _unknown_personalities() -> Iterator[Object]:
    """Conditions of which none is true of a known personality, and one at least of every other: known are those that
    set nothing but a few bits, and the one that sets all and only asks. The others' further bits, in a circle, have one
    that is set before one that is not; or they are all set, and one of the few is not."""
    few = [bit for bit in _ALL_BITS if any(one >> bit & 1 for one in seccomp.PERSONALITIES if one != 0xFFFFFFFF)]
    further = [bit for bit in _ALL_BITS if bit not in few]
    pairs = list(zip(further, [*further[1:], further[0]], strict=True))
    pairs += [(further[0], bit) for bit in few]
    for set_bit, clear_bit in pairs:
        yield _argument(0, "MASKED_EQ", 1 << set_bit | 1 << clear_bit, 1 << set_bit)


def _rule(names: list[str], *arguments: Object) -> Object:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": seccomp.EPERM, "args": list(arguments)}


def _argument(index: int, operator: str, value: int, second: int = 0) -> Object:
    return {"index": index, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{operator}"}
