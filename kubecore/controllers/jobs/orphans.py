"""Lets go of pods that hold a Job's finalizer while no Job will count them: without it they could never be deleted."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.jobs.state import JOB_API, JOB_KIND, JOBS, finished_condition, is_tracked, managed_elsewhere
from kubecore.controllers.jobs.tracking import release
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, controller_uid


class JobOrphanController(Controller):
    """Keys are pods."""

    name = "job-controller-orphans"
    queue_name = "job_orphan_pod"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._jobs = self.informer(JOBS)
        self._pods = self.informer("pods")
        self._pods.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._pods.add_handler(self._look, lambda _, pod: self._look(pod), lambda _: None)
        self._jobs.add_handler(lambda _: None, lambda _, job: self._job_updated(job), self._job_deleted)

    def _look(self, pod: Object) -> None:
        # a pod whose Job we do not know, yet, is left to whoever made it until it is to go
        lost = meta.controller_of(pod) is None or meta.is_deleting(pod)
        if lost and is_tracked(pod) and not self._is_counted(pod):
            self.enqueue(pod)

    def _job_updated(self, job: Object) -> None:
        if finished_condition(job):
            self._job_deleted(job)

    def _job_deleted(self, job: Object) -> None:
        for pod in self._pods.by_index(OWNER_INDEX, meta.uid(job)):
            if is_tracked(pod):
                self.enqueue(pod)

    def _is_counted(self, pod: Object) -> bool:
        """Its Job is there and still goes on, or the finalizer is another controller's business."""
        reference = meta.controller_of(pod)
        if reference is None:
            return False
        if reference["kind"] != JOB_KIND or reference["apiVersion"] != JOB_API:
            return True
        job = self._jobs.get(f"{meta.namespace(pod)}/{reference['name']}")
        if job is None or meta.uid(job) != reference["uid"]:
            return False
        return managed_elsewhere(job) or not finished_condition(job)

    async def sync(self, key: str) -> float | None:
        pod = self._pods.get(key)
        if pod is not None and is_tracked(pod) and not self._is_counted(pod):
            await release(self.client, pod)
        return None
