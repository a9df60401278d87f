"""All compiled Ingresses, and who refers to what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from kubecore.ingress.rules import BackendRef, Compiled

K = TypeVar("K")


class Book:
    """The indexes hold exactly what the Ingresses in it refer to; an empty entry is none."""

    def __init__(self) -> None:
        self._held: dict[str, Compiled] = {}
        self._by_host: dict[str, set[str]] = {}
        self._by_backend: dict[BackendRef, set[str]] = {}
        self._by_service: dict[str, set[BackendRef]] = {}
        self._by_secret: dict[str, set[str]] = {}
        self._with_default: set[str] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def get(self, key: str) -> Compiled | None:
        return self._held.get(key)

    def keys(self) -> list[str]:
        return list(self._held)

    def put(self, key: str, ingress: Compiled | None) -> set[str]:
        """None takes it out. Returns the hosts it names now or named before."""
        before = self._held.pop(key, None)
        if before is not None:
            self._strike(before)
        if ingress is not None:
            self._held[key] = ingress
            self._enter(ingress)
        return {host for one in (before, ingress) if one is not None for host in one.hosts}

    # ------------------------------------------------------------------ who refers to what
    def naming(self, host: str) -> list[Compiled]:
        return self._of(self._by_host.get(host, ()))

    def with_default(self) -> list[Compiled]:
        return self._of(self._with_default)

    def backends(self) -> set[BackendRef]:
        return set(self._by_backend)

    def backends_of(self, service: str) -> set[BackendRef]:
        return self._by_service.get(service, set())

    def using(self, backend: BackendRef) -> set[str]:
        return self._by_backend.get(backend, set())

    def secrets(self) -> set[str]:
        return set(self._by_secret)

    def showing(self, secret: str) -> set[str]:
        return self._by_secret.get(secret, set())

    def with_secrets(self) -> list[Compiled]:
        """Oldest first."""
        return sorted(self._of(set().union(*self._by_secret.values())), key=lambda one: one.age)

    def _of(self, keys: Iterable[str]) -> list[Compiled]:
        return [self._held[key] for key in keys]

    def _enter(self, one: Compiled) -> None:
        for host in one.hosts:
            self._by_host.setdefault(host, set()).add(one.key)
        for backend in one.backends():
            self._by_backend.setdefault(backend, set()).add(one.key)
            self._by_service.setdefault(backend.service, set()).add(backend)
        for secret in one.secrets():
            self._by_secret.setdefault(secret, set()).add(one.key)
        if one.default is not None:
            self._with_default.add(one.key)

    def _strike(self, one: Compiled) -> None:
        for host in one.hosts:
            _remove(self._by_host, host, one.key)
        for backend in one.backends():
            _remove(self._by_backend, backend, one.key)
            if backend not in self._by_backend:
                _remove(self._by_service, backend.service, backend)
        for secret in one.secrets():
            _remove(self._by_secret, secret, one.key)
        self._with_default.discard(one.key)


V = TypeVar("V")


def _remove(index: dict[K, set[V]], name: K, value: V) -> None:
    index[name].discard(value)
    if not index[name]:
        del index[name]
