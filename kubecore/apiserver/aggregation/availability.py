"""Whether extension API servers answer: each is asked for the list of its resources when something that leads to it
changes, and every half minute. After upstream kube-aggregator `pkg/controllers/status/remote`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kubecore import _native
from kubecore.api import errors, meta
from kubecore.apiserver.aggregation.asking import Unreachable, url
from kubecore.apiserver.aggregation.identity import Untrusted
from kubecore.apiserver.aggregation.resolving import SERVICES, SLICES, is_named, is_ready, slices_of
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.resources.apiservices import API_SERVICES, AVAILABLE
from kubecore.apiserver.registry.writes import Change
from kubecore.background_tasks import BackgroundTasks

if TYPE_CHECKING:
    from kubecore.apiserver.aggregation.asking import Asker
    from kubecore.apiserver.aggregation.metrics import AggregationMetrics
    from kubecore.apiserver.aggregation.remotes import Remote
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import Lookup

log = logging.getLogger("kubecore.apiserver.aggregation")

JSON = dict[str, Any]

# Who may see every extension API server's documents.
AGGREGATOR = _native.UserInfo("system:kube-aggregator", "", ["system:masters"])
_PROBE_SECONDS = 5.0
_ATTEMPTS = 5
_RESYNC_SECONDS = 30.0
_FIRST_RETRY, _LAST_RETRY = 0.005, 30.0


class Verdict(NamedTuple):
    status: str
    reason: str
    message: str


_PASSED = Verdict("True", "Passed", "all checks passed")


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None


class _Seen(msgspec.Struct):
    metadata: _Metadata


_SEEN = msgspec.json.Decoder(_Seen)


def looked_at(lookup: Lookup, remote: Remote) -> Verdict | None:
    """What is missing of what leads to the extension API server; None: it can be asked."""
    backend = remote.backend
    service = lookup.get(SERVICES, backend.namespace, backend.service)
    told = f'service/{backend.service} in "{backend.namespace}"'
    if service is None:
        return Verdict("False", "ServiceNotFound", f"{told} is not present")
    spec = service["spec"]
    if (spec.get("type") or "ClusterIP") != "ClusterIP":
        return None
    port = next((one for one in spec.get("ports") or [] if one.get("port") == backend.port), None)
    if port is None:
        return Verdict("False", "ServicePortError", f"{told} is not listening on port {backend.port}")
    slices = slices_of(lookup, backend)
    if not slices:
        return Verdict("False", "EndpointsNotFound", f"cannot find endpointslices for {told}")
    name = port.get("name") or ""
    for piece in slices:
        ready = any(is_ready(one) for one in piece.get("endpoints") or [])
        if ready and any(is_named(one, name) for one in piece.get("ports") or []):
            return None
    return Verdict("False", "MissingEndpoints", f'endpointslices for {told} have no addresses with port name "{name}"')


class Availability:
    """`watch` whatever there is; it works for as long as that is anything."""

    def __init__(self, registry: Registry, hub: WatchHub, asker: Asker, metrics: AggregationMetrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._hub = hub
        self._asker = asker
        self._clock = registry.clock
        self._remotes: dict[str, Remote] = {}
        self._failures: dict[str, int] = {}
        # Under way, and whether it must be done again.
        self._checks: dict[str, bool] = {}
        self._tasks = BackgroundTasks(log)
        self._followers: list[asyncio.Task[None]] = []

    def watch(self, remotes: Iterable[Remote]) -> None:
        """These and no others."""
        before, self._remotes = self._remotes, {one.name: one for one in remotes}
        if self._remotes and not self._followers:
            work = (self._follow(SERVICES, _service_of), self._follow(SLICES, _service_of_slice), self._resync())
            self._followers = [self._tasks.spawn(one, "availability of APIServices") for one in work]
        elif not self._remotes:
            self._stop_following()
        for name in before.keys() - self._remotes.keys():
            self._failures.pop(name, None)
        for name, remote in self._remotes.items():
            held = before.get(name)
            if held is None or held.backend != remote.backend:
                self._check(name)

    def _stop_following(self) -> None:
        for task in self._followers:
            task.cancel()
        self._followers = []

    async def _follow(self, key: str, service_of: Callable[[_Metadata], tuple[str, str]]) -> None:
        while True:
            watch = self._hub.query(key, "")
            async for batch in watch.batches():
                changed = {
                    service_of(_SEEN.decode(event.object).metadata)
                    for event in batch
                    if event.type not in ("BOOKMARK", "ERROR")
                }
                for name, remote in self._remotes.items():
                    if (remote.backend.namespace, remote.backend.service) in changed:
                        self._check(name)
            for name in self._remotes:
                self._check(name)

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(_RESYNC_SECONDS)
            for name in self._remotes:
                self._check(name)

    def _check(self, name: str) -> None:
        if name in self._checks:
            self._checks[name] = True
            return
        self._checks[name] = False
        self._tasks.spawn(self._checked(name), f"availability of {name}")

    async def _checked(self, name: str) -> None:
        try:
            while True:
                self._checks[name] = False
                remote = self._remotes.get(name)
                if remote is None:
                    return
                verdict = looked_at(self._registry, remote) or await self._probed(remote)
                await self._write(remote, verdict)
                if not self._checks[name]:
                    self._again(name, verdict)
                    return
        except errors.StatusError:
            log.exception("availability of %s", name)
            self._again(name, None)
        finally:
            del self._checks[name]

    def _again(self, name: str, verdict: Verdict | None) -> None:
        """Who does not answer is soon asked again, then less and less."""
        if verdict is not None and verdict.reason != "FailedDiscoveryCheck":
            self._failures.pop(name, None)
            return
        failures = self._failures[name] = self._failures.get(name, -1) + 1
        delay = min(_FIRST_RETRY * 2 ** min(failures, 20), _LAST_RETRY)
        self._clock.call_later(delay, partial(self._retry, name))

    def _retry(self, name: str) -> None:
        if name in self._remotes:
            self._check(name)

    async def _probed(self, remote: Remote) -> Verdict:
        """One endpoint that answers will do."""
        try:
            await self._probe(remote)
            return _PASSED
        except Exception as error:
            failed = error
        more = [asyncio.create_task(self._probe(remote), name="APIService probe") for _ in range(_ATTEMPTS - 1)]
        try:
            for probe in asyncio.as_completed(more):
                try:
                    await probe
                    return _PASSED
                except Exception as error:
                    failed = error
        finally:
            for one in more:
                one.cancel()
            await asyncio.gather(*more, return_exceptions=True)
        return Verdict("False", "FailedDiscoveryCheck", str(failed))

    async def _probe(self, remote: Remote) -> None:
        """Raises what is wrong. Who it is does not matter here."""
        backend = remote.backend.trusting
        where = url(self._asker.resolver(backend), remote.path)
        try:
            answer = await self._asker.ask(backend, remote.path, AGGREGATOR, seconds=_PROBE_SECONDS, whole=False)
        except (Unreachable, Untrusted) as error:
            raise Unreachable(f"failing or missing response from {where}: {error}") from None
        if not 200 <= answer.status < 300:
            bad = f"bad status from {where}: {answer.status}"
            raise Unreachable(f"failing or missing response from {where}: {bad}")

    async def _write(self, remote: Remote, verdict: Verdict) -> None:
        stored = self._registry.cacher.get(API_SERVICES, "", remote.name)
        if stored is None:
            return
        obj = loads(stored.value)
        now = meta.format_time(self._clock.now())
        held = meta.condition(obj, AVAILABLE) or {}
        if (held.get("status"), held.get("reason"), held.get("message")) == tuple(verdict):
            return
        meta.set_condition(obj, AVAILABLE, *verdict, now=now)
        store = self._registry.store(API_SERVICES)
        assert store is not None
        context = own_request(self._registry, API_SERVICES, "update", remote.name, subresource="status")
        try:
            await store.update(context, Change(lambda *_: obj))
            self._metrics.changed(remote.name, held, verdict._asdict())
        except errors.StatusError as error:
            if errors.is_conflict(error):
                self._check(remote.name)
            elif not errors.is_not_found(error):
                raise

    async def close(self) -> None:
        self._remotes = {}
        self._stop_following()
        await self._tasks.close()


def _service_of(metadata: _Metadata) -> tuple[str, str]:
    return metadata.namespace, metadata.name


def _service_of_slice(metadata: _Metadata) -> tuple[str, str]:
    return metadata.namespace, (metadata.labels or {}).get("kubernetes.io/service-name", "")
