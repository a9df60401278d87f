"""What each kind of metric source proposes, and how an autoscaler's status tells of it.

After upstream kubernetes pkg/controller/podautoscaler/horizontal.go (computeStatusFor...Metric).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kubecore.api import quantity
from kubecore.api.selectors import Selector, as_go_prints
from kubecore.client.client import Object
from kubecore.controllers.autoscaling import replicas
from kubecore.controllers.autoscaling.metrics import MetricsClient, MetricsError
from kubecore.controllers.autoscaling.replicas import Proposal, Rules


class SourceFailed(Exception):
    """A metric is of no use; `reason` is that of the condition and the event, `why` what these say."""

    def __init__(self, reason: str, why: Exception | str, told: str) -> None:
        super().__init__(told)
        self.reason = reason
        self.why = str(why)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A target at one moment: `selector` selects `pods`, `current` are wanted and `running` there."""

    namespace: str
    selector: str
    pods: list[Object]
    current: int
    running: int
    rules: Rules


class Measured(NamedTuple):
    proposal: Proposal
    name: str
    status: Object


class MetricSources:
    def __init__(self, metrics: MetricsClient) -> None:
        self._metrics = metrics

    async def evaluate(self, scaled: Scaled, spec: Object) -> Measured:
        """Of one entry of `spec.metrics`. Raises SourceFailed."""
        kind = spec["type"]
        if kind == "Resource":
            return await self._resource(scaled, spec["resource"], kind, "resource")
        if kind == "ContainerResource":
            return await self._resource(scaled, spec["containerResource"], kind, "containerResource")
        handlers = {"Pods": self._of_pods, "Object": self._of_object, "External": self._external}
        if kind not in handlers:
            told = f'unknown metric source type "{kind}"'
            raise SourceFailed("InvalidMetricSourceType", told, told)
        source = spec[kind.lower()]
        name, chosen = source["metric"]["name"], source["metric"].get("selector")
        try:
            selector = "" if chosen is None else str(Selector.from_label_selector(chosen))
            return await handlers[kind](scaled, source, name, selector)
        except (MetricsError, ValueError) as error:
            subject = f"{name} external metric" if kind == "External" else f"{kind.lower()} metric"
            told = f"failed to get {subject} value: {_inner(kind, name, source['target'])}{error}"
            raise SourceFailed(f"FailedGet{kind}Metric", error, told) from error

    async def _resource(self, scaled: Scaled, source: Object, kind: str, field: str) -> Measured:
        resource, target, container = source["name"], source["target"], source.get("container") or ""
        plain = target.get("averageValue") is not None
        try:
            found = await self._propose(scaled, resource, target, container)
        except MetricsError as error:
            why = f"failed to get {resource} {'usage' if plain else 'utilization'}: {error}"
            subject = f"{container} container" if container else f"{resource} resource"
            told = f"failed to get {subject} metric value: {why}"
            raise SourceFailed(f"FailedGet{kind}Metric", why, told) from error
        current: Object = {"averageValue": _amount(found.usage, binary=resource == "memory")}
        named = f"{resource} resource"
        if not plain:
            current["averageUtilization"] = found.utilization
            named = f"{resource}{' container' if container else ''} resource utilization (percentage of request)"
        status = {"name": resource, "current": current, **({"container": container} if container else {})}
        return Measured(found, named, {"type": kind, field: status})

    async def _propose(self, scaled: Scaled, resource: str, target: Object, container: str) -> Proposal:
        try:
            metrics = await self._metrics.resource(resource, scaled.namespace, scaled.selector, container)
        except MetricsError as error:
            raise MetricsError(f"unable to get metrics for resource {resource}: {error}") from error
        if target.get("averageValue") is not None:
            wanted = quantity.milli(target["averageValue"])
            return replicas.by_value(
                scaled.pods, metrics, scaled.current, wanted, resource=resource, rules=scaled.rules
            )
        return replicas.by_utilization(
            scaled.pods,
            metrics,
            scaled.current,
            target["averageUtilization"],
            resource=resource,
            container=container,
            rules=scaled.rules,
        )

    async def _of_pods(self, scaled: Scaled, source: Object, name: str, selector: str) -> Measured:
        try:
            metrics = await self._metrics.of_pods(name, scaled.namespace, scaled.selector, selector)
        except MetricsError as error:
            raise MetricsError(f"unable to get metric {name}: {error}") from error
        wanted = quantity.milli(source["target"]["averageValue"])
        found = replicas.by_value(scaled.pods, metrics, scaled.current, wanted, rules=scaled.rules)
        status = {"metric": source["metric"], "current": {"averageValue": _amount(found.usage)}}
        return Measured(found, f"pods metric {name}", {"type": "Pods", "pods": status})

    async def _of_object(self, scaled: Scaled, source: Object, name: str, selector: str) -> Measured:
        described = source["describedObject"]
        try:
            usage = await self._metrics.of_object(name, scaled.namespace, described, selector)
        except MetricsError as error:
            # upstream's words, which have come out of their order
            told = f"{described['kind']} on {scaled.namespace} {described['name']}/{error}"
            raise MetricsError(f"unable to get metric {name}: {told}") from error
        found, current = _for_all(scaled, source["target"], usage)
        status = {"metric": source["metric"], "current": current, "describedObject": described}
        # as upstream names what each pod is to have its share of
        shared = source["target"].get("averageValue") is not None
        named = _external_name(source["metric"]) if shared else f"{described['kind']} metric {name}"
        return Measured(found, named, {"type": "Object", "object": status})

    async def _external(self, scaled: Scaled, source: Object, name: str, selector: str) -> Measured:
        try:
            usage = sum(await self._metrics.external(name, scaled.namespace, selector))
        except MetricsError as error:
            shown = as_go_prints(source["metric"].get("selector"))
            told = f"unable to get external metric {scaled.namespace}/{name}/{shown}: {error}"
            raise MetricsError(told) from error
        found, current = _for_all(scaled, source["target"], usage)
        status = {"metric": source["metric"], "current": current}
        return Measured(found, _external_name(source["metric"]), {"type": "External", "external": status})


def _external_name(metric: Object) -> str:
    return f"external metric {metric['name']}({as_go_prints(metric.get('selector'))})"


def _inner(kind: str, name: str, target: Object) -> str:
    """What upstream puts before an error of a metric that is one for all pods."""
    if target.get("averageValue") is not None and kind in ("Object", "External"):
        return f"failed to get {name} {kind.lower()} metric: "
    return f"failed to get external metric {name}: " if kind == "External" else ""


def _for_all(scaled: Scaled, target: Object, usage: int) -> tuple[Proposal, Object]:
    """Of one value for all pods, or for each its share. Raises MetricsError."""
    tolerance = scaled.rules.tolerance
    if target.get("averageValue") is not None:
        found = replicas.by_share(scaled.running, usage, quantity.milli(target["averageValue"]), tolerance)
        return found, {"averageValue": _amount(found.usage)}
    wanted = quantity.milli(target["value"])
    found = replicas.by_total(scaled.pods, scaled.current, usage, wanted, tolerance)
    return found, {"value": _amount(found.usage)}


def _amount(milli: int, *, binary: bool = False) -> str:
    return quantity.format_nano(milli * 10**6, binary=binary)
