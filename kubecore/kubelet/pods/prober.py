"""Probes a running container again and again, and tells what came of it.

After upstream `pkg/kubelet/prober/worker.go`: a result counts once it came `successThreshold` or `failureThreshold`
times in a row; liveness and readiness wait for the startup probe; before its first result a container is alive and
not ready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from kubecore.clock import Clock
from kubecore.kubelet.pods.probes import Result, Verdict

log = logging.getLogger(__name__)

Object = dict[str, Any]
Kind = Literal["startup", "readiness", "liveness"]
_TRIES = 3
"""For one result, of a probe that could not be carried out."""
KINDS: tuple[Kind, ...] = ("startup", "readiness", "liveness")

Probe = Callable[[Object], Awaitable[Verdict]]
OnResult = Callable[[Kind, bool], None]
"""(kind, success): called when a threshold is reached and the verdict differs from the one before."""
OnTrouble = Callable[[Kind, Verdict], None]
"""(kind, verdict): called for every single one that is no success, for an event."""
OnTry = Callable[[Kind, Result, float], None]
"""(kind, result, seconds): called for every single one."""


class Prober:
    """The probes of one attempt of one container. Lives from `start` to `stop`."""

    def __init__(
        self,
        container: Object,
        clock: Clock,
        probe: Probe,
        *,
        on_result: OnResult,
        on_trouble: OnTrouble,
        on_try: OnTry = lambda kind, result, seconds: None,
    ) -> None:
        self._container = container
        self._clock = clock
        self._probe = probe
        self._on_result = on_result
        self._on_trouble = on_trouble
        self._on_try = on_try
        self._started = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *, started: bool = False) -> None:
        """`started`: its startup probe, if any, has succeeded before."""
        if started or "startupProbe" not in self._container:
            self._started.set()
        for kind in KINDS:
            probe = self._container.get(f"{kind}Probe")
            if probe and not (kind == "startup" and started):
                name = f"kubelet {kind} probe of {self._container['name']}"
                self._tasks.append(asyncio.create_task(self._run(kind, probe), name=name))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def stop_kind(self, *kinds: Kind) -> None:
        """A container that is being stopped is no longer judged by its liveness."""
        for task in self._tasks:
            if any(f" {kind} probe" in task.get_name() for kind in kinds):
                task.cancel()

    async def _run(self, kind: Kind, probe: Object) -> None:
        await self._clock.sleep(float(probe.get("initialDelaySeconds") or 0))
        if kind != "startup":
            await self._started.wait()
        period = float(probe.get("periodSeconds") or 10)
        thresholds = {
            Result.SUCCESS: int(probe.get("successThreshold") or 1),
            Result.FAILURE: int(probe.get("failureThreshold") or 3),
        }
        last, run, told = Result.UNKNOWN, 0, Result.UNKNOWN
        while True:
            began = self._clock.monotonic()
            result = await self._try(kind, probe)
            self._on_try(kind, result, self._clock.monotonic() - began)
            if result is not Result.UNKNOWN:
                run = run + 1 if result is last else 1
                last = result
                if run >= thresholds[last] and (told is not last):
                    told = last
                    self._on_result(kind, last is Result.SUCCESS)
                    if kind == "startup":
                        if last is Result.SUCCESS:
                            self._started.set()
                        return
                    if kind == "liveness" and last is Result.FAILURE:
                        return  # the container is killed; its next attempt has probes of its own
            await self._clock.sleep(max(period - (self._clock.monotonic() - began), 0.0))

    async def _try(self, kind: Kind, probe: Object) -> Result:
        """No warning, which is a success."""
        try:
            for _ in range(_TRIES):
                verdict = await self._probe(probe)
                if verdict.result is not Result.UNKNOWN:
                    break
        except Exception:
            log.exception("%s probe of %s could not be carried out", kind, self._container["name"])
            return Result.UNKNOWN
        if verdict.result is not Result.SUCCESS:
            self._on_trouble(kind, verdict)
        return Result.SUCCESS if verdict.result is Result.WARNING else verdict.result
