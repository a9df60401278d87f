"""What lies between the choice of a node and the pod being bound to it: Reserve, Permit, PreBind, Bind, PostBind."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from kubecore.api.errors import StatusError
from kubecore.scheduler.extender import ExtenderError
from kubecore.scheduler.extenders import Extenders
from kubecore.scheduler.framework import (
    Bind,
    CycleState,
    Diagnosis,
    Permit,
    PluginError,
    PostBind,
    PreBind,
    Refused,
    Reserve,
)
from kubecore.scheduler.metrics import PointTimes
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile
from kubecore.scheduler.reporting import SCHEDULER_ERROR, UNSCHEDULABLE
from kubecore.scheduler.waiting_pods import WaitingPods

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the pod did not get its node. Refused by no plugin, it is tried again after a pause in any case."""

    reason: str
    message: str
    refused_by: frozenset[str] = frozenset()


class Placing:
    def __init__(self, profile: Profile, waiting: WaitingPods, times: PointTimes, extenders: Extenders) -> None:
        self._extenders = extenders
        self._times = times
        self._waiting = waiting
        self._reserving, self._permitting = profile.at(Reserve), profile.at(Permit)
        self._preparing, self._binding, self._telling = profile.at(PreBind), profile.at(Bind), profile.at(PostBind)

    # ------------------------------------------------------------------ before another pod is decided
    def commit(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        """Reserve what the pod needs and ask whether it may be bound; all is undone when that fails."""
        began = self._times.now()
        failure = self._reserve(state, pod, node)
        self._times.ended("Reserve", began, _status(failure))
        if failure is None:
            began = self._times.now()
            failure = self._permit(state, pod, node)
            self._times.ended("Permit", began, "Wait" if self.is_waiting(pod) else _status(failure))
        if failure is not None:
            self.unreserve(state, pod, node)
        return failure

    def _reserve(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        for plugin in self._reserving:
            try:
                plugin.reserve(state, pod, node)
            except Refused as refused:
                return _refused(str(refused), plugin.name)
            except Exception as error:
                log.error("reserving for %s failed", pod.key, exc_info=error)
                return Failure(SCHEDULER_ERROR, f'running Reserve plugin "{plugin.name}": {error}')
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        began = self._times.now()
        for plugin in reversed(self._reserving):
            try:
                plugin.unreserve(state, pod, node)
            except Exception:
                log.exception("Reserve plugin %s failed to undo what it reserved for %s", plugin.name, pod.key)
        self._times.ended("Unreserve", began)

    def _permit(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        waits: dict[str, float] = {}
        for plugin in self._permitting:
            try:
                permission = plugin.permit(state, pod, node)
            except Exception as error:
                log.error("permitting %s failed", pod.key, exc_info=error)
                return Failure(SCHEDULER_ERROR, f'running Permit plugin "{plugin.name}": {error}')
            if permission is not None and permission.refusal:
                return _refused(permission.refusal, plugin.name)
            if permission is not None:
                waits[plugin.name] = permission.wait
        if waits:
            self._waiting.hold(pod, waits)
        return None

    # ------------------------------------------------------------------ while others are decided
    def takes_time(self, state: CycleState, pod: PodInfo, node: str) -> bool:
        """Whether anything is to happen before the binding itself is written."""
        try:
            return self.is_waiting(pod) or any(one.has_work(state, pod, node) for one in self._preparing)
        except Exception:
            # asked again by `prepare`, which tells
            return True

    def is_waiting(self, pod: PodInfo) -> bool:
        return self._waiting.get(pod.uid) is not None

    async def permitted(self, pod: PodInfo) -> Failure | None:
        """Wait until the plugins that hold the pod let it go."""
        refused = await self._waiting.released(pod)
        return _refused(str(refused), refused.plugin) if refused is not None else None

    async def prepare(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        began = self._times.now()
        failure = await self._prepare(state, pod, node)
        self._times.ended("PreBind", began, _status(failure))
        return failure

    async def _prepare(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        for plugin in self._preparing:
            try:
                if plugin.has_work(state, pod, node):
                    await plugin.pre_bind(state, pod, node)
            except Refused as refused:
                return Failure(UNSCHEDULABLE, str(refused))
            except Exception as error:
                _tell(pod, error)
                return Failure(SCHEDULER_ERROR, f'running PreBind plugin "{plugin.name}": {error}')
        return None

    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        if extenders := self._extenders.for_pod(pod):
            try:
                if await extenders.bind(pod, node):
                    return None
            except ExtenderError as error:
                return Failure(SCHEDULER_ERROR, str(error))
        began = self._times.now()
        failure = await self._bind(state, pod, node)
        self._times.ended("Bind", began, _status(failure))
        return failure

    async def _bind(self, state: CycleState, pod: PodInfo, node: str) -> Failure | None:
        for binder in self._binding:
            try:
                if not binder.handles(state, pod, node):
                    continue
                await binder.bind(state, pod, node)
            except Exception as error:
                _tell(pod, error)
                return Failure(SCHEDULER_ERROR, f'running Bind plugin "{binder.name}": {error}')
            return None
        return Failure(SCHEDULER_ERROR, "binding rejected: no Bind plugin handles the pod")

    def bound(self, state: CycleState, pod: PodInfo, node: str) -> None:
        began = self._times.now()
        for plugin in self._telling:
            try:
                plugin.post_bind(state, pod, node)
            except Exception:
                log.exception("PostBind plugin %s failed for %s", plugin.name, pod.key)
        self._times.ended("PostBind", began)


def _status(failure: Failure | None) -> str:
    """As upstream names the code of a status."""
    if failure is None:
        return "Success"
    return "Unschedulable" if failure.reason == UNSCHEDULABLE else "Error"


def _refused(message: str, plugin: str) -> Failure:
    diagnosis = Diagnosis(1)
    diagnosis.refused(plugin, (message,))
    return Failure(UNSCHEDULABLE, diagnosis.message(), frozenset(diagnosis.plugins))


def _tell(pod: PodInfo, error: Exception) -> None:
    """What the server or the network says is told in the pod's event; anything else is a fault of ours."""
    if not isinstance(error, StatusError | OSError | PluginError):
        log.error("binding %s failed", pod.key, exc_info=error)
