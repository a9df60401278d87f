"""What a check finds wrong with a pod, and the words that its messages share.

After upstream k8s.io/pod-security-admission `policy/{checks,helpers,visitor}.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

JSON = dict[str, Any]


class Finding(NamedTuple):
    """Why a pod is not allowed: shortly, and with what of it is wrong."""

    reason: str
    detail: str


# (metadata, spec) of a pod or of a template; None: the pod is allowed.
Check = Callable[[JSON, JSON], Finding | None]


def containers(spec: JSON) -> Iterator[JSON]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def context(holder: JSON) -> JSON:
    """The security context of a pod's spec or of a container; empty where there is none."""
    return holder.get("securityContext") or {}


def listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def plural(singular: str, count: int) -> str:
    return singular if count == 1 else f"{singular}s"


def named(noun: str, names: Sequence[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{plural(noun, len(names))} {listed(names)}"


def setters(spec: JSON, wrong: Callable[[JSON], bool]) -> list[str]:
    """Who has a security context that is wrong: the pod and its containers, to be joined by "and"."""
    found = ["pod"] if wrong(context(spec)) else []
    bad = [one["name"] for one in containers(spec) if wrong(context(one))]
    return [*found, named("container", bad)] if bad else found


def in_user_namespace(spec: JSON) -> bool:
    return spec.get("hostUsers") is False


def for_windows(spec: JSON) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"
