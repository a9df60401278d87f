"""Makes the pods a Job lacks and removes those it has too many of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.clock import Clock
from kubecore.controllers import pods
from kubecore.controllers.expectations import Expectations
from kubecore.controllers.jobs.backoff import remaining_for_index
from kubecore.controllers.jobs.indexes import (
    FAILURES,
    IGNORED_FAILURES,
    UNKNOWN,
    duplicates,
    failures_before,
    give_environment,
    give_index,
    ignored_failures_before,
    name_prefix,
)
from kubecore.controllers.jobs.metrics import CREATED, DELETED, JobMetrics
from kubecore.controllers.jobs.metrics import TRACKING as COUNTED
from kubecore.controllers.jobs.policies import judge_failure
from kubecore.controllers.jobs.state import (
    JOB_API,
    JOB_KIND,
    TRACKING,
    JobSync,
    counts_per_index,
    is_indexed,
    is_suspended,
    is_tracked,
    replaces_only_failed,
)
from kubecore.controllers.jobs.tracking import release
from kubecore.controllers.pod_control import PodControl, slow_start
from kubecore.controllers.workloads import pod_ranking

_MOST_PER_SYNC = 500


class JobPods:
    """Changes the counts of the `JobSync` it is given by what it did."""

    def __init__(
        self, client: Client, clock: Clock, control: PodControl, expectations: Expectations, metrics: JobMetrics
    ) -> None:
        self._metrics = metrics
        self._client = client
        self._clock = clock
        self._control = control
        self._expectations = expectations

    async def end(self, state: JobSync) -> BaseException | None:
        """Delete all active pods; their finalizers stay, so that they are counted."""

        async def delete(pod: Object) -> None:
            await self._control.delete(state.job, pod)

        return await self._each(state, state.active, delete)

    async def manage(self, key: str, state: JobSync, action: list[str]) -> BaseException | None:
        """Either removes pods or makes some: a sync that would need both leaves the making to the next one. Which of
        it is added to `action`."""
        wanted = 0 if is_suspended(state.job) else _wanted(state)
        surplus = self._surplus(state, max(0, state.active_count - wanted))
        if surplus or is_suspended(state.job):
            action.append(DELETED)
            return await self._remove(key, state, surplus[:_MOST_PER_SYNC])
        missing = wanted - state.active_count
        if replaces_only_failed(state.job):
            missing -= state.terminating
        action.append(CREATED if missing > 0 else COUNTED)
        return await self._create(key, state, min(missing, _MOST_PER_SYNC)) if missing > 0 else None

    # ------------------------------------------------------------------ removing
    def _surplus(self, state: JobSync, at_least: int) -> list[Object]:
        now = self._clock.now()
        surplus: list[Object] = []
        left = state.active
        if is_indexed(state.job):
            surplus, left = duplicates(state.active, state.completions, now)
        if len(surplus) < at_least:
            surplus = [*surplus, *pod_ranking.choose(left, (), at_least - len(surplus), now)]
        return surplus

    async def _remove(self, key: str, state: JobSync, surplus: list[Object]) -> BaseException | None:
        if not surplus:
            return None
        self._expectations.expect_deletions(key, [meta.uid(pod) for pod in surplus])

        async def remove(pod: Object) -> None:
            try:
                # nobody failed here: the pod goes uncounted
                if is_tracked(pod):
                    await release(self._client, pod)
                await self._control.delete(state.job, pod)
            except BaseException:
                self._expectations.deletion_observed(key, meta.uid(pod))
                raise

        return await self._each(state, surplus, remove)

    async def _each(
        self, state: JobSync, doomed: list[Object], step: Callable[[Object], Awaitable[None]]
    ) -> BaseException | None:
        results = await asyncio.gather(*(step(pod) for pod in doomed), return_exceptions=True)
        failure: BaseException | None = None
        for pod, result in zip(doomed, results, strict=True):
            if isinstance(result, BaseException) and not errors.is_not_found(result):
                failure = result
                continue
            state.active_count -= 1
            state.terminating += 1
            if pods.is_ready(pod):
                state.ready -= 1
        return failure

    # ------------------------------------------------------------------ making
    async def _create(self, key: str, state: JobSync, count: int) -> BaseException | None:
        indexes = self._startable(state, count)
        if not indexes:
            return None
        # a deep copy, since the template is the cache's no more than the Job is
        template = meta.deepcopy(state.spec["template"])
        metadata = template.setdefault("metadata", {})
        metadata["finalizers"] = [*dict.fromkeys([*(metadata.get("finalizers") or ()), TRACKING])]
        if is_indexed(state.job):
            give_environment(template)
        reference = meta.controller_reference(state.job, JOB_API, JOB_KIND)
        self._expectations.expect_creations(key, len(indexes))
        left, tried = iter(indexes), 0

        async def create() -> None:
            nonlocal tried
            tried += 1
            index = next(left)
            if index == UNKNOWN:
                await self._control.create(state.job, template, reference)
                return
            name = meta.name(state.job)
            own = self._for_index(state, template, index)
            await self._control.create(state.job, own, reference, generate_name=name_prefix(name, index))

        done, error = await slow_start(len(indexes), create)
        # those that failed, and those a failure kept from being tried, will never be seen
        self._expectations.creation_observed(key, len(indexes) - done)
        self._metrics.made(state.job, tried=tried, done=done, failed=state.failed, terminating=state.terminating)
        state.active_count += done
        if isinstance(error, StatusError) and error.has_cause("NamespaceTerminating"):
            return None
        return error

    def _startable(self, state: JobSync, count: int) -> list[int]:
        """The indexes to make pods for now, UNKNOWN for pods without; when none may start yet, a wake-up is set."""
        now = self._clock.now()
        if not counts_per_index(state.job):
            wait = state.backoff.remaining(now)
            if wait > 0:
                state.wake_in(wait)
                return []
            return state.pending_indexes(count) if is_indexed(state.job) else [UNKNOWN] * count
        waits = {
            index: remaining_for_index(state.held_per_index.get(index), now) for index in state.pending_indexes(count)
        }
        for wait in waits.values():
            if wait > 0:
                state.wake_in(wait)
        return [index for index, wait in waits.items() if wait <= 0]

    def _for_index(self, state: JobSync, template: Object, index: int) -> Object:
        own: Object = meta.deepcopy(template)
        give_index(own, meta.name(state.job), index)
        if counts_per_index(state.job):
            replaced = state.held_per_index.get(index)
            failures, ignored = 0, 0
            if replaced is not None:
                failures, ignored = failures_before(replaced), ignored_failures_before(replaced)
                if judge_failure(state.spec.get("podFailurePolicy"), replaced).counts:
                    failures += 1
                else:
                    ignored += 1
            own["metadata"]["annotations"][FAILURES] = str(failures)
            if ignored:
                own["metadata"]["annotations"][IGNORED_FAILURES] = str(ignored)
        return own


def _wanted(state: JobSync) -> int:
    """How many pods should be active."""
    parallelism: int = state.spec.get("parallelism", 1)
    completions: int | None = state.spec.get("completions")
    if completions is None:
        # once one has succeeded, those that run are left to end, and no more are made
        return state.active_count if state.succeeded > 0 else parallelism
    return max(0, min(parallelism, completions - state.succeeded))
