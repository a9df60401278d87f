"""Leader election by Lease: of several processes of one name, one works and the others stand by.

After client-go `tools/leaderelection`. Clocks of different machines are not compared: who stands by waits for as long
as the lease says since it last saw the lease change. Who leads and cannot renew in time stops before anybody else may
begin, which is what `duration` > `renew_deadline` is for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.clock import Clock

log = logging.getLogger(__name__)

_LEASES = "leases.coordination.k8s.io"
_JITTER = 1.2
_RELEASE_SECONDS = 2.0


class LeadershipLost(Exception):
    """The lease could not be renewed in time, or somebody else has it: the work has been ended."""

    def __init__(self) -> None:
        super().__init__("leaderelection lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """In seconds. Who stands by looks every `retry_period`, who leads renews every `renew_period` (the same where it
    is 0). Raises ValueError, in client-go's words."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    renew_period: float = 0.0

    def __post_init__(self) -> None:
        if self.duration <= self.renew_deadline:
            raise ValueError("leaseDuration must be greater than renewDeadline")
        if self.renew_deadline <= self.retry_period * _JITTER:
            raise ValueError("renewDeadline must be greater than retryPeriod*JitterFactor")
        if self.retry_period <= 0:
            raise ValueError("retryPeriod must be greater than zero")


class LeaderElection:
    """One candidate for one lease. An identity that holds the lease already goes on at once."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        name: str,
        *,
        identity: str,
        namespace: str = "kube-system",
        times: LeaseTimes | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.identity = identity
        self.leading = False
        self._client = client
        self._clock = clock
        self._times = times or LeaseTimes()
        self._recorder = EventRecorder(client, clock, name)
        self._lease: Object | None = None
        self._seen_at = 0.0

    @property
    def holder(self) -> str:
        """Who was last seen to hold the lease; "" for nobody."""
        return str(self._spec.get("holderIdentity") or "")

    @property
    def _spec(self) -> Object:
        return (self._lease or {}).get("spec") or {}

    async def run(
        self, work: Callable[[], Coroutine[Any, Any, None]], stand_by: Callable[[str], None] | None = None
    ) -> None:
        """Waits for the lease and works while holding it; gives it back in the end. `stand_by` is told of each holder
        that is waited for. Raises LeadershipLost, and what `work` raises."""
        await self._acquire(stand_by)
        self._tell("became leader")
        self.leading = True
        tasks = [
            asyncio.create_task(work(), name=f"{self.name} leads"),
            asyncio.create_task(self._renew(), name=f"{self.name} renews its lease"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.leading = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._give_back()

    async def _acquire(self, stand_by: Callable[[str], None] | None) -> None:
        told = ""
        while not await self._try():
            if self.holder != told:
                told = self.holder
                log.info("lease %s/%s is held by %s", self.namespace, self.name, told)
                if stand_by is not None and told:
                    stand_by(told)
            await self._clock.sleep(self._times.retry_period * (1 + random.random() * _JITTER))

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._times.renew_period or self._times.retry_period)
            try:
                async with self._clock.timeout(self._times.renew_deadline):
                    while not await self._try():
                        await self._clock.sleep(self._times.retry_period)
            except TimeoutError:
                if not await self._still_leads():
                    raise LeadershipLost from None

    async def _still_leads(self) -> bool:
        """Asked when the time is up: if all of this process was held up, nobody else need have taken the lease."""
        try:
            async with self._clock.timeout(self._times.retry_period):
                return await self._try()
        except TimeoutError:
            return False

    async def _try(self) -> bool:
        """Takes or renews the lease; False when it is another's, or cannot be written now."""
        try:
            if self.holder == self.identity and await self._write(self._lease):
                return True
            found = await self._client.find(_LEASES, self.name, self.namespace)
            if found is None:
                return await self._write(None)
            self._see(found)
            return not self._is_held_by_another() and await self._write(found)
        except (StatusError, OSError) as error:
            log.warning("lease %s/%s: %s", self.namespace, self.name, error)
            return False

    def _see(self, lease: Object) -> None:
        if (lease.get("spec") or {}) != self._spec:
            self._seen_at = self._clock.monotonic()
        self._lease = lease

    def _is_held_by_another(self) -> bool:
        if self.holder in ("", self.identity):
            return False
        return self._clock.monotonic() < self._seen_at + (self._spec.get("leaseDurationSeconds") or 0)

    async def _write(self, lease: Object | None) -> bool:
        """As holder, from now on; False when somebody has written it since it was read."""
        now = meta.format_micro_time(self._clock.now())
        before = (lease or {}).get("spec") or {}
        goes_on = before.get("holderIdentity") == self.identity
        changed_hands = lease is not None and not goes_on
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._times.duration),
            "acquireTime": (goes_on and before.get("acquireTime")) or now,
            "renewTime": now,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + int(changed_hands),
        }
        return await self._put(lease, spec)

    async def _put(self, lease: Object | None, spec: Object) -> bool:
        try:
            if lease is None:
                metadata = {"name": self.name, "namespace": self.namespace}
                self._see(await self._client.create(_LEASES, {"metadata": metadata, "spec": spec}, self.namespace))
            else:
                self._see(await self._written(lease, spec))
        except StatusError as error:
            if errors.is_conflict(error) or errors.is_already_exists(error) or errors.is_not_found(error):
                self._lease = None
                return False
            raise
        return True

    async def _written(self, lease: Object, spec: Object) -> Object:
        if {**(lease.get("spec") or {}), "renewTime": spec["renewTime"]} == spec:
            return await self._client.renew_lease(lease, spec["renewTime"])
        return await self._client.update(_LEASES, {**lease, "spec": spec})

    async def _give_back(self) -> None:
        """So that whoever stands by need not wait for the lease to run out."""
        self._tell("stopped leading")
        try:
            async with self._clock.timeout(_RELEASE_SECONDS):
                found = await self._client.find(_LEASES, self.name, self.namespace)
                if found is not None and (found.get("spec") or {}).get("holderIdentity") == self.identity:
                    now = meta.format_micro_time(self._clock.now())
                    transitions = found["spec"].get("leaseTransitions") or 0
                    free = {"leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
                    await self._put(found, {**free, "leaseTransitions": transitions})
                await self._recorder.flush()
        except (StatusError, OSError, TimeoutError) as error:
            log.warning("lease %s/%s could not be given back: %s", self.namespace, self.name, error)
        finally:
            await self._recorder.stop()

    def _tell(self, what: str) -> None:
        log.info("%s %s", self.identity, what)
        if self._lease is not None:
            lease = {**self._lease, "apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            self._recorder.event(lease, "Normal", "LeaderElection", f"{self.identity} {what}")
