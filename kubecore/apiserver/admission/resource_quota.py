"""ResourceQuota: a write that takes more than its namespace's quotas leave is refused, any other is charged to them.

Writes of one namespace that arrive while quotas are being charged are charged together, with one write of each quota.
A quota is written at the revision it was judged by, so that nobody is charged twice and nothing is let through twice,
whoever else writes it. (Upstream k8s.io/apiserver pkg/admission/plugin/resourcequota.)

The quota controller counts what it can see, which is never a write that is charged and not yet stored. Upstream lets
such a count lower what is used, and more through than may be; here it is lowered by no more than leaves room for what
has been charged just now.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from kubecore.api import amounts, errors, meta
from kubecore.api.amounts import Amount, Amounts
from kubecore.api.quota.evaluators import IGNORED, Evaluators
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.limited_resources import NOTHING, LimitedResources
from kubecore.apiserver.admission.quota_checking import Quota, QuotaRefusal, Write
from kubecore.apiserver.registry.codec import Codec, loads
from kubecore.apiserver.registry.own_requests import MANAGER
from kubecore.apiserver.registry.writes import storage_status
from kubecore.apiserver.storage.interface import KeyMissing, RevisionConflict, StorageError

if TYPE_CHECKING:
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.clock import Clock

JSON = dict[str, Any]

_KEY = "resourcequotas"
_TRIES = 4
_RECENT_SECONDS = 2.0
"""How long after a write a count may not have seen it yet."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A write that waits for its verdict; its charges by quota, while they are made."""

    ctx: RequestContext
    write: Write
    verdict: asyncio.Future[None]
    charged: list[tuple[str, Amounts]] = field(default_factory=list)

    def accept(self) -> None:
        if not self.verdict.done():
            self.verdict.set_result(None)

    def refuse(self, error: Exception) -> None:
        if not self.verdict.done():
            self.verdict.set_exception(error)


