"""The certificates that are shown: followed in the Secrets that Ingresses name, and in no others."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubecore import _native, self_signed
from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.client.informer import SharedInformer
from kubecore.clock import Clock
from kubecore.ingress import validity
from kubecore.ingress.rules import Problem

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


class Secrets:
    """Follows single Secrets. `changed` is called with the key of one that has come, changed or gone."""

    def __init__(self, client: Client, clock: Clock, changed: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._changed = changed
        self._followed: dict[str, tuple[SharedInformer, asyncio.Task[None]]] = {}

    def follow(self, keys: Iterable[str]) -> None:
        """These, and none besides."""
        wanted = set(keys)
        for key in self._followed.keys() - wanted:
            self._followed.pop(key)[1].cancel()
        for key in sorted(wanted - self._followed.keys()):
            informer = self._informer(key)
            task = asyncio.create_task(self._run(key, informer), name=f"secret {key}")
            self._followed[key] = (informer, task)

    def get(self, key: str) -> Object | None:
        """None also while it is not known whether there is one (see `known`)."""
        followed = self._followed.get(key)
        return followed[0].get(key) if followed else None

    def known(self, key: str) -> bool:
        followed = self._followed.get(key)
        return followed is not None and followed[0].synced

    async def stop(self) -> None:
        tasks = [task for _, task in self._followed.values()]
        self._followed.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _informer(self, key: str) -> SharedInformer:
        space, name = meta.split_key(key)
        selector = f"metadata.name={name}"
        informer = SharedInformer(self._client, self._clock, "secrets", namespace=space, field_selector=selector)

        def changed(*_: object) -> None:
            self._changed(key)

        informer.add_handler(changed, changed, changed)
        return informer

    async def _run(self, key: str, informer: SharedInformer) -> None:
        async def tell_of_first_list() -> None:
            await informer.wait_synced()
            # There may be nothing in it, of which no handler is told.
            self._changed(key)

        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            group.create_task(tell_of_first_list())


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a Secret has: a certificate and what is to be known of it, or what is wrong with the Secret; where something
    is wrong with it now, what it had before."""

    certificate: _native.IngressCertificate | None = None
    facts: validity.Facts | None = None
    problem: Problem | None = None


class Certificates:
    """Parsed certificates, each once for as long as its Secret stays as it is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parsed: dict[str, tuple[str, Parsed]] = {}
        self._default: _native.IngressCertificate | None = None

    def default(self) -> _native.IngressCertificate:
        """Self-made, for names that no Secret is for; another one after each start."""
        if self._default is None:
            made = self_signed.make("kubecore ingress default certificate", self._clock, hosts=["ingress.local"])
            self._default = _native.IngressCertificate(*made)
        return self._default

    def parse(self, secret: Object) -> Parsed:
        key = meta.key(secret)
        version = f"{meta.uid(secret)}/{meta.resource_version(secret)}"
        known = self._parsed.get(key)
        if known is None or known[0] != version:
            before = known[1] if known is not None and known[0].startswith(meta.uid(secret) + "/") else None
            known = self._parsed[key] = (version, _or_before(_parse(secret), before))
        return known[1]

    def forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._parsed.pop(key, None)


def _or_before(now: Parsed, before: Parsed | None) -> Parsed:
    """Clients are not to lose a certificate for somebody's slip; who wants it shown no more deletes the Secret."""
    if now.problem is None or before is None or before.certificate is None:
        return now
    told = f"{now.problem.message}: the certificate that it had before is shown on"
    return replace(before, problem=Problem(now.problem.reason, told))


def _parse(secret: Object) -> Parsed:
    data = secret.get("data") or {}
    missing = [name for name in ("tls.crt", "tls.key") if not data.get(name)]
    if missing:
        text = f"Secret {meta.key(secret)} has no {' and no '.join(missing)}"
        return Parsed(problem=Problem("BadCertificate", text))
    try:
        chain, key = (base64.b64decode(data[name], validate=True) for name in ("tls.crt", "tls.key"))
        return Parsed(_native.IngressCertificate(chain, key), validity.read(chain))
    except (ValueError, binascii.Error) as error:
        text = f"Secret {meta.key(secret)} cannot be used: {error}"
        return Parsed(problem=Problem("BadCertificate", text))
