"""Counts a Job's ended pods exactly once: each is held by a finalizer until the status has its uid or its index.

The order is: write uids into `status.uncountedTerminatedPods`, remove the finalizers, then move the uids to the
counters. A crash anywhere in between loses nothing and counts nothing twice.
(kubernetes `pkg/controller/job/job_controller.go`, trackJobStatusAndRemoveFinalizers; KEP-2307.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from kubecore.api import errors, meta
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.clock import Clock
from kubecore.controllers import conditions, pods
from kubecore.controllers.jobs.indexes import has_valid_index, index_of
from kubecore.controllers.jobs.metrics import JobMetrics
from kubecore.controllers.jobs.policies import judge_failure
from kubecore.controllers.jobs.state import (
    JOBS,
    TRACKING,
    JobSync,
    counts_per_index,
    has_failed,
    is_indexed,
    make_condition,
    put_condition,
)

# Keeps the uids in a status under some 20 KB, and one big Job from holding up the others.
_MOST_UNCOUNTED = 500
RELEASE = {"metadata": {"$deleteFromPrimitiveList/finalizers": [TRACKING]}}
_COUNTS = ("active", "succeeded", "failed")


async def release(client: Client, pod: Object) -> None:
    """Let go of a pod; it may be gone already."""
    try:
        await client.patch("pods", meta.name(pod), RELEASE, meta.namespace(pod))
    except errors.StatusError as error:
        if not errors.is_not_found(error):
            raise


class Releases:
    """Books on finalizers we removed and do not see removed yet, by Job key: those pods are counted."""

    def __init__(self) -> None:
        self._uids: dict[str, set[str]] = {}

    def expected(self, key: str) -> set[str]:
        return set(self._uids.get(key, ()))

    def expect(self, key: str, uids: Iterable[str]) -> None:
        self._uids.setdefault(key, set()).update(uids)

    def observed(self, key: str, uid: str) -> None:
        found = self._uids.get(key)
        if found is not None:
            found.discard(uid)

    def forget(self, key: str) -> None:
        self._uids.pop(key, None)


class Tracker:
    """Writes the status of Jobs."""

    def __init__(
        self, client: Client, clock: Clock, recorder: EventRecorder, releases: Releases, metrics: JobMetrics
    ) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._releases = releases
        self._metrics = metrics

    async def track(self, sync: JobSync, *, changed: bool) -> tuple[bool, bool]:
        """Bring the status up to date; `changed` says it already differs from what is stored.

        Returns whether pods were counted for the first time or the status was written before their finalizers went
        (then the back-off record is to be kept), and whether the Job is finished now.
        """
        held = {meta.uid(pod) for pod in sync.pods if sync.is_uncounted(pod)}
        changed |= _settle(sync.status, held)
        actions: list[str] = []
        chosen, counted, full = self._choose(sync, actions)
        changed |= counted
        if is_indexed(sync.job):
            changed |= _write_indexes(sync, chosen)
        changed |= self._note_interim(sync)
        flushed = changed
        if changed:
            await self._write(sync)
        self._metrics.handled(actions)
        failure = await self._release(sync, chosen, held)
        changed = _settle(sync.status, held)
        if failure is not None:
            if changed:
                await self._write(sync)
            raise failure
        finished = not full and self._finish(sync)
        if changed or finished:
            await self._write(sync)
        if finished:
            self._tell(sync)
        return flushed, finished

    # ------------------------------------------------------------------ choosing
    def _choose(self, sync: JobSync, actions: list[str]) -> tuple[list[Object], bool, bool]:
        """Pods to let go, whether the status changed by them, and whether there are more than fit. What a
        podFailurePolicy makes of each is added to `actions`.
        """
        uncounted = sync.status.setdefault("uncountedTerminatedPods", {})
        succeeded, failed = uncounted.setdefault("succeeded", []), uncounted.setdefault("failed", [])
        chosen: list[Object] = []
        new_indexes, changed = 0, False
        for pod in sorted(sync.pods, key=index_of) if is_indexed(sync.job) else sync.pods:
            failing = has_failed(pod, sync.job)
            if not sync.is_uncounted(pod) or not _may_release(sync, pod, failing=failing):
                continue
            chosen.append(pod)
            uid = meta.uid(pod)
            if pods.phase(pod) == "Succeeded" and uid not in sync.uncounted_failed:
                if is_indexed(sync.job):
                    # its index is enough to know that it was counted
                    if has_valid_index(pod, sync.completions) and index_of(pod) not in sync.known_indexes:
                        new_indexes, changed = new_indexes + 1, True
                elif uid not in sync.uncounted_succeeded:
                    succeeded.append(uid)
                    changed = True
            elif self._counts_as_failed(sync, pod, actions, failing=failing):
                failed.append(uid)
                changed = True
            if new_indexes + len(succeeded) + len(failed) >= _MOST_UNCOUNTED:
                return chosen, changed, True
        return chosen, changed, False

    def _counts_as_failed(self, sync: JobSync, pod: Object, actions: list[str], *, failing: bool) -> bool:
        # when a Job fails, so do those of its pods that still run; when it succeeds, they count for nothing
        job_failed = sync.finished is not None and sync.finished["type"] != "SuccessCriteriaMet"
        if not failing and not job_failed:
            return False
        if meta.uid(pod) in sync.uncounted_failed:
            return False
        if is_indexed(sync.job) and not has_valid_index(pod, sync.completions):
            return False
        verdict = judge_failure(sync.spec.get("podFailurePolicy"), pod)
        if verdict.action:
            actions.append(verdict.action)
        return verdict.counts

    # ------------------------------------------------------------------ the end
    def _note_interim(self, sync: JobSync) -> bool:
        """Say what the Job ends with before its pods are let go; whether that is news."""
        reached = sync.finished
        if reached is None or reached["type"] not in ("FailureTarget", "SuccessCriteriaMet"):
            return False
        known = conditions.is_true(sync.job, reached["type"])
        if not known:
            sync.status.setdefault("conditions", []).append(reached)
        final = "Failed" if reached["type"] == "FailureTarget" else "Complete"
        sync.finished = make_condition(final, reached.get("reason", ""), reached.get("message", ""), self._clock.now())
        return not known

    def _finish(self, sync: JobSync) -> bool:
        if sync.finished is None or sync.terminating > 0:
            return False
        uncounted = sync.status.get("uncountedTerminatedPods") or {}
        if uncounted.get("succeeded") or uncounted.get("failed"):
            return False
        put_condition(sync.status, sync.finished)
        if sync.finished["type"] == "Complete":
            sync.status["completionTime"] = sync.finished["lastTransitionTime"]
        return True

    def _tell(self, sync: JobSync) -> None:
        assert sync.finished is not None
        self._metrics.ended(sync.job, sync.finished)
        if sync.finished["type"] == "Failed":
            reason, message = sync.finished["reason"], sync.finished["message"]
            self._recorder.event(sync.job, "Warning", reason, message)
            return
        wanted = sync.spec.get("completions")
        if wanted is not None and (sync.status.get("succeeded") or 0) > wanted:
            message = "Too many succeeded pods running after completion count reached"
            self._recorder.event(sync.job, "Warning", "TooManySucceededPods", message)
        self._recorder.event(sync.job, "Normal", "Completed", "Job completed")

    # ------------------------------------------------------------------ writes
    async def _release(self, sync: JobSync, chosen: list[Object], held: set[str]) -> BaseException | None:
        """Remove the finalizers; those that are off leave `held`. Returns an error, if there was one."""
        key = meta.key(sync.job)
        self._releases.expect(key, [meta.uid(pod) for pod in chosen])
        results = await asyncio.gather(*(release(self._client, pod) for pod in chosen), return_exceptions=True)
        failure: BaseException | None = None
        for pod, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException):
                self._releases.observed(key, meta.uid(pod))
                failure = result
            else:
                held.discard(meta.uid(pod))
        return failure

    async def _write(self, sync: JobSync) -> None:
        status = _without_zeros(sync.status)
        sync.job = await self._client.update(JOBS, {**sync.job, "status": status}, subresource="status")
        counted = sync.counted()
        self._metrics.counted(sync.job, sync.stored, counted)
        sync.stored = counted


def _may_release(sync: JobSync, pod: Object, *, failing: bool) -> bool:
    if meta.is_deleting(sync.job) or sync.finished is not None or pods.phase(pod) == "Succeeded":
        return True
    if not failing:
        return False
    return not (counts_per_index(sync.job) and sync.is_held(pod))


def _settle(status: dict[str, Any], held: set[str]) -> bool:
    """Move uids whose pods are let go from the uncounted to the counters; whether there were any."""
    uncounted = status.setdefault("uncountedTerminatedPods", {})
    changed = False
    for name in ("succeeded", "failed"):
        listed = uncounted.get(name) or []
        left = [uid for uid in listed if uid in held]
        if len(left) != len(listed):
            status[name] = (status.get(name) or 0) + len(listed) - len(left)
            uncounted[name] = left
            changed = True
    return changed


def _write_indexes(sync: JobSync, chosen: list[Object]) -> bool:
    done = [
        index_of(pod) for pod in chosen if pods.phase(pod) == "Succeeded" and has_valid_index(pod, sync.completions)
    ]
    sync.succeeded_indexes = sync.succeeded_indexes.with_indexes(done)
    text = str(sync.succeeded_indexes)
    changed = text != (sync.status.get("completedIndexes") or "")
    sync.status["completedIndexes"] = text
    sync.status["succeeded"] = len(sync.succeeded_indexes)
    if sync.failed_indexes is not None:
        failed = str(sync.failed_indexes)
        changed |= failed != sync.status.get("failedIndexes")
        sync.status["failedIndexes"] = failed
    return changed


def _without_zeros(status: dict[str, Any]) -> dict[str, Any]:
    """As Kubernetes writes it: counts of nothing and empty lists are left out."""
    out = {name: value for name, value in status.items() if value or name not in (*_COUNTS, "completedIndexes")}
    uncounted = status.get("uncountedTerminatedPods") or {}
    out["uncountedTerminatedPods"] = {name: uids for name, uids in uncounted.items() if uids}
    return out