class ResourceQuota(Plugin):
    name = "ResourceQuota"

    def __init__(
        self,
        cacher: Cacher,
        storage: Storage,
        clock: Clock,
        limited: LimitedResources,
        registry: Callable[[], Registry],
    ) -> None:
        cached = cacher.cached(_KEY)
        assert cached is not None
        self._cacher = cacher
        self._storage = storage
        self._clock = clock
        self._limited = limited
        self._registry = registry
        self._prefix = cached.prefix
        self._number = cached.number
        self._codec = Codec(cached.resource)
        self._evaluators = Evaluators(clock)
        self._waiting: dict[str, list[_Waiting]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Charged and not stored yet; and stored just now: when, in which namespace, what, the oldest first.
        self._under_way: dict[int, _Waiting] = {}
        self._stored: deque[tuple[float, str, list[tuple[str, Amounts]]]] = deque()

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        if (resource_key, operation, subresource) == (_KEY, UPDATE, "status"):
            return True
        known = resource_key not in IGNORED and resource_key != "namespaces"
        return known and self._evaluators.of(resource_key).handles(operation, subresource)

    # --- what the controller counts

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """A new count of what is used leaves room for what it cannot have seen."""
        if ctx.resource_key != _KEY or ctx.subresource != "status" or old is None:
            return False
        recent = self._charged_recently(ctx.namespace, ctx.name)
        sent, known = (amounts.parse((one.get("status") or {}).get("used")) for one in (obj, old))
        lowered = {name: amount for name, amount in sent.items() if amount.nano < known.get(name, amount).nano}
        kept: dict[str, Amount] = {}
        for name in lowered.keys() & recent.keys():
            least = sent[name].nano + recent[name].nano
            kept[name] = known[name] if least >= known[name].nano else Amount(least, known[name].family)
        if kept:
            obj["status"]["used"] = amounts.render({**sent, **kept})
        return bool(kept)

    def _charged_recently(self, namespace: str, name: str) -> Amounts:
        self._forget_old()
        total: Amounts = {}
        found = [one.charged for one in self._under_way.values() if one.ctx.namespace == namespace]
        found += [charged for _, where, charged in self._stored if where == namespace]
        for quota, delta in chain.from_iterable(found):
            if quota == name:
                amounts.accumulate(total, delta)
        return total

    def _forget_old(self) -> None:
        since = self._clock.monotonic() - _RECENT_SECONDS
        while self._stored and self._stored[0][0] < since:
            self._stored.popleft()

    # --- charging

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        namespace = ctx.namespace
        limited = self._limited.of(ctx.resource_key)
        if not namespace or obj is None or (limited is NOTHING and not self._has_quotas(namespace)):
            return None
        evaluator = self._evaluators.of(ctx.resource_key)
        if not evaluator.handles(ctx.operation, ctx.subresource) or not evaluator.changes(obj, old, ctx.subresource):
            return None
        if ctx.operation == CREATE and self._cacher.get(ctx.resource_key, namespace, ctx.name) is not None:
            # It is there already, which is what the client will be told: nothing is taken by that.
            return None
        verdict = asyncio.get_running_loop().create_future()
        one = _Waiting(ctx, Write(evaluator, obj, old, ctx.subresource, limited), verdict)
        self._waiting.setdefault(namespace, []).append(one)
        if namespace not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._work(namespace), name=f"quotas of {namespace}")
            self._tasks[namespace] = task
        return verdict

    def _has_quotas(self, namespace: str) -> bool:
        """What every create pays, in namespaces without quotas too."""
        return self._cacher.native.count(self._number, namespace) > 0

    async def _work(self, namespace: str) -> None:
        """Charges what waits, until nothing does."""
        try:
            while waiting := self._waiting.pop(namespace, None):
                try:
                    await self._charge_all(namespace, waiting)
                except StorageError as error:
                    _refuse_all(waiting, storage_status(error))
                except Exception as error:
                    _refuse_all(waiting, errors.internal_error(error))
        finally:
            del self._tasks[namespace]

    async def _charge_all(self, namespace: str, waiting: list[_Waiting]) -> None:
        """A verdict for each. Quotas that somebody else has written meanwhile are judged by anew, and only those."""
        again: set[str] | None = None
        for _ in range(_TRIES):
            every = self._quotas(namespace)
            quotas = [quota for quota in every if again is None or quota.name in again]
            for one in waiting:
                if not one.verdict.done():
                    self._charge(one, quotas, every)
            again = await self._write_all(namespace, [quota for quota in quotas if quota.charged])
            if not again:
                break
            for one in waiting:
                one.charged = [charge for charge in one.charged if charge[0] not in again]
        for one in waiting:
            if again:
                one.refuse(errors.conflict("", _KEY, min(again)))
            one.accept()

    def _charge(self, one: _Waiting, quotas: Sequence[Quota], every: Sequence[Quota]) -> None:
        """Refuses the write, or takes what it needs from the quotas in memory."""
        ctx = one.ctx
        try:
            charges = one.write.charges(quotas, every)
        except QuotaRefusal as refusal:
            plural, _, group = ctx.resource_key.partition(".")
            one.refuse(errors.forbidden(group, plural, ctx.name, str(refusal)))
            return
        if ctx.dry_run or not charges:
            return
        if not one.charged:
            # Before it is written: from then on a count may know of the charge, and not of the object.
            self._remember(one)
        for quota, delta in charges:
            quota.charge(delta)
            one.charged.append((quota.name, delta))

    def _remember(self, one: _Waiting) -> None:
        self._under_way[id(one)] = one

        def finished(done: bool) -> None:
            if self._under_way.pop(id(one), None) is not None:
                self._stored.append((self._clock.monotonic(), one.ctx.namespace, one.charged))
            self._forget_old()

        one.ctx.finish = finished

    def _quotas(self, namespace: str) -> list[Quota]:
        items = [(loads(stored), stored) for stored in self._cacher.list(_KEY, namespace).items]
        return [Quota(item, stored, int(item["metadata"]["resourceVersion"])) for item, stored in items]

    async def _write_all(self, namespace: str, quotas: Sequence[Quota]) -> set[str]:
        """Names of those that others have written meanwhile; one that is gone limits nobody."""
        writes = [
            self._storage.update(
                f"{self._prefix}{namespace}/{quota.name}",
                self._codec.template(self._charged(quota)),
                expected=quota.revision,
            )
            for quota in quotas
        ]
        failed = set()
        for quota, outcome in zip(quotas, await asyncio.gather(*writes, return_exceptions=True), strict=True):
            if isinstance(outcome, RevisionConflict):
                failed.add(quota.name)
            elif isinstance(outcome, BaseException) and not isinstance(outcome, KeyMissing):
                raise outcome
        return failed

    def _charged(self, quota: Quota) -> bytes:
        """As it is stored: what it holds now is said by the server."""
        store = self._registry().store(_KEY)
        assert store is not None
        obj, now = quota.as_object(), meta.format_time(self._clock.now())
        body = self._codec.encode(obj)
        managed = store.schema.managed(quota.stored, body, manager=MANAGER, time=now, subresource="status")
        return self._codec.encode_managed(obj, managed)


def _refuse_all(waiting: Sequence[_Waiting], error: Exception) -> None:
    for one in waiting:
        one.refuse(error)
