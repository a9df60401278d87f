"""Runs pods until enough of them have succeeded, or too many have failed.

(kubernetes `pkg/controller/job/job_controller.go`.) `job_state` holds what one sync knows, `job_pods` makes and removes
pods, `job_tracking` counts those that ended, `job_orphans` lets go of pods that no Job will count.
"""

from __future__ import annotations

from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.client.workqueue import RateLimits
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.expectations import Expectations
from kubecore.controllers.jobs.backoff import Backoff
from kubecore.controllers.jobs.job_pods import JobPods
from kubecore.controllers.jobs.metrics import RECONCILING, JobMetrics
from kubecore.controllers.jobs.policies import judge_failure, success
from kubecore.controllers.jobs.state import (
    JOB_KIND,
    JOBS,
    TRACKING,
    JobSync,
    finished_condition,
    has_failed,
    is_indexed,
    is_suspended,
    is_tracked,
    make_condition,
    managed_elsewhere,
    past_restart_limit,
    put_condition,
)
from kubecore.controllers.jobs.tracking import Releases, Tracker
from kubecore.controllers.ownership import Ownership
from kubecore.controllers.pod_control import PodControl
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, controller_uid

# Pods change in bursts, and a sync looks at all of a Job's pods: one sync for what comes within this time.
# (Kubernetes waits a whole second.)
_BATCH_SECONDS = 0.1


