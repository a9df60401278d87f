"""The cluster's DNS: keeps the responder's tables at what Services, EndpointSlices and namespaces say."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecore import _native
from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory, SharedInformer
from kubecore.clock import Clock, native_clock
from kubecore.dns.autopath import SearchingPods
from kubecore.dns.records import (
    SERVICE_NAME_LABEL,
    Record,
    Zone,
    namespace_records,
    service_records,
    zone_records,
)
from kubecore.dns.resolvers import ResolverTroubles

log = logging.getLogger(__name__)

Object = dict[str, Any]
Owner = tuple[str, str]
"""(kind, key of the object) whose records are replaced together."""

DNS_PORT = 53
_ZONE_OWNER: Owner = ("zone", "")
_SERVICE_INDEX = "dns/service"
_TURN_SECONDS = 0.005
_PORT_TRIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """`upstreams` are asked for names outside the cluster ("10.0.0.2", "10.0.0.2:5353", "fd00::1"), `stub_domains` have
    resolvers of their own; own addresses among them are passed over, so that no query goes round in circles.
    `autopath`: a pod's search path, which goes on with `searches` after the cluster's domains, is gone through here, so
    that a name outside the cluster costs it one query. `gather_seconds`: the first change after a rest is applied at
    once, those that come within this time after it together.
    """

    domain: str = "cluster.local"
    ttl: int = 30
    upstreams: tuple[str, ...] = ()
    stub_domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    autopath: bool = False
    searches: tuple[str, ...] = ()
    gather_seconds: float = 0.01


class DnsResponder:
    """Runs until cancelled, then closes its listeners.

    It may listen before it runs; until its tables are filled for the first time (`ready`), cluster names are answered
    SERVFAIL. While the API server is out of reach it goes on with what it knows. ValueError for a bad domain or
    upstream.
    """

    def __init__(
        self, client: Client, clock: Clock, config: DnsConfig, *, informers: InformerFactory | None = None
    ) -> None:
        self.ready = asyncio.Event()
        self._clock = clock
        self._config = config
        self._zone = Zone(domain=config.domain.strip(".").lower(), ttl=config.ttl)
        self._server = _native.DnsServer(
            self._zone.domain, native_clock(clock), upstreams=config.upstreams, stub_domains=config.stub_domains
        )
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._services = self._informers.informer("services")
        self._slices = self._informers.informer("endpointslices.discovery.k8s.io")
        self._namespaces = self._informers.informer("namespaces")
        self._searching: SearchingPods | None = None
        if config.autopath:
            self._server.set_search(config.searches)
            self._searching = SearchingPods(self._informers.informer("pods"), self._server, self._zone.domain)
        self._recorder = EventRecorder(client, clock, "coredns")
        self._troubles = ResolverTroubles(self._server, self._services, self._recorder)
        self._dirty: dict[Owner, None] = {_ZONE_OWNER: None}
        self._changed = asyncio.Event()
        self._applied: dict[Owner, list[Record]] = {}

    def listen(self, addresses: Sequence[str], port: int, *, ahead: bool = False) -> int:
        """Answer on UDP and TCP on one port of all `addresses`, or of none; returns the port, 0 picks one.

        `ahead`: the addresses need not be on any link yet. OSError when they cannot be had, as bind(2) has it.
        """
        for attempt in range(_PORT_TRIES):
            bound: list[tuple[str, int]] = []
            try:
                for address in addresses:
                    bound.append(self._server.listen(address, bound[0][1] if bound else port, ahead=ahead))
            except OSError as error:
                for one in bound:
                    self._server.close(*one)
                # another address may lack the port that the first one picked
                if port or not bound or error.errno != errno.EADDRINUSE or attempt == _PORT_TRIES - 1:
                    where = _shown([(address, bound[0][1] if bound else port)])
                    text = f"cannot listen on {where} for DNS: {error.strerror} (--dns-port)"
                    raise OSError(error.errno, text) from error
                continue
            break
        self._pass_over_own_addresses()
        self._mark(_ZONE_OWNER)
        return bound[0][1] if bound else port

    def listening(self) -> list[tuple[str, int]]:
        """(address, port) of all listeners."""
        return self._server.listening()

    def answer(self, query: bytes) -> bytes | None:
        """The answer to a DNS message from the tables alone, None for names outside of them."""
        return self._server.answer(query)

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        try:
            self._follow()
            self._troubles.follow()
            await self._informers.start()
            for informer in (self._services, self._slices, self._namespaces):
                await informer.wait_synced()
            if self._searching is not None:
                await self._searching.wait_synced()
            await self._apply_changes(whole=True)
            log.info("DNS answers for %s at %s", self._zone.domain, _shown(self._server.listening()))
            self.ready.set()
            while True:
                await self._changed.wait()
                await self._apply_changes()
                await self._clock.sleep(self._config.gather_seconds)
        finally:
            self.ready.clear()
            self._troubles.close()
            self._server.shutdown()
            await self._recorder.stop()
            if self._own_informers:
                await self._informers.stop()

    # ------------------------------------------------------------------ following
    def _follow(self) -> None:
        self._slices.add_index(_SERVICE_INDEX, _services_of)
        self._watch(self._services, lambda service: [("service", meta.key(service))])
        self._watch(self._slices, lambda piece: [("service", key) for key in _services_of(piece)])
        self._watch(self._namespaces, lambda space: [("namespace", meta.name(space))])

    def _watch(self, informer: SharedInformer, owners: Callable[[Object], Iterable[Owner]]) -> None:
        informer.add_handler(
            on_add=lambda new: self._mark(*owners(new)),
            on_update=lambda old, new: self._mark(*owners(old), *owners(new)),
            on_delete=lambda old: self._mark(*owners(old)),
        )

    def _mark(self, *owners: Owner) -> None:
        for owner in owners:
            self._dirty[owner] = None
        self._changed.set()

    # ------------------------------------------------------------------ applying
    async def _apply_changes(self, *, whole: bool = False) -> None:
        """Bring the tables up to date; others get their turn when it takes long. `whole`: all in one step."""
        self._changed.clear()
        changes: dict[Owner, list[Record]] = {}
        turn_ends = self._clock.monotonic() + _TURN_SECONDS
        while self._dirty:
            owner = next(iter(self._dirty))
            del self._dirty[owner]
            records = self._records(owner)
            if records != self._applied.get(owner, []):
                changes[owner] = records
            else:
                changes.pop(owner, None)
            if self._clock.monotonic() >= turn_ends:
                if not whole:
                    self._put(changes)
                    changes = {}
                await self._clock.sleep(0)
                turn_ends = self._clock.monotonic() + _TURN_SECONDS
        self._put(changes)

    def _records(self, owner: Owner) -> list[Record]:
        kind, key = owner
        if kind == "service":
            service = self._services.get(key)
            if service is None:
                return []
            return service_records(service, self._slices.by_index(_SERVICE_INDEX, key), self._zone)
        if kind == "namespace":
            return namespace_records(key, self._zone) if self._namespaces.get(key) is not None else []
        return zone_records(self._zone, self._name_servers())

    def _put(self, changes: dict[Owner, list[Record]]) -> None:
        try:
            self._set(changes)
        except ValueError:
            # one of them has a name that DNS cannot have: it must not keep the others from theirs
            for owner, records in changes.items():
                try:
                    self._set({owner: records})
                except ValueError as error:
                    log.warning("%s %s has no names: %s", *owner, error)
                    self._set({owner: []})

    def _set(self, changes: dict[Owner, list[Record]]) -> None:
        if not changes:
            return
        self._server.set_records([("/".join(owner), records) for owner, records in changes.items()])
        for owner, records in changes.items():
            if records:
                self._applied[owner] = records
            else:
                self._applied.pop(owner, None)

    # ------------------------------------------------------------------ listeners
    def _name_servers(self) -> list[str]:
        """Addresses where a client that only knows the standard port finds this server."""
        standard = {address for address, port in self._server.listening() if port == DNS_PORT}
        return sorted(standard - {"0.0.0.0", "::"})

    def _pass_over_own_addresses(self) -> None:
        own = self._server.listening()

        def others(servers: Iterable[str]) -> list[str]:
            return [one for one in servers if not _is_own(one, own)]

        stubs = {domain: others(servers) for domain, servers in self._config.stub_domains.items()}
        self._server.set_upstreams(others(self._config.upstreams), stubs)


def _services_of(piece: Object) -> tuple[str, ...]:
    name = meta.labels(piece).get(SERVICE_NAME_LABEL)
    return (meta.make_key(meta.namespace(piece), name),) if name else ()


def _is_own(upstream: str, own: Iterable[tuple[str, int]]) -> bool:
    return any(upstream in _spellings(address, port) for address, port in own)


def _spellings(address: str, port: int) -> tuple[str, ...]:
    whole = _shown([(address, port)])
    return (whole, address) if port == DNS_PORT else (whole,)


def _shown(listeners: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in listeners)
