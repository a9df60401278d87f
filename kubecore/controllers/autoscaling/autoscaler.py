"""HorizontalPodAutoscalers: as many replicas as the metrics ask for, by any kind's scale subresource.

(kubernetes `pkg/controller/podautoscaler/horizontal.go`.) Looks at each autoscaler when it comes or its spec changes,
and every 15 seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kubecore.api import errors, meta, quantity, scheme
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.client.discovery import custom_resources
from kubecore.controllers.autoscaling.behavior import Bounds, History, limit
from kubecore.controllers.autoscaling.measures import INTERNAL, NONE, SPEC, AutoscalerMeasures
from kubecore.controllers.autoscaling.metrics import MetricsClient, MetricsError
from kubecore.controllers.autoscaling.replicas import Rules, Tolerance
from kubecore.controllers.autoscaling.sources import Measured, MetricSources, Scaled, SourceFailed
from kubecore.controllers.base import Controller, ControllerContext

_UPDATE_TRIES = 5
_UNKNOWN_SOURCE = "InvalidMetricSourceType"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerConfig:
    """In seconds, but for the tolerance; kube-controller-manager's --horizontal-pod-autoscaler-* flags."""

    sync_period: float = 15.0
    tolerance: float = 0.1
    downscale_stabilization: float = 300.0
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0


