"""All Ingresses together: who has which host and path. Pure; the older Ingress has its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kubecore.ingress.rules import BackendRef, Compiled, Path, Problem

HostSpec = tuple[list[tuple[bool, str, str, str]], tuple[str, str] | None]
"""((exact, path, backend, Ingress) ..., (default backend, Ingress)), as `_native.IngressProxy.set_hosts` takes it."""


def host_spec(host: str, ingresses: Iterable[Compiled]) -> HostSpec | None:
    """What the proxy is to know of a host; None when no Ingress names it."""
    naming = sorted((one for one in ingresses if host in one.hosts), key=lambda one: one.age)
    if not naming:
        return None
    routes = [(path.exact, path.path, path.backend.name, owner.key) for owner, path in _winners(host, naming)]
    default = next(((one.default.name, one.key) for one in naming if one.default), None)
    return routes, default


def conflicts(host: str, ingresses: Iterable[Compiled]) -> Iterator[tuple[str, Problem]]:
    """(key of the Ingress, problem) of those whose path an older Ingress has."""
    owners: dict[tuple[bool, str], str] = {}
    for one in sorted((one for one in ingresses if host in one.hosts), key=lambda one: one.age):
        for path in one.hosts[host]:
            owner = owners.setdefault(_identity(path), one.key)
            if owner != one.key:
                kind = "Exact" if path.exact else "Prefix"
                text = f"{kind} path {path.path!r} of host {host or '*'} belongs to Ingress {owner}, which is older"
                yield one.key, Problem("Conflict", text)


def fallback(ingresses: Iterable[Compiled], of_class: tuple[BackendRef, str] | None = None) -> tuple[str, str] | None:
    """(backend, whose) for requests that nothing else is for: the default backend of the oldest Ingress that has one,
    else the class's."""
    oldest = min((one for one in ingresses if one.default), key=lambda one: one.age, default=None)
    if oldest is not None and oldest.default is not None:
        return oldest.default.name, oldest.key
    return (of_class[0].name, of_class[1]) if of_class else None


def _winners(host: str, oldest_first: Iterable[Compiled]) -> Iterator[tuple[Compiled, Path]]:
    seen: set[tuple[bool, str]] = set()
    for one in oldest_first:
        for path in one.hosts[host]:
            if _identity(path) not in seen:
                seen.add(_identity(path))
                yield one, path


def _identity(path: Path) -> tuple[bool, str]:
    return (path.exact, path.path if path.exact else path.path.rstrip("/"))
