"""Tells people of resolvers that do not answer: in the log, and in events of the Service that is the cluster's DNS."""

from __future__ import annotations

import asyncio
import logging

from kubecore import _native
from kubecore.api import meta
from kubecore.client.events import EventRecorder
from kubecore.client.informer import SharedInformer

log = logging.getLogger(__name__)

NAMESPACE, NAME = "kube-system", "kube-dns"
"""Of that Service."""


class ResolverTroubles:
    """`follow` until `close`."""

    def __init__(self, server: _native.DnsServer, services: SharedInformer, recorder: EventRecorder) -> None:
        self._server = server
        self._services = services
        self._recorder = recorder
        self._known: dict[str, str] = {}

    def follow(self) -> None:
        asyncio.get_running_loop().add_reader(self._server.fileno(), self.tell)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._server.fileno())

    def tell(self) -> None:
        """What is new since the last time."""
        now = self._server.troubles()
        for resolver, why in now.items():
            if self._known.get(resolver) != why:
                self._event("Warning", "ResolverUnreachable", f"resolver {resolver} does not answer: {why}")
        for resolver in self._known.keys() - now.keys():
            self._event("Normal", "ResolverReachable", f"resolver {resolver} answers again, or is asked no more")
        self._known = now

    def _event(self, kind: str, reason: str, message: str) -> None:
        log.log(logging.WARNING if kind == "Warning" else logging.INFO, "DNS: %s", message)
        service = self._services.get(meta.make_key(NAMESPACE, NAME))
        if service is not None:
            self._recorder.event(service, kind, reason, message)