@dataclass(slots=True)
class _Work:
    """One look at one autoscaler: its copy, whose status is made anew, and what is known of its target."""

    hpa: Object
    key: str
    now: str
    status: Object
    selector: str = ""
    current: int = 0
    running: int = 0
    scaled_to: int | None = None
    """How many replicas the target was told to have."""
    failed: str = NONE
    """SPEC or INTERNAL where something failed."""

    @property
    def spec(self) -> Object:
        spec: Object = self.hpa["spec"]
        return spec

    @property
    def namespace(self) -> str:
        return meta.namespace(self.hpa)

    def set_condition(self, kind: str, status: str, reason: str, message: str) -> None:
        conditions = self.status.setdefault("conditions", [])
        known = next((one for one in conditions if one["type"] == kind), None)
        since = meta.transition_time(known, status, self.now)
        made = {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
        if known is None:
            conditions.append(made)
        else:
            known.clear()
            known.update(made)


class _BadReference(MetricsError):
    """The target cannot be meant by any version."""


class HorizontalPodAutoscalerController(Controller):
    name = "horizontal-pod-autoscaler-controller"
    queue_name = "horizontalpodautoscaler"
    workers = 5

    def __init__(self, context: ControllerContext, *, config: AutoscalerConfig | None = None) -> None:
        super().__init__(context)
        self._config = config or AutoscalerConfig()
        self._sources = MetricSources(MetricsClient(context.client))
        self._recorder = context.recorder("horizontal-pod-autoscaler")
        self._autoscalers = self.informer("horizontalpodautoscalers.autoscaling")
        self._autoscalers.add_handler(self.enqueue, self._changed, self.enqueue)
        self._pods = self.informer("pods")
        self._measures = AutoscalerMeasures(lambda: len(self._autoscalers.list()))
        self.metrics = self._measures.all
        self._histories: dict[str, History] = {}
        self._selectors: dict[str, Selector] = {}

    def _changed(self, old: Object, new: Object) -> None:
        if old.get("spec") != new.get("spec"):
            self.enqueue(new)

    async def sync(self, key: str) -> float | None:
        hpa = self._autoscalers.get(key)
        if hpa is None:
            # Here, for a look that was under way when it went has remembered it once more.
            self._histories.pop(key, None)
            self._selectors.pop(key, None)
            self._measures.forget(*meta.split_key(key))
            return None
        now = meta.format_time(self.clock.now())
        work = _Work(hpa, key, now, meta.deepcopy(hpa.get("status") or {}))
        began = self.clock.monotonic()
        try:
            await self._reconcile(work)
            if work.status != (hpa.get("status") or {}):
                await self._write_status(work)
        except Exception:
            work.failed = INTERNAL
            raise
        finally:
            self._measures.looked(
                self.clock.monotonic() - began, current=work.current, desired=work.scaled_to, error=work.failed
            )
        return self._config.sync_period

    async def _write_status(self, work: _Work) -> None:
        try:
            changed = {**work.hpa, "status": work.status}
            await self.client.update("horizontalpodautoscalers.autoscaling", changed, subresource="status")
        except StatusError as error:
            if errors.is_not_found(error) or errors.is_conflict(error):
                # changed or gone meanwhile: the next look begins with what it is now
                return
            self._recorder.event(work.hpa, "Warning", "FailedUpdateStatus", error.message)
            raise

    # ------------------------------------------------------------------ one look
    async def _reconcile(self, work: _Work) -> None:
        try:
            resource = await self._target(work)
            name = work.spec["scaleTargetRef"]["name"]
            scale = await self.client.get(resource.key, name, work.namespace, subresource="scale")
        except (StatusError, MetricsError) as error:
            told = error.message if isinstance(error, StatusError) else str(error)
            work.failed = SPEC if isinstance(error, _BadReference) else INTERNAL
            self._recorder.event(work.hpa, "Warning", "FailedGetScale", told)
            message = f"the HPA controller was unable to get the target's current scale: {told}"
            work.set_condition("AbleToScale", "False", "FailedGetScale", message)
            return
        told = "the HPA controller was able to get the target's current scale"
        work.set_condition("AbleToScale", "True", "SucceededGetScale", told)
        work.current = scale["spec"].get("replicas") or 0
        status = scale.get("status") or {}
        work.running, work.selector = status.get("replicas") or 0, status.get("selector") or ""
        history = self._histories.setdefault(work.key, History())
        history.begin(self.clock.monotonic(), work.current)
        decided = await self._decide(work, history)
        if decided is None:
            return
        desired, reason, statuses = decided
        if desired != work.current:
            try:
                await self._rescale(work, resource, scale, desired, reason)
            except StatusError as error:
                work.failed = INTERNAL
                self._tell_failed(work, desired, reason, error)
                self._set_status(work, work.status.get("desiredReplicas") or 0, statuses, rescaled=False)
                return
            work.scaled_to = desired
            history.note_change(work.spec.get("behavior"), self.clock.monotonic(), work.current, desired)
        self._set_status(work, desired, statuses, rescaled=desired != work.current)
        self._measures.desired(work.namespace, meta.name(work.hpa), desired)

    async def _target(self, work: _Work) -> Resource:
        """Raises MetricsError for a kind that nobody serves."""
        reference = work.spec["scaleTargetRef"]
        api_version, kind = reference.get("apiVersion") or "v1", reference["kind"]
        if api_version.count("/") > 1:
            raise _BadReference(f"unexpected GroupVersion string: {api_version}")
        found = self.client.resource_for_kind(api_version, kind)
        group = scheme.split_group_version(api_version)[0]
        if found is None:
            # in whichever version it is served
            known = [*scheme.default().resources, *(await custom_resources(self.client))[0]]
            found = next((one for one in known if (one.group, one.kind) == (group, kind)), None)
        if found is None:
            raise MetricsError(f'no matches for kind "{kind}" in group "{group}"')
        return found

    async def _decide(self, work: _Work, history: History) -> tuple[int, str, list[Object] | None] | None:
        """How many there shall be, why, and the metrics' statuses; None when nobody can tell."""
        least, most = work.spec.get("minReplicas"), work.spec["maxReplicas"]
        least = 1 if least is None else least
        if work.current == 0 and least != 0:
            told = "scaling is disabled since the replica count of the target is zero"
            work.set_condition("ScalingActive", "False", "ScalingDisabled", told)
            return 0, "", None
        if work.current > most:
            return most, "Current number of replicas above Spec.MaxReplicas", None
        if work.current < least:
            return least, "Current number of replicas below Spec.MinReplicas", None
        statuses: list[Object] = []
        try:
            proposed, metric = await self._propose(work, statuses)
        except MetricsError as error:
            work.failed = work.failed if work.failed != NONE else INTERNAL
            self._set_status(work, work.status.get("desiredReplicas") or 0, statuses or None, rescaled=False)
            self._recorder.event(work.hpa, "Warning", "FailedComputeMetricsReplicas", str(error))
            return None
        reason = "All metrics below target" if proposed < work.current else ""
        if proposed > work.current:
            reason = f"{metric} above target"
        bounds = Bounds(current=work.current, least=least, most=most, down_window=self._config.downscale_stabilization)
        desired, conditions = limit(history, work.spec.get("behavior"), bounds, proposed, self.clock.monotonic())
        for condition in conditions:
            work.set_condition(*condition)
        return desired, reason, statuses

    async def _rescale(self, work: _Work, resource: Resource, scale: Object, desired: int, reason: str) -> None:
        """Raises StatusError."""
        await self._update_scale(resource, scale, desired)
        message = f"the HPA controller was able to update the target scale to {desired}"
        work.set_condition("AbleToScale", "True", "SucceededRescale", message)
        told = f"New size: {desired}; reason: {reason}"
        self._recorder.event(work.hpa, "Normal", "SuccessfulRescale", told)

    def _tell_failed(self, work: _Work, desired: int, reason: str, error: StatusError) -> None:
        told = f"New size: {desired}; reason: {reason}; error: {error.message}"
        self._recorder.event(work.hpa, "Warning", "FailedRescale", told)
        message = f"the HPA controller was unable to update the target scale: {error.message}"
        work.set_condition("AbleToScale", "False", "FailedUpdateScale", message)

    async def _update_scale(self, resource: Resource, scale: Object, desired: int) -> None:
        for attempt in range(_UPDATE_TRIES):
            wanted = {**scale, "spec": {**scale["spec"], "replicas": desired}}
            try:
                await self.client.update(resource.key, wanted, subresource="scale")
                return
            except StatusError as error:
                if not errors.is_conflict(error) or attempt + 1 == _UPDATE_TRIES:
                    raise
            name, namespace = scale["metadata"]["name"], meta.namespace(scale)
            scale = await self.client.get(resource.key, name, namespace, subresource="scale")

    def _set_status(self, work: _Work, desired: int, statuses: list[Object] | None, *, rescaled: bool) -> None:
        status = work.status
        status.update(currentReplicas=work.current, desiredReplicas=desired, currentMetrics=statuses)
        if not work.current:
            # None is what is shown of it, so that nothing has changed at the next look.
            del status["currentReplicas"]
        if rescaled:
            status["lastScaleTime"] = work.now

    # ------------------------------------------------------------------ metrics
    async def _propose(self, work: _Work, statuses: list[Object]) -> tuple[int, str]:
        """The most that any metric asks for, and its name. Raises MetricsError."""
        target = self._scaled(work, self._selected(work))
        specs = work.spec.get("metrics") or []
        best, named = 0, ""
        failures: list[SourceFailed] = []
        for spec in specs:
            try:
                proposal, metric, current = await self._measured(work, target, spec)
            except SourceFailed as failed:
                if not failures:
                    work.failed = _error_of(failed)
                self._recorder.event(work.hpa, "Warning", failed.reason, failed.why)
                failures.append(failed)
                statuses.append({"type": ""})
                continue
            statuses.append(current)
            if best == 0 or proposal.replicas > best:
                best, named = proposal.replicas, metric
        if failures and (len(failures) == len(specs) or best < work.current):
            message = f"the HPA was unable to compute the replica count: {failures[0].why}"
            work.set_condition("ScalingActive", "False", failures[0].reason, message)
            told = f"invalid metrics ({len(failures)} invalid out of {len(specs)}), first error is: {failures[0]}"
            raise MetricsError(told)
        told = f"the HPA was able to successfully calculate a replica count from {named}"
        work.set_condition("ScalingActive", "True", "ValidMetricFound", told)
        return best, named

    async def _measured(self, work: _Work, target: Scaled, spec: Object) -> Measured:
        """What one metric asks for. Raises SourceFailed."""
        began, known = self.clock.monotonic(), work.status.get("currentReplicas") or 0
        proposed, error = known, NONE
        try:
            found = await self._sources.evaluate(target, spec)
            proposed = found.proposal.replicas
            return found
        except SourceFailed as failed:
            error = _error_of(failed)
            raise
        finally:
            took = self.clock.monotonic() - began
            self._measures.computed(spec["type"], took, current=known, proposed=proposed, error=error)

    def _selected(self, work: _Work) -> list[Object]:
        """The target's pods. Raises MetricsError for a selector that is none, or not this autoscaler's alone."""

        def refuse(reason: str, message: str, *, event: str, told: str) -> MetricsError:
            self._recorder.event(work.hpa, "Warning", event, told)
            work.set_condition("ScalingActive", "False", reason, message)
            return MetricsError(told)

        if not work.selector:
            message = "the HPA target's scale is missing a selector"
            raise refuse("InvalidSelector", message, event="SelectorRequired", told="selector is required")
        try:
            selector = Selector.parse(work.selector)
        except ValueError as error:
            told = f"couldn't convert selector into a corresponding internal selector object: {error}"
            raise refuse("InvalidSelector", told, event="InvalidSelector", told=told) from None
        self._selectors[work.key] = selector
        found = [pod for pod in self._pods.list(work.namespace) if selector.matches(meta.labels(pod))]
        others = self._selecting(work.namespace, found)
        if len(others) > 1:
            told = f"pods by selector {work.selector} are controlled by multiple HPAs: [{' '.join(others)}]"
            raise refuse("AmbiguousSelector", told, event="AmbiguousSelector", told=told)
        return found

    def _selecting(self, namespace: str, pods: list[Object]) -> list[str]:
        """Autoscalers that have a say about some of the pods."""
        return [
            key
            for key, selector in sorted(self._selectors.items())
            if meta.split_key(key)[0] == namespace and any(selector.matches(meta.labels(pod)) for pod in pods)
        ]

    def _scaled(self, work: _Work, pods: list[Object]) -> Scaled:
        """What metrics are looked at for."""
        config, behavior = self._config, work.spec.get("behavior") or {}
        tolerance = Tolerance(config.tolerance, config.tolerance)
        down, up = ((behavior.get(name) or {}).get("tolerance") for name in ("scaleDown", "scaleUp"))
        if down is not None:
            tolerance = replace(tolerance, down=float(quantity.parse(down)))
        if up is not None:
            tolerance = replace(tolerance, up=float(quantity.parse(up)))
        rules = Rules(
            now=self.clock.now(),
            tolerance=tolerance,
            cpu_initialization=config.cpu_initialization_period,
            initial_delay=config.initial_readiness_delay,
        )
        return Scaled(work.namespace, work.selector, pods, work.current, work.running, rules)


def _error_of(failed: SourceFailed) -> str:
    return SPEC if failed.reason == _UNKNOWN_SOURCE else INTERNAL
