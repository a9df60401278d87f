"""The Ingress controller: keeps the proxy at what Ingresses, Services, EndpointSlices and Secrets say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from kubecore import _native
from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory
from kubecore.clock import Clock, Timer, native_clock
from kubecore.ingress import backends, classes, metrics, routing, validity
from kubecore.ingress.book import Book
from kubecore.ingress.certificates import Certificates, Parsed, Secrets
from kubecore.ingress.external_names import ExternalNames, LookUp
from kubecore.ingress.listeners import ListenError, Listeners
from kubecore.ingress.options import IngressConfig
from kubecore.ingress.rules import BackendRef, Compiled, Problem, compile_ingress
from kubecore.ingress.statuses import StatusWriter

log = logging.getLogger(__name__)

Object = dict[str, Any]

_INGRESSES = "ingresses.networking.k8s.io"
_CLASSES = "ingressclasses.networking.k8s.io"
_SLICES = "endpointslices.discovery.k8s.io"
_SERVICE_INDEX = "ingress/service"
_SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_TURN_SECONDS = 0.005
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0
_LONGEST_JUDGEMENT_SECONDS = 86400.0
"""Certificates are looked at once a day at least: a machine's clock may be set."""


class IngressController:
    """Runs until cancelled, then stops listening and lets requests end for a moment.

    Invariants, kept between two applications of changes: `_book` holds exactly the Ingresses that are ours, `_resolved`
    exactly the backends that they (or the class) refer to, and the proxy knows both but for what is in a `_dirty` set.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: IngressConfig,
        *,
        informers: InformerFactory | None = None,
        look_up: LookUp | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.proxy = _native.IngressProxy(native_clock(clock))
        self._client = client
        self._clock = clock
        self._config = config
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._recorder = EventRecorder(client, clock, "kubecore-ingress")
        self._ingresses = self._informers.informer(_INGRESSES)
        self._classes = self._informers.informer(_CLASSES)
        self._services = self._informers.informer("services")
        self._slices = self._informers.informer(_SLICES)
        self._secrets = Secrets(client, clock, self._see_secret)
        self._names = ExternalNames(clock, self._see_name, look_up=look_up)
        self._certificates = Certificates(clock)
        self._listeners = Listeners(
            self.proxy, config.address, http_port=config.http_port, https_port=config.https_port
        )
        self._statuses = StatusWriter(client, clock, self._ingresses)
        self._book = Book()
        self._resolved: dict[BackendRef, tuple[backends.Backend, list[Problem]]] = {}
        self._of_class: tuple[BackendRef, str] | None = None
        self._dirty_ingresses: dict[str, None] = {}
        self._dirty_hosts: set[str] = set()
        self._dirty_services: set[str] = set()
        self._dirty_secrets = False
        self._shown_secrets: set[str] = set()
        self._shown_fallback: tuple[str, str] | None = None
        self._changed = asyncio.Event()
        self._told: dict[str, set[Problem]] = {}
        self._retry: tuple[float, Timer | None] = (0.0, None)
        self._listen_problem: Problem | None = None
        self._judging: tuple[float, Timer] | None = None

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        if self._config.access_log is not None:
            self.proxy.log_to(self._config.access_log)
        self._follow()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._statuses.run(), name="ingress statuses")
                await self._work()
        finally:
            self.ready.clear()
            self._end_retry()
            if self._judging is not None:
                self._judging[1].cancel()
            await self._secrets.stop()
            await self._names.stop()
            await self._recorder.stop()
            if self._own_informers:
                await self._informers.stop()
            await asyncio.to_thread(self.proxy.shutdown, self._config.grace_seconds)
            self.proxy.log_to(None)

    async def _work(self) -> None:
        await self._informers.start()
        for informer in (self._classes, self._ingresses, self._services, self._slices):
            await informer.wait_synced()
        await self._ensure_class()
        await self._apply_changes()
        self.ready.set()
        while True:
            await self._changed.wait()
            await self._clock.sleep(self._config.batch_seconds)
            await self._apply_changes()

    @property
    def ports(self) -> dict[str, int]:
        """Bound ports by protocol, `http` and `https`; none before the first Ingress."""
        return dict(self._listeners.ports)

    def metrics(self) -> bytes:
        """The proxy's counts in the text form of Prometheus. From any thread."""
        return metrics.render(self.proxy.statistics())

    # ------------------------------------------------------------------ following
    def _follow(self) -> None:
        self._slices.add_index(_SERVICE_INDEX, _services_of)
        self._ingresses.add_handler(
            on_add=self._see_ingress,
            on_update=lambda old, new: self._see_ingress(new) if _says_other(old, new) else self._statuses.check(new),
            on_delete=self._see_ingress,
        )
        self._classes.add_handler(
            on_add=lambda new: self._see_class(),
            on_update=lambda old, new: self._see_class(),
            on_delete=lambda old: self._see_class(),
        )
        self._services.add_handler(
            on_add=lambda new: self._see_service(meta.key(new)),
            on_update=lambda old, new: self._see_service(meta.key(new)),
            on_delete=lambda old: self._see_service(meta.key(old)),
        )
        self._slices.add_handler(
            on_add=lambda new: self._see_service(*_services_of(new)),
            on_update=lambda old, new: self._see_service(*_services_of(old), *_services_of(new)),
            on_delete=lambda old: self._see_service(*_services_of(old)),
        )

    def _see_ingress(self, ingress: Object) -> None:
        self._dirty_ingresses[meta.key(ingress)] = None
        self._changed.set()

    def _see_class(self) -> None:
        for ingress in self._ingresses.list():
            self._see_ingress(ingress)
        self._changed.set()

    def _see_service(self, *keys: str) -> None:
        of_class = self._of_class[0].service if self._of_class else ""
        for key in keys:
            if key == of_class or self._book.backends_of(key):
                self._dirty_services.add(key)
                self._changed.set()

    def _see_secret(self, key: str) -> None:
        self._dirty_secrets = True
        self._dirty_services |= {ref.service for ref in self._book.backends() if ref.terms.tls_secret == key}
        self._changed.set()

    def _see_name(self, name: str) -> None:
        found = {ref.service for ref in self._resolved if self._name_of(ref) == name}
        if found:
            self._dirty_services |= found
            self._changed.set()

    def _name_of(self, ref: BackendRef) -> str:
        return backends.external_name(self._services.get(ref.service))

    # ------------------------------------------------------------------ applying
    async def _apply_changes(self) -> None:
        """Bring the proxy up to date: destinations first, so that new routes find them."""
        self._changed.clear()
        touched = await self._compile_dirty()
        self._of_class = classes.default_backend(self._classes.list())
        gone = self._resolve_backends(touched)
        hosts, self._dirty_hosts = self._dirty_hosts, set()
        if hosts:
            self.proxy.set_hosts([(host, routing.host_spec(host, self._book.naming(host))) for host in hosts])
        fallback = routing.fallback(self._book.with_default(), self._of_class)
        if fallback != self._shown_fallback:
            self.proxy.set_fallback(fallback)
            self._shown_fallback = fallback
        for ref in gone:
            self.proxy.remove_backend(ref.name)
        for host in hosts:
            touched.update(one.key for one in self._book.naming(host))
        self._show_certificates(touched)
        self._listen(touched)
        self._tell_problems(touched)
        for key in touched:
            self._statuses.want(key, self._published() if key in self._book else None)

    async def _compile_dirty(self) -> set[str]:
        """The Ingresses that were looked at anew. Others get their turn when it takes long."""
        touched: set[str] = set()
        turn_ends = self._clock.monotonic() + _TURN_SECONDS
        known = self._classes.list()
        while self._dirty_ingresses:
            key = next(iter(self._dirty_ingresses))
            del self._dirty_ingresses[key]
            touched.add(key)
            ingress = self._ingresses.get(key)
            ours = ingress is not None and classes.is_ours(ingress, known)
            if ours and key not in self._book:
                self._recorder.event(ingress or {}, "Normal", "Sync", "Scheduled for sync")
            self._dirty_hosts |= self._book.put(key, _compiled(ingress) if ingress and ours else None)
            if self._clock.monotonic() >= turn_ends:
                await self._clock.sleep(0)
                turn_ends = self._clock.monotonic() + _TURN_SECONDS
        return touched

    def _resolve_backends(self, touched: set[str]) -> set[BackendRef]:
        """Tell the proxy of destinations that are others now; returns the backends that nobody refers to any more."""
        wanted = self._book.backends() | ({self._of_class[0]} if self._of_class else set())
        dirty = wanted - self._resolved.keys()
        for service in self._dirty_services:
            dirty |= self._book.backends_of(service)
            if self._of_class and self._of_class[0].service == service:
                dirty.add(self._of_class[0])
        self._dirty_services.clear()
        for ref in dirty:
            slices = self._slices.by_index(_SERVICE_INDEX, ref.service)
            wanted_secret = ref.terms.tls_secret
            secret = self._secrets.get(wanted_secret) if wanted_secret else None
            external = self._names.get(self._name_of(ref))
            found = backends.resolve(ref, self._services.get(ref.service), slices, secret, external)
            if wanted_secret and not self._secrets.known(wanted_secret):
                # Nothing is sent before it is known what is to be trusted; and nothing is wrong yet.
                found = (backends.Backend(), [])
            if found != self._resolved.get(ref):
                self._resolved[ref] = found
                touched |= self._book.using(ref)
                self._put_backend(ref, found[0])
        gone = self._resolved.keys() - wanted
        for ref in gone:
            del self._resolved[ref]
        if dirty or gone:
            self._names.follow({name for ref in wanted if (name := self._name_of(ref))})
        return gone

    def _put_backend(self, ref: BackendRef, backend: backends.Backend) -> None:
        try:
            self.proxy.set_backend(
                ref.name,
                backend.destinations,
                protocol=backend.protocol,
                scheduler=backend.scheduler,
                persistence_seconds=backend.affinity_seconds,
                tls_name=backend.tls_name,
                tls_roots=backend.tls_roots,
                tls_identity=backend.tls_identity,
                connect_timeout=backend.connect_timeout,
                read_timeout=backend.read_timeout,
            )
        except ValueError as error:
            # Whatever it was before: what was asked for now is not to be had.
            log.warning("backend %s has no destinations: %s", ref.name, error)
            self.proxy.set_backend(ref.name, [])
            self._resolved[ref][1].append(Problem("BadCertificate", f"backend {ref.name} cannot be used: {error}"))

    # ------------------------------------------------------------------ certificates
    def _show_certificates(self, touched: set[str]) -> None:
        wanted = self._book.secrets()
        if not self._dirty_secrets and wanted == self._shown_secrets and not self._tls_changed(touched):
            return
        self._dirty_secrets = False
        self._certificates.forget(self._shown_secrets - wanted)
        self._shown_secrets = wanted
        self._secrets.follow(wanted)
        shown: list[tuple[str, _native.IngressCertificate]] = []
        default: _native.IngressCertificate | None = None
        for one in self._book.with_secrets():
            touched.add(one.key)
            for host, key in one.tls:
                secret = self._secrets.get(key)
                certificate = self._certificates.parse(secret).certificate if secret is not None else None
                if certificate is not None and host:
                    shown.append((host, certificate))
                elif certificate is not None:
                    default = default or certificate
        self.proxy.set_certificates(shown, default or self._certificates.default())

    def _tls_changed(self, touched: set[str]) -> bool:
        """Of Ingresses that were looked at anew, one with certificates is enough to look at all of them."""
        return any((one := self._book.get(key)) is not None and bool(one.tls) for key in touched)

    # ------------------------------------------------------------------ listening
    def _listen(self, touched: set[str]) -> None:
        """From the first Ingress on. A port that cannot be had is told in events, and tried again."""
        if self._listeners.complete or not len(self._book):
            return
        if not self._shown_secrets:
            self.proxy.set_certificates([], self._certificates.default())
        before = self._listen_problem
        try:
            self._listeners.open()
        except ListenError as error:
            self._listen_problem = Problem("FailedToListen", str(error))
            self._try_again()
        else:
            self._listen_problem = None
            self._end_retry()
            log.info("Ingresses are served at %s", self._listeners)
        if before != self._listen_problem or self._listeners.complete:
            touched.update(self._book.keys())

    def _published(self) -> Object:
        """The status of an Ingress that is served."""
        if not self._listeners.ports:
            return {}
        ports = [{"port": port, "protocol": "TCP"} for port in self._listeners.ports.values()]
        return {"ingress": [{"ip": self._config.published or self._config.address, "ports": ports}]}

    def _try_again(self) -> None:
        last, timer = self._retry
        if timer is not None:
            return
        delay = min(last * 2, _LONGEST_RETRY_SECONDS) or _FIRST_RETRY_SECONDS

        def again() -> None:
            self._retry = (delay, None)
            self._changed.set()

        self._retry = (delay, self._clock.call_later(delay, again))

    def _end_retry(self) -> None:
        if self._retry[1] is not None:
            self._retry[1].cancel()
        self._retry = (0.0, None)

    # ------------------------------------------------------------------ telling
    def _tell_problems(self, keys: Iterable[str]) -> None:
        """An event and a log line of each, once for as long as the trouble lasts."""
        for key in keys:
            ingress = self._ingresses.get(key)
            compiled = self._book.get(key)
            if ingress is None or compiled is None:
                self._told.pop(key, None)
                continue
            problems = set(self._problems(compiled))
            for problem in sorted(problems - self._told.get(key, set()), key=lambda one: one.message):
                log.warning("ingress %s: %s", key, problem.message)
                self._recorder.event(ingress, "Warning", problem.reason, problem.message)
            self._told[key] = problems

    def _problems(self, one: Compiled) -> Iterator[Problem]:
        yield from one.problems
        for ref in one.backends():
            yield from self._resolved[ref][1]
        for key in one.shown_secrets():
            if (secret := self._secrets.get(key)) is not None:
                hosts = [host for host, named in one.tls if named == key]
                yield from self._judge(self._certificates.parse(secret), key, hosts)
            elif self._secrets.known(key):
                text = f"Secret {key} does not exist: the default certificate is shown instead"
                yield Problem("MissingSecret", text)
        for host in one.hosts:
            yield from (found for key, found in routing.conflicts(host, self._book.naming(host)) if key == one.key)
        if self._listen_problem is not None:
            yield self._listen_problem

    def _judge(self, found: Parsed, key: str, hosts: list[str]) -> Iterator[Problem]:
        if found.problem is not None:
            yield found.problem
        if found.facts is not None:
            now = self._clock.now()
            yield from validity.problems(found.facts, key, hosts, now)
            if (change := validity.next_change(found.facts, now)) is not None:
                self._judge_again((change - now).total_seconds())

    def _judge_again(self, seconds: float) -> None:
        """Certificates, when the first of them comes of age or expires."""
        seconds = min(seconds, _LONGEST_JUDGEMENT_SECONDS)
        due = self._clock.monotonic() + seconds
        if self._judging is not None:
            if self._judging[0] <= due:
                return
            self._judging[1].cancel()
        self._judging = (due, self._clock.call_later(seconds, self._certificates_aged))

    def _certificates_aged(self) -> None:
        self._judging = None
        self._dirty_secrets = True
        self._changed.set()

    async def _ensure_class(self) -> None:
        """There is always a class of ours, and it is the default one unless another is. A user's changes stay."""
        if self._classes.get(classes.CLASS_NAME) is not None:
            return
        default = not any(classes.is_default(one) for one in self._classes.list())
        try:
            await self._client.create(_CLASSES, classes.own_class(default=default))
        except (StatusError, OSError) as error:
            if not (isinstance(error, StatusError) and errors.is_already_exists(error)):
                log.warning("IngressClass %s could not be made: %s", classes.CLASS_NAME, error)


def _compiled(ingress: Object) -> Compiled | None:
    """None for one that this program is at fault with: the others must not suffer from it."""
    try:
        return compile_ingress(ingress)
    except Exception:
        log.exception("ingress %s could not be read", meta.key(ingress))
        return None


def _services_of(piece: Object) -> tuple[str, ...]:
    name = meta.labels(piece).get(_SERVICE_NAME_LABEL)
    return (meta.make_key(meta.namespace(piece), name),) if name else ()


def _says_other(old: Object, new: Object) -> bool:
    """Something besides the status has changed."""
    return old.get("spec") != new.get("spec") or meta.annotations(old) != meta.annotations(new)