class JobController(Controller):
    """Keys are Jobs."""

    name = "job-controller"
    workers = 5
    limits = RateLimits(base=1.0, maximum=60.0, rate=1000.0, burst=1000)

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._expectations = Expectations(self.clock)
        self._releases = Releases()
        self._backoffs: dict[str, Backoff] = {}
        self._ended: set[str] = set()
        """Uids of Jobs that were written as finished while the cache does not show it yet."""
        self._metrics = JobMetrics()
        self.metrics = self._metrics.all
        self._tracker = Tracker(self.client, self.clock, self._recorder, self._releases, self._metrics)
        control = PodControl(self.client, self._recorder)
        self._control = JobPods(self.client, self.clock, control, self._expectations, self._metrics)
        self._jobs = self.informer(JOBS)
        self._pods = self.informer("pods")
        self._pods.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._jobs.add_handler(self._job_added, self._job_updated, self._job_deleted)
        self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_gone)

    # ------------------------------------------------------------------ books
    def _job_added(self, job: Object) -> None:
        if managed_elsewhere(job):
            self._metrics.left_to(job["spec"]["managedBy"])
        self.enqueue(job)

    def _job_updated(self, old: Object, new: Object) -> None:
        if meta.generation(old) != meta.generation(new):
            self.enqueue(new)
        else:
            self._enqueue_soon(new)

    def _job_deleted(self, job: Object) -> None:
        self._ended.discard(meta.uid(job))
        self._forget(meta.key(job))
        self.enqueue(job)

    def _forget(self, key: str) -> None:
        self._expectations.forget(key)
        self._releases.forget(key)
        self._backoffs.pop(key, None)

    def _enqueue_soon(self, job: Object) -> None:
        self.queue.add_after(meta.key(job), _BATCH_SECONDS)

    def _pod_added(self, pod: Object) -> None:
        self._metrics.seen(None, pod)
        if meta.is_deleting(pod):
            # seen for the first time and already on its way out, after a restart of ours
            self._pod_leaving(pod, gone=False)
            return
        job = self._owner(pod)
        if job is not None:
            self._expectations.creation_observed(meta.key(job))
            self._enqueue_soon(job)
        elif meta.controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        self._metrics.seen(old, new)
        if meta.is_deleting(new):
            self._pod_leaving(new, gone=False)
            return
        before = self._owner(old)
        after = before if meta.same_owners(old, new) else self._owner(new)
        for job in (before, after):
            if job is not None:
                if not is_tracked(new):
                    self._releases.observed(meta.key(job), meta.uid(new))
                self._enqueue_soon(job)
        if meta.controller_of(new) is None and (
            meta.controller_of(old) is not None or meta.labels(old) != meta.labels(new)
        ):
            self._enqueue_matching(new)

    def _pod_gone(self, pod: Object) -> None:
        self._metrics.seen(pod, None)
        self._pod_leaving(pod, gone=True)

    def _pod_leaving(self, pod: Object, *, gone: bool) -> None:
        job = self._owner(pod)
        if job is None:
            return
        self._expectations.deletion_observed(meta.key(job), meta.uid(pod))
        if gone or not is_tracked(pod):
            self._releases.observed(meta.key(job), meta.uid(pod))
        self._enqueue_soon(job)

    def _owner(self, pod: Object) -> Object | None:
        reference = meta.controller_of(pod)
        if reference is None or reference["kind"] != JOB_KIND:
            return None
        found = self._jobs.get(f"{meta.namespace(pod)}/{reference['name']}")
        return found if found is not None and meta.uid(found) == reference["uid"] else None

    def _enqueue_matching(self, pod: Object) -> None:
        labels = meta.labels(pod)
        if not labels:
            return
        for job in self._jobs.list(meta.namespace(pod)):
            selector = job["spec"].get("selector")
            if selector and Selector.from_label_selector(selector).matches(labels):
                self._enqueue_soon(job)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        job = self._jobs.get(key)
        if job is None:
            self._forget(key)
            return None
        if managed_elsewhere(job):
            return None
        if finished_condition(job):
            self._backoffs.pop(key, None)
            self._ended.discard(meta.uid(job))
            return None
        if meta.uid(job) in self._ended:
            return None
        began, result, action = self.clock.monotonic(), "error", [RECONCILING]
        try:
            again = await self._sync(key, job, action)
            result = "success"
            return again
        finally:
            self._metrics.synced(job, self.clock.monotonic() - began, result=result, action=action[-1])

    async def _sync(self, key: str, job: Object, action: list[str]) -> float | None:
        """What was done is added to `action`."""
        may_manage = self._expectations.satisfied(key)
        state = JobSync(meta.deepcopy(job), await self._claim(job), self._releases.expected(key))
        state.newly_finished(self._backoffs.get(key, Backoff()))
        before = _shown(state)
        if not state.status.get("startTime") and not is_suspended(job):
            state.status["startTime"] = meta.format_time(self.clock.now())
        self._judge(state)
        failure, changed = await self._act(key, state, action, may_manage=may_manage)
        status = state.status
        status["active"], status["ready"], status["terminating"] = state.active_count, state.ready, state.terminating
        changed = changed or before != _shown(state)
        flushed, finished = await self._tracker.track(state, changed=changed)
        if flushed:
            self._backoffs[key] = state.backoff
        if finished:
            self._ended.add(meta.uid(job))
        if failure is not None:
            if changed:
                # a pod that ended leaves its place in a quota, within seconds: not a try among many
                self.queue.forget(key)
            raise failure
        return state.again

    async def _claim(self, job: Object) -> list[Object]:
        selector = Selector.from_label_selector(job["spec"]["selector"])
        candidates = [
            *self._pods.by_index(OWNER_INDEX, meta.uid(job)),
            *self._pods.by_index(OWNER_INDEX, f"orphan/{meta.namespace(job)}"),
        ]
        return await Ownership(self.client, JOBS, "pods", job, selector, finalizer=TRACKING).claim(candidates)

    # ------------------------------------------------------------------ judging
    def _judge(self, state: JobSync) -> None:
        """Find what the Job ends with: what an earlier sync found, then failures, then successes."""
        state.finished = self._known_end(state) or self._policy_failure(state) or self._limit_failure(state)
        if not is_indexed(state.job):
            return
        state.judge_indexes()
        if state.failed_indexes is not None:
            state.finished = state.finished or self._index_failure(state)
            state.hold_failed_pods()
        if state.finished is None:
            message = success(state.spec.get("successPolicy"), state.completions, state.succeeded_indexes)
            if message is not None:
                state.finished = make_condition("SuccessCriteriaMet", "SuccessPolicy", message, self.clock.now())

    def _known_end(self, state: JobSync) -> conditions.Condition | None:
        if conditions.is_true(state.job, "SuccessCriteriaMet"):
            return conditions.find(state.job, "SuccessCriteriaMet")
        target = conditions.find(state.job, "FailureTarget")
        if target is None or target["status"] != "True":
            return None
        return make_condition("Failed", target.get("reason", ""), target.get("message", ""), self.clock.now())

    def _policy_failure(self, state: JobSync) -> conditions.Condition | None:
        policy = state.spec.get("podFailurePolicy")
        if policy is None:
            return None
        for pod in state.pods:
            if has_failed(pod, state.job):
                message = judge_failure(policy, pod).message
                if message:
                    return self._failure("PodFailurePolicy", message)
        return None

    def _limit_failure(self, state: JobSync) -> conditions.Condition | None:
        if state.failed > state.spec.get("backoffLimit", 6) or past_restart_limit(state.job, state.pods):
            return self._failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        deadline = state.spec.get("activeDeadlineSeconds")
        # while the condition still says Suspended, this sync is the one that resumes it and starts the time anew
        if deadline is None or is_suspended(state.job) or conditions.is_true(state.job, "Suspended"):
            return None
        started = meta.parse_time(state.status["startTime"])
        left = deadline - (self.clock.now() - started).total_seconds()
        if left <= 0:
            return self._failure("DeadlineExceeded", "Job was active longer than specified deadline")
        state.wake_in(left)
        return None

    def _index_failure(self, state: JobSync) -> conditions.Condition | None:
        failed = len(state.failed_indexes or ())
        limit = state.spec.get("maxFailedIndexes")
        if limit is not None and failed > limit:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return self._failure("MaxFailedIndexesExceeded", message)
        if failed and failed + len(state.succeeded_indexes) >= state.completions:
            return self._failure("FailedIndexes", "Job has failed indexes")
        return None

    def _failure(self, reason: str, message: str) -> conditions.Condition:
        return make_condition("FailureTarget", reason, message, self.clock.now())

    # ------------------------------------------------------------------ acting
    async def _act(
        self, key: str, state: JobSync, action: list[str], *, may_manage: bool
    ) -> tuple[BaseException | None, bool]:
        """Make or remove pods. Returns an error, if there was one, and whether conditions changed."""
        if state.finished is not None:
            failure = await self._control.end(state)
            if state.active_count or not may_manage:
                # there may be pods left that run, or that the cache does not know of
                state.finished = None
            return failure, False
        managed = may_manage and not meta.is_deleting(state.job)
        failure = await self._control.manage(key, state, action) if managed else None
        if _is_complete(state):
            message = "Reached expected number of succeeded pods"
            state.finished = make_condition("SuccessCriteriaMet", "CompletionsReached", message, self.clock.now())
            return failure, False
        return failure, managed and self._note_suspension(state)

    def _note_suspension(self, state: JobSync) -> bool:
        now = self.clock.now()
        if is_suspended(state.job):
            if not put_condition(state.status, make_condition("Suspended", "JobSuspended", "Job suspended", now)):
                return False
            self._recorder.event(state.job, "Normal", "Suspended", "Job suspended")
            return True
        resumed = make_condition("Suspended", "JobResumed", "Job resumed", now, status="False")
        if not put_condition(state.status, resumed):
            return False
        self._recorder.event(state.job, "Normal", "Resumed", "Job resumed")
        # activeDeadlineSeconds counts from here
        state.status["startTime"] = meta.format_time(now)
        return True


def _is_complete(state: JobSync) -> bool:
    if state.active_count:
        return False
    wanted = state.spec.get("completions")
    # without completions, one pod that succeeds says that the work is done, once the others have ended too
    return state.succeeded > 0 if wanted is None else state.succeeded >= wanted


def _shown(state: JobSync) -> tuple[object, ...]:
    """What of the status a sync writes for its own sake, not because of pods it counts."""
    status = state.status
    return status.get("active") or 0, status.get("ready"), status.get("terminating")
