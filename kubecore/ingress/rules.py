"""What an Ingress asks for, in the terms of the proxy: pure functions of the object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import meta
from kubecore.ingress.terms import DEFAULT, Terms, read, without_effect

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is told in an event of the Ingress."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class BackendRef:
    """A Service's port, by number or name; its Service's key; how it is spoken to."""

    service: str
    port: int | str
    terms: Terms = DEFAULT

    @property
    def name(self) -> str:
        """How the proxy, its log and its metrics call it. Terms of an Ingress's own make it a backend of its own."""
        name = f"{self.service}:{self.port}"
        if self.terms == DEFAULT:
            return name
        return f"{name}~{hashlib.blake2s(repr(self.terms).encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Path:
    exact: bool
    path: str
    backend: BackendRef


@dataclass(slots=True)
class Compiled:
    """An Ingress's rules. `hosts` holds a list, empty too, for every host that is named; "" is the one of rules without
    a host. `tls` are (host, key of the Secret); the host "" stands for all names without a certificate of their own."""

    key: str
    created: str = ""
    hosts: dict[str, list[Path]] = field(default_factory=dict)
    default: BackendRef | None = None
    tls: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def age(self) -> tuple[str, str]:
        """The older one has its way where two ask for the same."""
        return (self.created, self.key)

    def backends(self) -> set[BackendRef]:
        found = {one.backend for paths in self.hosts.values() for one in paths}
        return found | {self.default} if self.default else found

    def shown_secrets(self) -> set[str]:
        """Whose certificates are shown to clients."""
        return {secret for _, secret in self.tls}

    def secrets(self) -> set[str]:
        """All that are to be followed."""
        return self.shown_secrets() | {one.terms.tls_secret for one in self.backends() if one.terms.tls_secret}


def compile_ingress(ingress: Object) -> Compiled:
    """ImplementationSpecific paths are taken as Prefix; one without a path is the prefix of all."""
    spec = ingress.get("spec") or {}
    made = Compiled(meta.key(ingress), created=(ingress.get("metadata") or {}).get("creationTimestamp") or "")
    space = meta.namespace(ingress)
    terms, wrong = read(ingress)
    made.problems += [Problem("BadAnnotation", text) for text in wrong]
    if unread := without_effect(ingress):
        text = f"annotations that have no effect here: {', '.join(unread)}"
        made.problems.append(Problem("UnsupportedAnnotation", text))
    if spec.get("defaultBackend"):
        made.default = _backend(spec["defaultBackend"], space, terms, "spec.defaultBackend", made.problems)
    for index, rule in enumerate(spec.get("rules") or ()):
        paths = made.hosts.setdefault((rule.get("host") or "").lower(), [])
        for number, one in enumerate((rule.get("http") or {}).get("paths") or ()):
            where = f"spec.rules[{index}].http.paths[{number}].backend"
            backend = _backend(one.get("backend") or {}, space, terms, where, made.problems)
            if backend is not None:
                paths.append(Path(one.get("pathType") == "Exact", one.get("path") or "/", backend))
    made.tls = list(_tls(spec, space, list(made.hosts)))
    return made


def _backend(backend: Object, space: str, terms: Terms, where: str, problems: list[Problem]) -> BackendRef | None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource:
        what = f"{resource.get('kind')} {resource.get('name')!r}"
        text = f"{where}: {what} cannot be a backend: resource backends are not supported, only Services are"
        problems.append(Problem("UnsupportedBackend", text))
        return None
    if not service:
        return None
    port = service.get("port") or {}
    key = meta.make_key(space, service.get("name") or "")
    return BackendRef(key, port.get("number") or port.get("name") or 0, terms)


def _tls(spec: Object, space: str, hosts: list[str]) -> Iterator[tuple[str, str]]:
    """Where an entry names no hosts it is for those of the rules; without a Secret the default certificate is shown."""
    for entry in spec.get("tls") or ():
        if not entry.get("secretName"):
            continue
        for host in entry.get("hosts") or hosts or ("",):
            yield host.lower(), meta.make_key(space, entry["secretName"])
