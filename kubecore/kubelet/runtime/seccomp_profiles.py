"""Seccomp profiles of type `Localhost`: files of the node, in the JSON that runtimes share.

Source: OCI runtime specification, `config-linux.md`, "Seccomp"; for what they leave open, how runc reads them: names of
calls that this machine has not are passed over, as are rules that say what happens anyway, and conditions on one
argument that is named twice are alternatives.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

from kubecore import _native
from kubecore.kubelet.runtime.interface import ContainerConfig, RuntimeFailure
from kubecore.kubelet.runtime.isolation import Isolation
from kubecore.kubelet.runtime.seccomp import Object, argument, compiled

_EPERM, _ENOSYS = 1, 38
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64"}
_MASKED = "SCMP_CMP_MASKED_EQ"
_OPERATORS = {
    "SCMP_CMP_EQ": "eq",
    "SCMP_CMP_NE": "ne",
    "SCMP_CMP_LT": "lt",
    "SCMP_CMP_LE": "le",
    "SCMP_CMP_GT": "gt",
    "SCMP_CMP_GE": "ge",
}
_ACTIONS: Mapping[str, str] = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_KILL_PROCESS": "kill_process",
}
_WITH_NUMBER = {"SCMP_ACT_ERRNO": "errno", "SCMP_ACT_TRACE": "trace"}

_Word = Annotated[int, msgspec.Meta(ge=0)]

Action = str | tuple[str, int]
"""As seccompiler has it, a number with those that tell one."""


class BadProfile(Exception):
    """The text says what is wrong with it."""


class _Argument(msgspec.Struct, rename="camel"):
    index: Annotated[int, msgspec.Meta(ge=0, le=5)]
    value: _Word
    op: str
    value_two: _Word = 0


class _Rule(msgspec.Struct, rename="camel"):
    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[_Argument] | None = None


class _Profile(msgspec.Struct, rename="camel"):
    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    syscalls: list[_Rule] | None = None


def profile_of(config: ContainerConfig, isolation: Isolation) -> tuple[_native.SyscallFilter, ...]:
    """What a container's processes are to be filtered by. Raises RuntimeFailure."""
    kind, _, path = config.seccomp.partition("/")
    if kind != "localhost":
        return ()
    if not isolation.namespaces:
        raise RuntimeFailure("CreateContainerError", f"seccomp profiles need namespaces: {isolation.reason}")
    try:
        return read_profile(Path(path))
    except BadProfile as error:
        raise RuntimeFailure("CreateContainerError", f"failed to load seccomp profile: {error}") from error
    except OSError as error:
        text = f"failed to load seccomp profile: open {path}: {error.strerror}"
        raise RuntimeFailure("CreateContainerError", text) from error


def read_profile(path: Path) -> tuple[_native.SyscallFilter, ...]:
    """To be set all: of several, the kernel heeds the one that refuses most. Raises BadProfile, OSError."""
    try:
        return filters_of(msgspec.json.decode(path.read_bytes(), type=_Profile))
    except msgspec.DecodeError as error:
        raise BadProfile(f"decoding seccomp profile failed: {error}") from error


def filters_of(profile: _Profile) -> tuple[_native.SyscallFilter, ...]:
    own = _ARCHITECTURES.get(platform.machine(), "")
    if profile.architectures and own not in profile.architectures:
        raise BadProfile(f"the profile is not for this machine ({own})")
    default = _action(profile.default_action, profile.default_errno_ret)
    rules: dict[Action, list[Object]] = defaultdict(list)
    for rule in profile.syscalls or ():
        action = _action(rule.action, rule.errno_ret)
        if action != default:
            rules[action] += _rules(rule)
    # By whether it refuses that others are set after it.
    filters = [
        (_names_seccomp(told), _filter("allow", action, told))
        for action, told in rules.items()
        if action != "allow" and told
    ]
    if default != "allow":
        # What has a rule of its own is the other filters' matter.
        everything = [one for told in rules.values() for one in told]
        filters.append((not _names_seccomp(everything), _filter(default, "allow", everything)))
    return tuple(one for _, one in sorted(filters, key=lambda found: found[0]))


def _names_seccomp(rules: list[Object]) -> bool:
    return any(rule["syscall"] == "seccomp" for rule in rules)


def _action(name: str, number: int | None) -> Action:
    if name in _WITH_NUMBER:
        return _WITH_NUMBER[name], _EPERM if number is None else number
    try:
        return _ACTIONS[name]
    except KeyError:
        raise BadProfile(f"action {name!r} is not supported") from None


def _rules(rule: _Rule) -> list[Object]:
    conditions = [_condition(one) for one in rule.args or ()]
    indices = [one.index for one in rule.args or ()]
    alternatives = [[one] for one in conditions] if len(set(indices)) < len(indices) else [conditions]
    return [
        {"syscall": name, "args": wanted} if wanted else {"syscall": name}
        for name in rule.names
        if _is_known(name)
        for wanted in alternatives
    ]


def _condition(told: _Argument) -> Object:
    if told.op == _MASKED:
        return argument(told.index, {"masked_eq": told.value}, told.value_two, "qword")
    try:
        return argument(told.index, _OPERATORS[told.op], told.value, "qword")
    except KeyError:
        raise BadProfile(f"operator {told.op!r} is not supported") from None


@cache
def _is_known(name: str) -> bool:
    try:
        compiled("allow", {"errno": _ENOSYS}, [{"syscall": name}])
    except ValueError:
        return False
    return True


def _filter(otherwise: Action, matched: Action, rules: list[Object]) -> _native.SyscallFilter:
    def told(action: Action) -> str | Object:
        return action if isinstance(action, str) else {action[0]: action[1]}

    try:
        return compiled(told(otherwise), told(matched), list(_merged(rules)))
    except ValueError as error:
        raise BadProfile(f"the profile cannot be loaded: {error}") from error


def _merged(rules: list[Object]) -> Iterator[Object]:
    """A rule without conditions makes those with some needless; beside them, seccompiler forgets it."""
    always = {rule["syscall"] for rule in rules if "args" not in rule}
    yield from ({"syscall": name} for name in sorted(always))
    yield from (rule for rule in rules if rule["syscall"] not in always)
